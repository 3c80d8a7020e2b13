"""Metrics that are pushed: what a collector decodes is what ``/metrics`` shows."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest
from anyio import to_thread
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from prometheus_client.parser import text_string_to_metric_families

from hub.domain.call import Call, CallerTraits, Target
from hub.domain.principal import Evidence
from hub.domain.record import Entry
from hub.telemetry import open_metric_export
from hub.telemetry.metrics import BUCKETS_S, Metrics
from tests.peers.collector import Collector, running_collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as server:
        yield server


@asynccontextmanager
async def exporting(
    metrics: Metrics, url: str, *, interval_s: float = 3600.0
) -> AsyncIterator[None]:
    """Exports every interval, and when the block is left."""
    export = open_metric_export(
        metrics,
        otlp_endpoint=url,
        interval_s=interval_s,
        version="1",
        now=lambda: datetime.now(UTC),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(export.run)
        yield
        tasks.cancel_scope.cancel()


def count(metrics: Metrics, duration_us: int, *rules: str, cost: int = 0) -> None:
    call = Call(
        id="c1",
        surface="mcp",
        operation="tools/call",
        action="call",
        target=Target("tool", "find_order"),
        evidence=Evidence(),
        traits=CallerTraits(revision="2026-07-28"),
    )
    entry = Entry(
        call=call.id,
        at=datetime.now(UTC),
        tenant="default",
        surface="mcp",
        operation="tools/call",
        upstream="orders",
        outcome="ok",
        duration_us=duration_us,
        rules=rules,
        cost=cost,
        currency="USD" if cost else "",
    )
    metrics.started(call)
    metrics.ended(call, entry, duration_us)


def counted() -> Metrics:
    metrics = Metrics(version="1")
    metrics.watch_rules(lambda: {"no-secrets": "guardrail"})
    metrics.watch("portico_snapshot", lambda: 7.0)
    for duration_us in (400, 600, 2_000_000, 900_000_000):
        count(metrics, duration_us, "no-secrets=redact", cost=2_000)
    return metrics


def labels(metric: Metric) -> list[dict[str, str]]:
    points = metric.sum.data_points or metric.gauge.data_points or metric.histogram.data_points
    return [{pair.key: pair.value.string_value for pair in point.attributes} for point in points]


async def test_a_collector_gets_counts_gauges_and_histograms(collector: Collector) -> None:
    began_ns = datetime.now(UTC).timestamp() * 1e9
    async with exporting(counted(), collector.url):
        await anyio.lowlevel.checkpoint()
    assert len(collector.exports) == 1
    found = collector.metrics()

    requests = found["proxy_requests"]
    assert requests.sum.is_monotonic
    assert requests.sum.aggregation_temporality == (
        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    (point,) = requests.sum.data_points
    assert point.as_double == 4
    assert began_ns - 2e9 < point.start_time_unix_nano <= point.time_unix_nano
    assert labels(requests) == [
        {"surface": "mcp", "operation": "tools/call", "outcome": "ok", "cache": "none"}
    ]

    blocks = found["proxy_guardrail_blocks"]
    by_action = {
        each["action"]: point.as_double
        for each, point in zip(labels(blocks), blocks.sum.data_points, strict=True)
    }
    assert by_action == {"redact": 4, "block": 0, "monitor": 0}
    assert found["portico_cost"].sum.data_points[0].as_double == 0.008
    assert found["portico_snapshot"].gauge.data_points[0].as_double == 7

    durations = found["portico_request_duration_seconds"]
    assert durations.unit == "s"
    assert durations.description.endswith(".")
    (taken,) = durations.histogram.data_points
    assert (taken.count, taken.sum) == (4, pytest.approx(902.001))
    assert list(taken.explicit_bounds) == list(BUCKETS_S)
    assert len(taken.bucket_counts) == len(BUCKETS_S) + 1
    placed = {at: count for at, count in enumerate(taken.bucket_counts) if count}
    assert placed == {0: 1, 1: 1, BUCKETS_S.index(2.5): 1, len(BUCKETS_S): 1}
    assert not taken.HasField("min")


async def test_what_is_pushed_is_what_is_shown(collector: Collector) -> None:
    metrics = counted()
    async with exporting(metrics, collector.url):
        shown = {
            family.name: family.documentation
            for family in text_string_to_metric_families(metrics.exposition()[0].decode())
            if family.samples
        }
    found = {name: metric.description for name, metric in collector.metrics().items()}
    assert shown.items() <= found.items()


async def test_each_process_is_an_instance_of_its_own(collector: Collector) -> None:
    for _ in range(2):
        async with exporting(counted(), collector.url):
            await anyio.lowlevel.checkpoint()
    resources = [
        {pair.key: pair.value.string_value for pair in export.resource.attributes}
        for export in collector.exports
    ]
    assert [each["service.name"] for each in resources] == ["portico", "portico"]
    assert len({each["service.instance.id"] for each in resources}) == 2


async def test_metrics_go_out_again_and_again_and_are_cumulative(collector: Collector) -> None:
    metrics = Metrics(version="1")
    async with exporting(metrics, collector.url, interval_s=0.01):
        count(metrics, 100)
        for _ in range(2):
            collector.exported.clear()
            assert await to_thread.run_sync(collector.exported.wait, 5)
        count(metrics, 100)
    counts = [
        export["proxy_requests"].sum.data_points[0].as_double
        for export in map(collector.metrics, range(len(collector.exports)))
        if "proxy_requests" in export
    ]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 2)


async def test_a_collector_that_is_away_hinders_nobody() -> None:
    metrics = counted()
    with anyio.fail_after(15):
        async with exporting(metrics, "http://127.0.0.1:1", interval_s=0.01):
            await anyio.sleep(0.05)
            count(metrics, 100)


def test_nothing_of_it_is_loaded_where_nothing_is_pushed() -> None:
    program = (
        "import sys, hub.telemetry, hub.telemetry.metrics;"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
