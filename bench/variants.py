"""What is measured: kinds of calls, and how many callers make them at the same time."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from mcp_wire.revisions import LATEST_LEGACY, LATEST_MODERN, Era


class Variant(Struct, frozen=True, kw_only=True):
    """One kind of call."""

    name: str
    era: Era
    method: Literal["tools/call", "tools/list"] = "tools/call"
    text_bytes: int = 64
    """Size of the argument, which comes back in the result and in each chunk."""
    streamed: bool = False
    """The upstream answers with an event stream that holds the result and nothing else."""
    chunks: int = 0
    """Progress notifications the upstream sends before the result, one at a time."""
    pause_ms: int = 2
    """Between two of them."""
    first_event: bool = False
    """Measured for the time until its first event; CPU is not, there is too little of it."""
    connections: int = 16
    """Each caller has a connection; in the legacy era there are as many sessions."""
    key: bool = True
    """Callers send an API key; else they are anonymous."""
    tracing: float | None = None
    """Share of calls that Portico traces; None: it makes no traces."""
    plain: bool = False
    """Whether it is measured with the fast lane closed as well."""
    ruled: bool = False
    """Whether it is measured with rules on each call as well, counted in process and in Redis."""
    peers: bool = False
    """Whether the peers are measured as well."""

    @property
    def revision(self) -> str:
        """The revision its requests speak."""
        return LATEST_MODERN if self.era == "modern" else LATEST_LEGACY


def _all() -> tuple[Variant, ...]:
    return (
        Variant(name="modern-call", era="modern", plain=True, ruled=True, peers=True),
        Variant(name="legacy-call", era="legacy", plain=True, ruled=True, peers=True),
        Variant(name="modern-call-anonymous", era="modern", key=False),
        Variant(name="legacy-call-anonymous", era="legacy", key=False),
        Variant(name="modern-call-c1", era="modern", connections=1, ruled=True),
        Variant(name="modern-call-c64", era="modern", connections=64, plain=True),
        Variant(name="modern-call-traced-0", era="modern", tracing=0.0, plain=True),
        Variant(name="modern-call-traced-100", era="modern", tracing=1.0),
        Variant(name="modern-list", era="modern", method="tools/list", peers=True),
        Variant(name="legacy-list", era="legacy", method="tools/list", peers=True),
        Variant(name="modern-call-sse", era="modern", streamed=True),
        Variant(name="legacy-call-sse", era="legacy", streamed=True),
        Variant(name="modern-stream", era="modern", chunks=200),
        Variant(name="legacy-stream", era="legacy", chunks=200),
        Variant(name="modern-stream-c1", era="modern", chunks=5, connections=1, first_event=True),
        Variant(name="legacy-stream-c1", era="legacy", chunks=5, connections=1, first_event=True),
        Variant(name="modern-call-10k", era="modern", text_bytes=10_000, ruled=True),
        Variant(name="modern-call-100k", era="modern", text_bytes=100_000),
    )


VARIANTS: Final[Mapping[str, Variant]] = {variant.name: variant for variant in _all()}
"""By name, in the order in which they are reported."""
