"""What is measured: kinds of calls, and how many callers make them at the same time."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from mcp_wire.revisions import LATEST_LEGACY, LATEST_MODERN, Era

PLAIN_LANE_CPU: Final = 4.5
"""CPU of a call over the floor's, at most, where every call goes through ASGI."""
FAST_LANE_CPU: Final = 2.5
"""The same where simple calls do not."""


class Variant(Struct, frozen=True, kw_only=True):
    """One kind of call."""

    name: str
    era: Era
    method: Literal["tools/call", "tools/list"] = "tools/call"
    text_bytes: int = 64
    """Size of the argument, which comes back in the result."""
    streamed: bool = False
    """The upstream answers with an event stream."""
    connections: int = 16
    """Each caller has a connection; in the legacy era there are as many sessions."""
    cpu_limit: float | None = None
    """CPU per call over the floor's, at most; None where nothing was agreed."""
    plain_cpu_limit: float | None = None
    """The same with the fast lane closed."""
    peers: bool = True
    """Whether the peers are measured as well."""

    @property
    def revision(self) -> str:
        """The revision its requests speak."""
        return LATEST_MODERN if self.era == "modern" else LATEST_LEGACY


def _call(name: str, era: Era, *, connections: int = 16, peers: bool = True) -> Variant:
    """A small call, the measure of everything else."""
    return Variant(
        name=name,
        era=era,
        connections=connections,
        cpu_limit=FAST_LANE_CPU,
        plain_cpu_limit=PLAIN_LANE_CPU,
        peers=peers,
    )


def _all() -> tuple[Variant, ...]:
    return (
        _call(name="modern-call", era="modern"),
        _call(name="legacy-call", era="legacy"),
        Variant(name="modern-call-c1", era="modern", connections=1, peers=False),
        _call(name="modern-call-c64", era="modern", connections=64, peers=False),
        Variant(name="modern-list", era="modern", method="tools/list", cpu_limit=1.5),
        Variant(name="legacy-list", era="legacy", method="tools/list", cpu_limit=1.5),
        Variant(name="modern-call-sse", era="modern", streamed=True, peers=False),
        Variant(name="legacy-call-sse", era="legacy", streamed=True, peers=False),
        Variant(name="modern-call-10k", era="modern", text_bytes=10_000, peers=False),
        Variant(
            name="modern-call-100k", era="modern", text_bytes=100_000, cpu_limit=2.0, peers=False
        ),
    )


VARIANTS: Final[Mapping[str, Variant]] = {variant.name: variant for variant in _all()}
"""By name, in the order in which they are reported."""
