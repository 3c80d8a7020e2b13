"""Every metric Portico shows, with its unit and the values its labels can take.

Calls are counted in plain tables on the event loop's thread, under 2 µs each, and turned into Prometheus
families when somebody asks: the client library's own counters would cost twice that.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter_ns
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

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

OTHER: Final = "other"
"""Label of everything that no list holds, so that callers cannot make series."""

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

Gauge = Literal["portico_snapshot"]
GAUGES: Final[Mapping[Gauge, str]] = {
    "portico_snapshot": "Revision of the snapshot in force; grows with each change.",
}
"""Values that others know and :meth:`Metrics.watch` reads when asked."""


class _Durations:
    """A histogram: how many fell at or below each bound, and their sum in microseconds."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_us = 0

    def add(self, duration_us: int) -> None:
        self.counts[bisect_left(_BOUNDS_US, duration_us)] += 1
        self.sum_us += duration_us

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


_BOUNDS_US: Final = tuple(int(bound * 1_000_000) for bound in BUCKETS_S)


class Metrics(Collector):
    """Observes calls (``hub.pipeline.Observer``) and shows what it counted."""

    def __init__(self, *, version: str, operations: Iterable[str] = ()) -> None:
        """``operations`` are the words of surfaces other than MCP."""
        self._version = version
        self._operations = {word: word for word in (*MCP_OPERATIONS, *operations)}
        self._requests: dict[tuple[str, str, str], int] = {}
        self._durations: dict[tuple[str, str], _Durations] = {}
        self._active = 0
        self._forwarded: dict[str, int] = {}
        self._upstream_requests: dict[tuple[str, str], int] = {}
        self._upstream_durations: dict[str, _Durations] = {}
        self._gauges: dict[Gauge, Callable[[], float]] = {}
        self._upstream_states: Callable[[], Iterable[tuple[str, str]]] = tuple
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def started(self, call: Call) -> Call:
        """A call enters."""
        self._active += 1
        return call

    def forwarded(self, call: Call, upstream: str) -> Call:  # noqa: ARG002 -- traces use it
        """It goes to an upstream."""
        self._forwarded[call.id] = perf_counter_ns()
        return call

    def ended(self, call: Call, entry: Entry) -> None:
        """Its entry was handed to the recorder."""
        self._active -= 1
        operation = self._operations.get(entry.operation, OTHER)
        key = (entry.surface, operation, entry.outcome)
        self._requests[key] = self._requests.get(key, 0) + 1
        durations = self._durations.get(key[:2])
        if durations is None:
            durations = self._durations[key[:2]] = _Durations()
        durations.add(entry.duration_us)
        sent_ns = self._forwarded.pop(call.id, None)
        if sent_ns is not None:
            self._upstream_ended(entry, (perf_counter_ns() - sent_ns) // 1000)

    def _upstream_ended(self, entry: Entry, duration_us: int) -> None:
        upstream = entry.upstream
        durations = self._upstream_durations.get(upstream)
        if durations is None:
            if len(self._upstream_durations) >= MAX_UPSTREAM_LABELS:
                upstream = OTHER
            durations = self._upstream_durations.setdefault(upstream, _Durations())
        durations.add(duration_us)
        key = (upstream, entry.outcome)
        self._upstream_requests[key] = self._upstream_requests.get(key, 0) + 1

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Show what ``read`` returns whenever somebody asks; it is fast and never raises."""
        self._gauges[gauge] = read

    def watch_upstreams(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Show the state of each upstream; ``read`` gives names and states."""
        self._upstream_states = read

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
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(name, GAUGES[name], value=read())

    def _calls(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "proxy_requests",
            "Calls that ended, by how they ended and whether a cache answered.",
            labels=("surface", "operation", "outcome", "cache"),
        )
        for (surface, operation, outcome), count in self._requests.items():
            requests.add_metric((surface, operation, outcome, "none"), count)
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
        for key, series in self._durations.items():
            durations.add_metric(key, series.buckets(), series.sum_us / 1_000_000)
        yield durations

    def _upstreams(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "portico_upstream_requests",
            "Calls that went to an upstream, by how they ended.",
            labels=("upstream", "outcome"),
        )
        for pair, count in self._upstream_requests.items():
            requests.add_metric(pair, count)
        yield requests
        durations = HistogramMetricFamily(
            "portico_upstream_request_duration_seconds",
            "From handing a call to the connector to the end of its outcome, in seconds.",
            labels=("upstream",),
        )
        for upstream, series in self._upstream_durations.items():
            durations.add_metric((upstream,), series.buckets(), series.sum_us / 1_000_000)
        yield durations
        states = GaugeMetricFamily(
            "portico_upstream_state",
            "1 for the state an upstream is in: pending, live, stale, down or disabled.",
            labels=("upstream", "state"),
        )
        for pair in self._upstream_states():
            states.add_metric(pair, 1)
        yield states
