"""What operators see: metrics, spans at a collector, log lines without secrets."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from hub.domain.call import Call, CallerTraits, Target
from hub.domain.principal import Evidence
from hub.domain.record import Entry, EntryOutcome
from hub.telemetry import open_traces
from hub.telemetry.logs import LogFormat, Redaction, set_up_logging
from hub.telemetry.metrics import Metrics
from hub.telemetry.traces import Traces
from tests.peers.clients import connected, text_of
from tests.peers.collector import Collector, running_collector
from tests.peers.portico import portico, running_portico
from tests.peers.running import modern_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
CALLER_UNSAMPLED = CALLER[:-2] + "00"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as server:
        yield server


@contextmanager
def traces_to(collector: Collector, *, sample_ratio: float = 1.0) -> Iterator[Traces]:
    """Observe calls; everything is exported at the end of the block."""
    traces = open_traces(
        Metrics(version="1"),
        otlp_endpoint=collector.url,
        sample_ratio=sample_ratio,
        version="1",
    )
    try:
        yield traces
    finally:
        traces.close()


def a_call(traceparent: str | None = None, *, operation: str = "tools/call") -> Call:
    return Call(
        id="c1",
        surface="mcp",
        operation=operation,
        action="call",
        target=Target("tool", "find_order"),
        evidence=Evidence(),
        traits=CallerTraits(revision="2026-07-28"),
        traceparent=traceparent,
    )


def entry_of(call: Call, outcome: EntryOutcome = "ok", *, reached: bool = True) -> Entry:
    return Entry(
        call=call.id,
        at=datetime.now(UTC),
        tenant="default",
        surface=call.surface,
        operation=call.operation,
        target_kind="tool",
        target=call.target.name,
        upstream="orders" if reached else "",
        original="get_order" if reached else "",
        outcome=outcome,
        reason="timeout" if outcome == "failed" else "",
        duration_us=700,
    )


def attributes(span: Span) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span.attributes}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition()[0].decode())
        for sample in family.samples
    }


def test_a_call_is_one_span_below_its_callers_with_its_upstream_request_below_it(
    collector: Collector,
) -> None:
    with traces_to(collector) as traces:
        call = traces.started(a_call(CALLER))
        sent = traces.forwarded(call, "orders")
        traces.ended(call, entry_of(call), 300)

    spans = {span.kind: span for span in collector.spans}
    server, client = spans[Span.SPAN_KIND_SERVER], spans[Span.SPAN_KIND_CLIENT]
    assert len(collector.spans) == 2
    assert server.trace_id.hex() == client.trace_id.hex() == CALLER[3:35]
    assert server.parent_span_id.hex() == CALLER[36:52]
    assert client.parent_span_id == server.span_id
    assert sent.traceparent == f"00-{CALLER[3:35]}-{client.span_id.hex()}-01"


def test_spans_carry_the_conventional_names(collector: Collector) -> None:
    with traces_to(collector) as traces:
        call = traces.started(a_call())
        traces.forwarded(call, "orders")
        traces.ended(call, entry_of(call), 300)

    spans = {span.name: attributes(span) for span in collector.spans}
    assert (
        spans["tools/call find_order"].items()
        >= {
            "mcp.method.name": "tools/call",
            "mcp.protocol.version": "2026-07-28",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "find_order",
            "portico.call": "c1",
        }.items()
    )
    assert (
        spans["tools/call get_order"].items()
        >= {
            "gen_ai.tool.name": "get_order",
            "portico.upstream": "orders",
        }.items()
    )


def test_a_failure_marks_both_spans_and_says_its_kind(collector: Collector) -> None:
    with traces_to(collector) as traces:
        call = traces.started(a_call())
        traces.forwarded(call, "orders")
        traces.ended(call, entry_of(call, "failed"), 300)

    assert [attributes(span)["error.type"] for span in collector.spans] == ["timeout", "timeout"]


def test_a_name_that_reached_nothing_names_no_span(collector: Collector) -> None:
    with traces_to(collector) as traces:
        call = traces.started(a_call())
        traces.ended(call, entry_of(call, "refused", reached=False), None)

    assert [span.name for span in collector.spans] == ["tools/call"]


@pytest.mark.parametrize(
    ("traceparent", "sample_ratio", "exported"),
    [
        (None, 0.0, 0),
        (None, 1.0, 1),
        (CALLER, 0.0, 1),
        (CALLER_UNSAMPLED, 1.0, 0),
        (f"01{CALLER_UNSAMPLED[2:]}-more", 1.0, 0),
        ("nonsense", 0.0, 0),
        ("nonsense", 1.0, 1),
        (f"ff{CALLER[2:]}", 0.0, 0),
        (CALLER.replace(TRACE, "0" * 32), 0.0, 0),
    ],
)
def test_sampling_follows_the_caller_and_otherwise_the_ratio(
    collector: Collector, traceparent: str | None, sample_ratio: float, exported: int
) -> None:
    with traces_to(collector, sample_ratio=sample_ratio) as traces:
        call = traces.started(a_call(traceparent))
        traces.ended(call, entry_of(call), 300)

    assert len(collector.spans) == exported
    assert call.traceparent is not None
    assert int(call.traceparent[-2:], 16) & 1 == exported
    named = traceparent is not None and TRACE in traceparent and not traceparent.startswith("ff")
    assert (call.traceparent[3:35] == TRACE) == named
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", call.traceparent)
    assert call.traceparent[36:52] != CALLER[36:52], "the call is a span of its own"


def test_without_traces_the_callers_traceparent_goes_on_and_no_sdk_is_loaded() -> None:
    program = (
        "import sys, hub.telemetry.metrics;"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"

    metrics = Metrics(version="1")
    call = a_call(CALLER)
    assert metrics.forwarded(metrics.started(call), "orders").traceparent == CALLER


def test_metrics_count_calls_by_surface_operation_and_outcome() -> None:
    metrics = Metrics(version="1", operations=["GET /api/upstreams"])
    for outcome in ("ok", "ok", "failed"):
        call = metrics.started(a_call())
        metrics.forwarded(call, "orders")
        metrics.ended(call, entry_of(call, outcome), 300)
    metrics.started(a_call())

    shown = samples(metrics)

    def requests(outcome: str) -> float:
        labels = {"surface": "mcp", "operation": "tools/call", "outcome": outcome, "cache": "none"}
        return shown["proxy_requests_total", tuple(sorted(labels.items()))]

    assert (requests("ok"), requests("failed")) == (2, 1)
    assert shown["proxy_active_streams", ()] == 1
    labels = (("operation", "tools/call"), ("surface", "mcp"))
    assert shown["portico_request_duration_seconds_count", labels] == 3
    assert shown["portico_request_duration_seconds_sum", labels] == pytest.approx(0.0021)
    assert shown["portico_request_duration_seconds_bucket", (("le", "0.0005"), *labels)] == 0
    assert shown["portico_request_duration_seconds_bucket", (("le", "0.001"), *labels)] == 3
    assert (
        shown["portico_upstream_requests_total", (("outcome", "ok"), ("upstream", "orders"))] == 2
    )


def test_a_callers_words_make_no_series() -> None:
    metrics = Metrics(version="1")
    for number in range(100):
        call = metrics.started(a_call(operation=f"invented/{number}"))
        metrics.ended(call, entry_of(call, "refused", reached=False), None)

    counted = {
        key: value for key, value in samples(metrics).items() if key[0].startswith("proxy_r")
    }
    assert list(counted.values()) == [100]
    assert dict(next(iter(counted))[1])["operation"] == "other"


def test_values_that_others_know_are_read_when_asked() -> None:
    metrics = Metrics(version="1")
    revision = 3.0
    metrics.watch("portico_snapshot", lambda: revision)
    metrics.watch_upstreams(lambda: [("orders", "live")])
    assert samples(metrics)["portico_snapshot", ()] == 3
    revision = 4.0
    shown = samples(metrics)
    assert shown["portico_snapshot", ()] == 4
    assert shown["portico_upstream_state", (("state", "live"), ("upstream", "orders"))] == 1


def test_every_family_has_a_description() -> None:
    metrics = Metrics(version="1")
    metrics.watch("portico_snapshot", lambda: 0.0)
    families = list(metrics.collect())
    assert len(families) > 7
    assert all(family.documentation.endswith(".") for family in families)


@pytest.mark.alone
def test_counting_a_call_takes_microseconds() -> None:
    metrics = Metrics(version="1")
    call = a_call()
    entry = entry_of(call)
    rounds = 20_000

    def cost_us() -> float:
        began = perf_counter()
        for _ in range(rounds):
            metrics.started(call)
            metrics.forwarded(call, "orders")
            metrics.ended(call, entry, 300)
        return (perf_counter() - began) / rounds * 1e6

    assert min(cost_us() for _ in range(5)) < 5


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for package in ("hub", "connectors", "mcp_wire"):
        logging.getLogger(package).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_no_secret_reaches_a_log_line(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    redaction = Redaction()
    redaction.hide("s3cr3t-value")
    set_up_logging("info", log_format=log_format, redaction=redaction)
    key = "ptk_" + "a" * 49
    try:
        raise RuntimeError(f"refused {key}")
    except RuntimeError:
        logging.getLogger("hub.x").exception(
            "sent %s", key, extra={"header": "Bearer abc.def", "value": "x s3cr3t-value"}
        )

    line = capsys.readouterr().err
    assert "a" * 20 not in line
    assert "abc.def" not in line
    assert "s3cr3t" not in line
    assert line.count("[redacted]") >= 4


@pytest.mark.usefixtures("untouched_logging")
def test_json_lines_hold_fields_with_their_types(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", log_format="json", redaction=Redaction())
    logging.getLogger("hub.x").info("refreshed", extra={"upstream": "orders", "tools": 7})
    logging.getLogger("hub.x").debug("not shown")
    logging.getLogger("somebody.else").info("not shown")

    line = json.loads(capsys.readouterr().err)
    datetime.fromisoformat(line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "hub.x",
        "message": "refreshed",
        "upstream": "orders",
        "tools": 7,
    }


@pytest.mark.usefixtures("untouched_logging")
def test_a_plain_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", redaction=Redaction())
    logging.getLogger("hub.x").info("first\nsecond", extra={"upstream": "orders"})
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.endswith("hub.x: first\\nsecond upstream=orders\n")


async def test_a_running_portico_traces_a_call_to_its_upstream_and_counts_it(
    collector: Collector, tmp_path: Path
) -> None:
    with modern_server() as upstream:
        config = f"""
