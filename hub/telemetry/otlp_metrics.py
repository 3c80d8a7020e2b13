"""Metrics pushed over OTLP: the families of ``hub.telemetry.metrics``, exported every so often.

Loaded by ``hub.telemetry.open_metric_export`` alone. Nothing is counted twice: the same tables are read
as for ``/metrics``, on the event loop's thread, and what was read is sent by another one.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

import anyio
from anyio import to_thread
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    DataT,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family

from hub.telemetry.metrics import Metrics

_UNITS: Final = {"seconds": "s", "bytes": "By"}
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_EXPORT_S: Final = 5.0
_LAST_S: Final = 2.0
"""How long an export may take, tries that fail included, and how long the last one holds up a stop."""


class MetricExport:
    """Sends the metrics of one process until it is cancelled, and once more then."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        otlp_endpoint: str,
        interval_s: float,
        version: str,
        now: Callable[[], datetime],
    ) -> None:
        """See :func:`hub.telemetry.open_metric_export`."""
        self._metrics = metrics
        self._interval_s = interval_s
        self._now = now
        self._began_ns = _nanoseconds(now())
        self._resource = Resource.create({
            "service.name": "portico",
            "service.version": version,
            "service.instance.id": str(uuid.uuid4()),  # each process counts from zero
        })
        self._scope = InstrumentationScope("portico", version)
        self._exporter = OTLPMetricExporter(
            endpoint=otlp_endpoint.rstrip("/") + "/v1/metrics", timeout=_EXPORT_S
        )

    async def run(self) -> None:
        """Export every interval; a collector that is away is logged by the exporter, and no obstacle.

        Counts are cumulative, so that nothing is lost by an export that failed. Cancelling exports a
        last time, for at most a few seconds.
        """
        try:
            while True:
                await anyio.sleep(self._interval_s)
                await to_thread.run_sync(
                    self._exporter.export, self._read(), abandon_on_cancel=True
                )
        finally:
            with anyio.move_on_after(_LAST_S, shield=True):
                await to_thread.run_sync(
                    self._exporter.export, self._read(), abandon_on_cancel=True
                )
            self._exporter.shutdown()

    def _read(self) -> MetricsData:
        at_ns = _nanoseconds(self._now())
        metrics = [
            metric
            for family in self._metrics.families()
            if (metric := _metric(family, self._began_ns, at_ns)).data.data_points
        ]
        scope = ScopeMetrics(scope=self._scope, metrics=metrics, schema_url="")
        resource = ResourceMetrics(
            resource=self._resource, scope_metrics=[scope], schema_url=self._resource.schema_url
        )
        return MetricsData(resource_metrics=[resource])


def _metric(family: Family, began_ns: int, at_ns: int) -> Metric:
    """A family under its own name: collectors put ``_total`` to counters as Prometheus has them."""
    data: DataT
    if family.type == "histogram":
        data = Histogram(_histograms(family, began_ns, at_ns), _CUMULATIVE)
    elif family.type == "counter":
        counts = (sample for sample in family.samples if sample.name.endswith("_total"))
        points = [_number(s.labels, s.value, began_ns, at_ns) for s in counts]
        data = Sum(points, _CUMULATIVE, is_monotonic=True)
    else:
        data = Gauge([_number(s.labels, s.value, 0, at_ns) for s in family.samples])
    unit = _UNITS.get(family.name.rpartition("_")[2], "")
    name = family.name + "_info" if family.type == "info" else family.name
    return Metric(name=name, description=family.documentation, unit=unit, data=data)


def _number(labels: Mapping[str, str], value: float, began_ns: int, at_ns: int) -> NumberDataPoint:
    return NumberDataPoint(
        attributes=dict(labels),
        start_time_unix_nano=began_ns,
        time_unix_nano=at_ns,
        value=float(value),
    )


def _histograms(family: Family, began_ns: int, at_ns: int) -> list[HistogramDataPoint]:
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[str, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        key = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(key, []).append((sample.labels["le"], sample.value))
        elif sample.name.endswith("_sum"):
            sums[key] = sample.value
    return [
        HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=began_ns,
            time_unix_nano=at_ns,
            count=int(rows[-1][1]),
            sum=sums[key],
            bucket_counts=_apart(count for _, count in rows),
            explicit_bounds=[float(bound) for bound, _ in rows[:-1]],
            min=None,  # type: ignore[arg-type]  # optional in the protocol, and the tables do not know
            max=None,  # type: ignore[arg-type]  # as above
        )
        for key, rows in buckets.items()
    ]


def _apart(cumulative: Iterable[float]) -> list[int]:
    """Counts of each bucket alone, from counts at or below its bound."""
    counts, before = [], 0
    for count in map(int, cumulative):
        counts.append(count - before)
        before = count
    return counts


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
