"""From repetitions to ratios: medians, their spread, and what they are over the floor's."""

from collections.abc import Sequence
from operator import attrgetter
from statistics import median
from typing import Final

from msgspec import Struct

from bench.gateways import PLAIN, PORTICO
from bench.interleaving import Measured
from bench.load import is_fast_enough
from bench.measure import Run
from bench.variants import VARIANTS

GATE_SLACK: Final = 1.25
"""How far over its limit a ratio may be before a gate closes: the noise of shared machines."""


class Summary(Struct, frozen=True, kw_only=True):
    """A gateway in one variant. Ratios are to the floor of the same repetitions."""

    gateway: str
    variant: str
    repetitions: int
    cpu_us: float
    """Per answered request; medians here and below."""
    cpu_spread: float
    """Largest minus smallest, over the median."""
    rate: float
    rate_is_lower_bound: bool
    """The generator was not fast enough to tell."""
    p50_us: float
    p99_us: float
    reach: float
    resident_bytes: float
    cpu_ratio: float
    rate_ratio: float
    p50_ratio: float
    p99_ratio: float


def summarize(measured: Measured) -> list[Summary]:
    """The summaries of one variant: the floor's first, then in the order of first appearance."""
    by_name: dict[str, list[Run]] = {measured.floor: []}
    for run in measured.runs:
        by_name.setdefault(run.gateway, []).append(run)
    base = by_name[measured.floor]
    return [_summary(name, runs, base, measured) for name, runs in by_name.items()]


def is_over_the_gate(summary: Summary) -> bool:
    """Whether Portico's CPU ratio is above its limit by more than noise explains."""
    limit = cpu_limit_of(summary)
    return limit is not None and summary.cpu_ratio > limit * GATE_SLACK


def cpu_limit_of(summary: Summary) -> float | None:
    """What was agreed for this gateway in this variant."""
    variant = VARIANTS[summary.variant]
    limits = {PORTICO: variant.cpu_limit, PLAIN: variant.plain_cpu_limit}
    return limits.get(summary.gateway)


def _summary(name: str, runs: Sequence[Run], base: Sequence[Run], measured: Measured) -> Summary:
    def middle(path: str) -> float:
        return float(median(map(attrgetter(path), runs)))

    def ratio(path: str) -> float:
        """Repetition by repetition: what disturbs the machine for a while disturbs both."""
        value = attrgetter(path)
        pairs = zip(runs, base, strict=True)
        return float(median(value(run) / max(value(floor), 1e-9) for run, floor in pairs))

    cpu = [run.cpu_us for run in runs]
    return Summary(
        gateway=name,
        variant=measured.variant.name,
        repetitions=len(runs),
        cpu_us=median(cpu),
        cpu_spread=(max(cpu) - min(cpu)) / median(cpu),
        rate=middle("load.rate"),
        rate_is_lower_bound=not all(is_fast_enough(measured.direct, run.load) for run in runs),
        p50_us=middle("load.p50_us"),
        p99_us=middle("load.p99_us"),
        reach=middle("reach"),
        resident_bytes=middle("resident_bytes"),
        cpu_ratio=ratio("cpu_us"),
        rate_ratio=ratio("load.rate"),
        p50_ratio=ratio("load.p50_us"),
        p99_ratio=ratio("load.p99_us"),
    )