version: 1
upstreams: {{modern: {{url: "{upstream.url}"}}}}
telemetry: {{otlp_endpoint: "{collector.url}"}}
"""
        async with running_portico(tmp_path / "data", config=config) as hub:
            async with connected(hub.url, "modern") as client:
                meta: Any = {"traceparent": CALLER}
                seen = json.loads(text_of(await client.call_tool("meta", {}, meta=meta)))
            async with httpx2.AsyncClient(trust_env=False) as http:
                shown = (await http.get(f"{hub.origin}/metrics")).text
            await hub.stop()

    (server,) = [
        span
        for span in collector.spans
        if (span.name, span.kind) == ("tools/call meta", Span.SPAN_KIND_SERVER)
    ]
    (client_span,) = [span for span in collector.spans if span.parent_span_id == server.span_id]
    assert server.trace_id.hex() == CALLER[3:35]
    assert server.parent_span_id.hex() == CALLER[36:52]
    assert seen["traceparent"] == f"00-{CALLER[3:35]}-{client_span.span_id.hex()}-01"
    families = {family.name for family in text_string_to_metric_families(shown)}
    assert families >= {"proxy_requests", "proxy_active_streams", "portico_upstream_state"}
    counted = (
        'proxy_requests_total{cache="none",operation="tools/call",outcome="ok",surface="mcp"} 1.0'
    )
    assert counted in shown


async def test_what_children_write_is_shown_without_the_secrets_they_were_given(
    tmp_path: Path,
) -> None:
    program = "import os, sys; sys.stderr.write('started with ' + os.environ['TOKEN'] + chr(10))"
    command = json.dumps([sys.executable, "-c", program])
    config = (
        f'version: 1\nupstreams:\n  leaky: {{command: {command}, env: {{TOKEN: "env:LEAKED"}}}}\n'
    )
    environment = {"LEAKED": "Bearer a-very-secret-token"}
    async with running_portico(tmp_path / "data", config=config, env=environment):
        with anyio.fail_after(20):
            shown = ""
            while "started with" not in shown:
                shown = json.dumps(await portico("logs", "leaky", data=tmp_path / "data"))
    assert "very-secret" not in shown
