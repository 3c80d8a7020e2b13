"""What was agreed for Portico, and what a measurement says of it: for tables and for the gate."""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from bench.gateways import PLAIN, PORTICO, Start
from bench.summary import Summary

GATE_SLACK: Final = 1.25
"""How far beyond its limit a figure may be before a gate closes: the noise of shared machines."""

Figure = Literal["cpu_ratio", "rate_ratio", "p50_ratio", "first_added_ms", "ready_s", "idle_mb"]
START: Final = "start"
"""In the place of a variant, for what is measured of no call."""


class Limit(Struct, frozen=True, kw_only=True):
    """One figure of one gateway, in the variants it was agreed for."""

    what: str
    """The figure, for people."""
    figure: Figure
    short: str
    """The column of the figure in the table of all rows; empty for what stands in no row."""
    bound: float
    unit: str = ""
    """Of the bound; empty for ratios to the floor."""
    at_least: bool = False
    """The bound is the least there must be; else the most there may be."""
    gateway: str = PORTICO
    variants: tuple[str, ...] = (START,)

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}{self.unit and f' {self.unit}'}"


_CALLS: Final = ("modern-call", "legacy-call")
_ANONYMOUS: Final = ("modern-call-anonymous", "legacy-call-anonymous")
_UNSAMPLED: Final = "modern-call-traced-0"
_CROWDED: Final = "modern-call-c64"

LIMITS: Final = (
    Limit(
        what="CPU per call, fast lane",
        figure="cpu_ratio",
        short="CPU",
        bound=2.5,
        variants=(*_CALLS, *_ANONYMOUS, _CROWDED, _UNSAMPLED),
    ),
    Limit(
        what="CPU per call, plain lane",
        figure="cpu_ratio",
        short="CPU",
        bound=4.5,
        gateway=PLAIN,
        variants=(*_CALLS, _CROWDED, _UNSAMPLED),
    ),
    Limit(
        what="calls/s on one core",
        figure="rate_ratio",
        short="calls/s",
        bound=0.40,
        at_least=True,
        variants=(*_CALLS, *_ANONYMOUS, _CROWDED, _UNSAMPLED),
    ),
    Limit(
        what="p50 at 1 connection",
        figure="p50_ratio",
        short="p50",
        bound=1.6,
        variants=("modern-call-c1",),
    ),
    Limit(
        what="CPU per call, 100 kB",
        figure="cpu_ratio",
        short="CPU",
        bound=2.0,
        variants=("modern-call-100k",),
    ),
    Limit(
        what="CPU per list from memory",
        figure="cpu_ratio",
        short="CPU",
        bound=1.5,
        variants=("modern-list", "legacy-list"),
    ),
    Limit(
        what="CPU per chunk of a stream",
        figure="cpu_ratio",
        short="CPU",
        bound=1.6,
        variants=("modern-stream", "legacy-stream"),
    ),
    Limit(
        what="added time to the first event",
        figure="first_added_ms",
        short="first event",
        bound=0.4,
        unit="ms",
        variants=("modern-stream-c1", "legacy-stream-c1"),
    ),
    Limit(what="ready after its start", figure="ready_s", short="", bound=2.0, unit="s"),
    Limit(what="idle memory", figure="idle_mb", short="", bound=110.0, unit="MB"),
)


class Verdict(Struct, frozen=True, kw_only=True):
    """A limit, and what was measured in one variant."""

    limit: Limit
    variant: str
    measured: float
    is_upper_bound: bool = False
    """It is at most so much, as the floor's rate was held down by the generator."""

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps within its limit."""
        return self._is_within(self.limit.bound)

    @property
    def is_past_the_gate(self) -> bool:
        """Whether the figure is beyond its limit by more than noise explains."""
        bound = self.limit.bound
        return not self._is_within(
            bound / GATE_SLACK if self.limit.at_least else bound * GATE_SLACK
        )

    def __str__(self) -> str:
        if self.is_met:
            return "met"
        return "under" if self.limit.at_least else "over"

    def _is_within(self, bound: float) -> bool:
        return self.measured >= bound if self.limit.at_least else self.measured <= bound


def verdicts(summaries: Sequence[Summary], start: Start | None) -> list[Verdict]:
    """What became of each limit for which there is a figure, in the order of the limits."""
    found: list[Verdict] = []
    for limit in LIMITS:
        if START in limit.variants and start is not None:
            seen = start.ready_s if limit.figure == "ready_s" else start.idle_mb
            found.append(Verdict(limit=limit, variant=START, measured=seen))
        rows = (one for one in summaries if one.gateway == limit.gateway)
        found += [
            Verdict(
                limit=limit,
                variant=one.variant,
                measured=measured,
                is_upper_bound=limit.figure == "rate_ratio" and one.rate_ratio_is_upper_bound,
            )
            for one in rows
            if one.variant in limit.variants
            and (measured := _figure(one, limit.figure)) is not None
        ]
    return found


def _figure(one: Summary, figure: Figure) -> float | None:
    value: float | None = getattr(one, figure)
    return value
