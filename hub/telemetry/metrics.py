"""Every metric Portico shows, with its unit and the values its labels can take.

Calls are counted in plain tables on the event loop's thread, under 2 µs each, and turned into Prometheus
families when somebody asks: the client library's own counters would cost twice that.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hub.domain.call import Call
from hub.domain.record import Entry
from hub.domain.rules import RuleKind
from hub.telemetry.rule_counts import OTHER, RuleCounts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

MCP_OPERATIONS: Final = frozenset((
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
))
BUCKETS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Upper bounds of the duration histograms, seconds."""

MAX_UPSTREAM_LABELS: Final = 500

Gauge = Literal[
    "portico_ledger_lag_seconds",
    "portico_parked_calls",
    "portico_record_obstructed",
    "portico_record_uncovered_seconds",
    "portico_snapshot",
]
GAUGES: Final[Mapping[Gauge, str]] = {
    "portico_ledger_lag_seconds": "How far usage and budgets are behind the record, in seconds.",
    "portico_parked_calls": "Calls that wait for their callers to come back with input.",
    "portico_record_obstructed": "1 while the record takes no entries and calls are refused.",
    "portico_record_uncovered_seconds": "How long entries have waited for a checkpoint, in seconds.",
    "portico_snapshot": "Revision of the snapshot in force; grows with each change.",
}
"""Values that others know and :meth:`Metrics.watch` reads when asked."""

CountingState = Literal["shared", "local", "refused"]
"""Limits are counted together by all processes, by each for itself, or not at all: calls are refused."""
COUNTING_STATES: Final[tuple[CountingState, ...]] = ("shared", "local", "refused")


