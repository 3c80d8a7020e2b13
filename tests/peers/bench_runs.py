"""Runs of the benchmark that nobody made, with the figures a test wants."""

from bench.interleaving import Measured
from bench.load import Errors, Load
from bench.measure import Run
from bench.summary import Summary, summarize
from bench.variants import VARIANTS


def load_of(rate: float = 1, first_us: float = 0) -> Load:
    """One second with ``rate`` thousand answers."""
    requests = round(1000 * rate)
    return Load(requests, 1_000_000, 0, 1, 1, 1, 1, Errors(), first_p50_us=first_us)


def run_of(
    gateway: str,
    variant: str,
    *,
    cpu: float = 1,
    rate: float = 1,
    first_us: float = 0,
    spans: float = 0,
) -> Run:
    """One repetition; ``cpu`` is in microseconds of each answer."""
    return Run(
        gateway=gateway,
        variant=variant,
        load=load_of(rate, first_us),
        cpu_us=cpu,
        reach=1,
        upstream_connections=0,
        resident_bytes=1,
        spans=spans,
    )


def summaries_of(
    name: str,
    *,
    cpu: float,
    rate: float,
    alone: float = 1,
    first_us: float = 0,
    spans: float = 0,
) -> list[Summary]:
    """One repetition, in which Portico's figures, and the rate alone, are so many times the floor's."""
    runs = [
        run_of("nginx", name, first_us=300),
        run_of("portico", name, cpu=cpu, rate=rate, first_us=first_us, spans=spans),
    ]
    if VARIANTS[name].first_event:
        runs.append(run_of("direct", name, first_us=100))
    return summarize(Measured(VARIANTS[name], "nginx", load_of(alone), tuple(runs)))
