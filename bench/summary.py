"""From repetitions to ratios: medians, their spread, and what they are over the floor's."""

from collections.abc import Sequence
from operator import attrgetter
from statistics import median

from msgspec import Struct

from bench.gateways import DIRECT
from bench.interleaving import Measured
from bench.load import is_fast_enough
from bench.measure import Run


class Summary(Struct, frozen=True, kw_only=True):
    """A gateway in one variant. Ratios are to the floor of the same repetitions."""

    gateway: str
    variant: str
    repetitions: int
    cpu_us: float
    """Per answered request, or per chunk; medians here and below."""
    cpu_spread: float
    """Largest minus smallest, over the median."""
    rate: float
    rate_is_lower_bound: bool
    """The generator was not fast enough to tell; the pace of streams is the upstream's."""
    p50_us: float
    p99_us: float
    reach: float
    resident_bytes: float
    cpu_ratio: float
    rate_ratio: float
    rate_ratio_is_upper_bound: bool
    """The generator was not fast enough to tell the floor's rate."""
    p50_ratio: float
    p99_ratio: float
    first_us: float
    """To the first event of a stream; 0 where there are no streams."""
    first_added_ms: float | None
    """To the first event, beyond what it takes at the upstream itself; None where that is not timed."""
    spans: float
    """Spans that reached the collector, per answered request."""


def summarize(measured: Measured) -> list[Summary]:
    """The summaries of one variant: the floor's first, then in the order of first appearance."""
    by_name: dict[str, list[Run]] = {measured.floor: []}
    for run in measured.runs:
        by_name.setdefault(run.gateway, []).append(run)
    direct = by_name.pop(DIRECT, [])
    base = by_name[measured.floor]
    return [
        _summary(name, runs, base, measured, _first_added_ms(runs, direct))
        for name, runs in by_name.items()
    ]


def _first_added_ms(runs: Sequence[Run], direct: Sequence[Run]) -> float | None:
    """Repetition by repetition, as ratios are."""
    if not direct:
        return None
    pairs = zip(runs, direct, strict=True)
    return median((run.load.first_p50_us - alone.load.first_p50_us) / 1000 for run, alone in pairs)


def _summary(
    name: str,
    runs: Sequence[Run],
    base: Sequence[Run],
    measured: Measured,
    first_added_ms: float | None,
) -> Summary:
    def middle(path: str) -> float:
        return float(median(map(attrgetter(path), runs)))

    def ratio(path: str) -> float:
        """Repetition by repetition: what disturbs the machine for a while disturbs both."""
        value = attrgetter(path)
        pairs = zip(runs, base, strict=True)
        return float(median(value(run) / max(value(floor), 1e-9) for run, floor in pairs))

    def is_lower_bound(rated: Sequence[Run]) -> bool:
        """Whether the generator held the rate down; that of streams is the upstream's."""
        alone = measured.direct
        unpaced = not measured.variant.chunks
        return unpaced and not all(is_fast_enough(alone, run.load) for run in rated)

    cpu = [run.cpu_us for run in runs]
    return Summary(
        gateway=name,
        variant=measured.variant.name,
        repetitions=len(runs),
        cpu_us=median(cpu),
        cpu_spread=(max(cpu) - min(cpu)) / max(median(cpu), 1e-9),
        rate=middle("load.rate"),
        rate_is_lower_bound=is_lower_bound(runs),
        p50_us=middle("load.p50_us"),
        p99_us=middle("load.p99_us"),
        reach=middle("reach"),
        resident_bytes=middle("resident_bytes"),
        cpu_ratio=ratio("cpu_us"),
        rate_ratio=ratio("load.rate"),
        rate_ratio_is_upper_bound=is_lower_bound(base),
        p50_ratio=ratio("load.p50_us"),
        p99_ratio=ratio("load.p99_us"),
        first_us=middle("load.first_p50_us"),
        first_added_ms=first_added_ms,
        spans=middle("spans"),
    )