class _Durations:
    """A histogram: how many fell at or below each bound, and their sum in microseconds."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_us = 0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def join(self, other: "_Durations") -> None:
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.sum_us += other.sum_us

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class _Series:
    """Calls that are alike and ended alike: how long they took, and their upstream requests."""

    __slots__ = ("operation", "outcome", "own", "surface", "upstream", "upstreams")

    def __init__(self, surface: str, operation: str, outcome: str, upstream: str) -> None:
        self.surface, self.operation = surface, operation
        self.outcome, self.upstream = outcome, upstream
        self.own = _Durations()
        self.upstreams = _Durations()


_BOUNDS_US: Final = tuple(int(bound * 1_000_000) for bound in BUCKETS_S)


class Metrics(Collector):
    """Observes calls (``hub.pipeline.Observer``) and shows what it counted."""

    def __init__(self, *, version: str, operations: Iterable[str] = ()) -> None:
        """``operations`` are the words of surfaces other than MCP."""
        self._version = version
        self._operations = {word: word for word in (*MCP_OPERATIONS, *operations)}
        self._series: dict[tuple[str, str, str, str], _Series] = {}
        """By surface, operation, outcome and upstream, as labels have them."""
        self._upstream_labels: set[str] = set()
        self._active = 0
        self._gauges: dict[Gauge, Callable[[], float]] = {}
        self._upstream_states: Callable[[], Iterable[tuple[str, str]]] = tuple
        self._counting: Callable[[], CountingState] | None = None
        self._rules = RuleCounts()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def started(self, call: Call) -> Call:
        """A call enters."""
        self._active += 1
        return call

    def forwarded(self, call: Call, upstream: str) -> Call:  # noqa: ARG002 -- traces use it
        """It goes to an upstream."""
        return call

    def ended(self, call: Call, entry: Entry, upstream_us: int | None) -> None:  # noqa: ARG002 -- traces use it
        """Its entry was handed to the recorder."""
        self._active -= 1
        series = self._series.get((entry.surface, entry.operation, entry.outcome, entry.upstream))
        if series is None:
            series = self._labelled(entry)
        duration_us, own = entry.duration_us, series.own
        own.counts[bisect_left(_BOUNDS_US, duration_us)] += 1
        own.sum_us += duration_us
        if upstream_us is not None:
            upstreams = series.upstreams
            upstreams.counts[bisect_left(_BOUNDS_US, upstream_us)] += 1
            upstreams.sum_us += upstream_us
        if entry.rules or entry.cost:
            self._rules.count(entry)

    def _labelled(self, entry: Entry) -> _Series:
        """The series of an entry under labels that callers and configuration cannot multiply."""
        operation, upstream = self._operations.get(entry.operation, OTHER), entry.upstream
        if upstream and upstream not in self._upstream_labels:
            if len(self._upstream_labels) >= MAX_UPSTREAM_LABELS:
                upstream = OTHER
            self._upstream_labels.add(upstream)
        key = (entry.surface, operation, entry.outcome, upstream)
        if key not in self._series:
            self._series[key] = _Series(*key)
        return self._series[key]

    def noted(self, entry: Entry) -> None:
        """An entry that is no call's, an alert for one: what rules did counts, and nothing else."""
        self._rules.count(entry)

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Show what ``read`` returns whenever somebody asks; it is fast and never raises."""
        self._gauges[gauge] = read

    def watch_upstreams(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Show the state of each upstream; ``read`` gives names and states."""
        self._upstream_states = read

    def watch_rules(self, read: Callable[[], Mapping[str, RuleKind]]) -> None:
        """Name these rules, and no others, in labels; ``read`` is asked for names never met before."""
        self._rules.configured = read

    def watch_counting(self, read: Callable[[], CountingState]) -> None:
        """Show how limits are counted just now."""
        self._counting = read

    def families(self) -> list[Metric]:
        """Everything that :meth:`exposition` shows, for other ways out. On the event loop's thread."""
        return list(self._registry.collect())

    def exposition(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE

    def collect(self) -> Iterator[Metric]:
        """The families, as ``prometheus_client`` asks for them."""
        info = InfoMetricFamily("portico_build", "Which Portico this is.")
        info.add_metric((), {"version": self._version})
        yield info
        yield from self._calls()
        yield from self._upstreams()
        yield from self._rules.collect()
        if self._counting is not None:
            yield _counting(self._counting())
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(name, GAUGES[name], value=read())

    def _calls(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "proxy_requests",
            "Calls that ended, by how they ended and whether a cache answered.",
            labels=("surface", "operation", "outcome", "cache"),
        )
        counts: Counter[tuple[str, str, str]] = Counter()
        by_operation: dict[tuple[str, str], _Durations] = {}
        for series in self._series.values():
            counts[series.surface, series.operation, series.outcome] += series.own.count
            key = series.surface, series.operation
            by_operation.setdefault(key, _Durations()).join(series.own)
        for labels, count in counts.items():
            requests.add_metric((*labels, "none"), count)
        yield requests
        yield GaugeMetricFamily(
            "proxy_active_streams",
            "Calls whose answer is under way, open subscription streams among them.",
            value=self._active,
        )
        durations = HistogramMetricFamily(
            "portico_request_duration_seconds",
            "From a call's arrival to its entry, in seconds.",
            labels=("surface", "operation"),
        )
        for key, joined in by_operation.items():
            durations.add_metric(key, joined.buckets(), joined.sum_us / 1_000_000)
        yield durations

    def _upstreams(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "portico_upstream_requests",
            "Calls that went to an upstream, by how they ended.",
            labels=("upstream", "outcome"),
        )
        counts: Counter[tuple[str, str]] = Counter()
        by_upstream: dict[str, _Durations] = {}
        for series in self._series.values():
            if series.upstreams.count:
                counts[series.upstream, series.outcome] += series.upstreams.count
                by_upstream.setdefault(series.upstream, _Durations()).join(series.upstreams)
        for pair, count in counts.items():
            requests.add_metric(pair, count)
        yield requests
        durations = HistogramMetricFamily(
            "portico_upstream_request_duration_seconds",
            "From handing a call to the connector to the end of its outcome, in seconds.",
            labels=("upstream",),
        )
        for upstream, joined in by_upstream.items():
            durations.add_metric((upstream,), joined.buckets(), joined.sum_us / 1_000_000)
        yield durations
        states = GaugeMetricFamily(
            "portico_upstream_state",
            "Upstreams of a name, over all tenants, that are pending, live, stale, down or disabled.",
            labels=("upstream", "state"),
        )
        for pair, count in Counter(self._upstream_states()).items():
            states.add_metric(pair, count)
        yield states


def _counting(current: CountingState) -> Metric:
    states = GaugeMetricFamily(
        "portico_counting_state",
        "1 for the way in which limits are counted: shared, local or refused.",
        labels=("state",),
    )
    for state in COUNTING_STATES:
        states.add_metric((state,), float(state == current))
    return states
