"""One span per call and a child for its upstream request, exported over OTLP.

Loaded by ``hub.telemetry.open_traces`` alone. Attribute names are those of OpenTelemetry's
conventions for MCP and GenAI; names, never arguments or results, are put in spans.
"""

import re
from collections.abc import Mapping
from random import Random
from typing import Final

from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hub.domain.call import Call
from hub.domain.record import Entry
from hub.telemetry.metrics import Metrics

_FAILED: Final = ("failed", "refused", "cancelled", "abandoned")
_NAME_ATTRIBUTES: Final = {
    "tool": "gen_ai.tool.name",
    "prompt": "gen_ai.prompt.name",
    "resource": "mcp.resource.uri",
}
_TRACEPARENT: Final = re.compile(
    r"[ \t]*(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-(?P<flags>[0-9a-f]{2})(?:-.*)?[ \t]*"
)
"""W3C Trace Context 3.2; later versions may say more."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Traces:
    """Observes calls (``hub.pipeline.Observer``) for metrics and traces."""

    def __init__(
        self, metrics: Metrics, *, otlp_endpoint: str, sample_ratio: float, version: str
    ) -> None:
        """See :func:`hub.telemetry.open_traces`."""
        self._metrics = metrics
        self._sample_ratio = sample_ratio
        self._random = Random()  # noqa: S311  # ids of traces are no secrets
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),  # what is not sampled does not come to it
            resource=Resource.create({"service.name": "portico", "service.version": version}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=otlp_endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("portico", version)
        self._spans: dict[str, Span] = {}
        self._upstream_spans: dict[str, Span] = {}

    def started(self, call: Call) -> Call:
        """Begin the call's span, below the caller's where it named one."""
        untraced = self._untraced(call.traceparent)
        if untraced is not None:
            return self._metrics.started(replace(call, traceparent=untraced))
        carrier = {"traceparent": call.traceparent} if call.traceparent is not None else {}
        span = self._tracer.start_span(
            call.operation,
            context=_PROPAGATOR.extract(carrier),
            kind=SpanKind.SERVER,
            record_exception=False,
        )
        self._spans[call.id] = span
        return self._metrics.started(_naming(call, span))

    def forwarded(self, call: Call, upstream: str) -> Call:
        """Begin the span of its upstream request."""
        own = self._spans.get(call.id)
        if own is None:
            return self._metrics.forwarded(call, upstream)
        span = self._tracer.start_span(
            call.operation,
            context=set_span_in_context(own),
            kind=SpanKind.CLIENT,
            attributes={"portico.upstream": upstream},
            record_exception=False,
        )
        self._upstream_spans[call.id] = span
        return self._metrics.forwarded(_naming(call, span), upstream)

    def ended(self, call: Call, entry: Entry, upstream_us: int | None) -> None:
        """End what was begun, with what the entry says of it."""
        self._metrics.ended(call, entry, upstream_us)
        span = self._spans.pop(call.id, None)
        if span is None:
            return
        upstream_span = self._upstream_spans.pop(call.id, None)
        if upstream_span is not None:
            _end(upstream_span, entry, _upstream_attributes(entry), entry.original)
        # A name that no exposure stands behind is a caller's invention and names no span.
        _end(span, entry, _call_attributes(call, entry), entry.target if entry.original else "")

    def _untraced(self, traceparent: str | None) -> str | None:
        """The ``traceparent`` of a call that is not sampled; None for one that is.

        The library would make a span for each of them, and two costs half a call.
        """
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None:
            if self._random.random() < self._sample_ratio:
                return None
            trace = f"{self._random.getrandbits(128) or 1:032x}"
        elif int(found["flags"], 16) & 1:
            return None
        else:
            trace = found["trace"]
        return f"00-{trace}-{self._random.getrandbits(64) or 1:016x}-00"

    def close(self) -> None:
        """Export what is waiting and stop. Blocks for at most a few seconds; call it in a thread."""
        self._provider.shutdown()


def _naming(call: Call, span: Span) -> Call:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return replace(call, traceparent=carrier.get("traceparent"))


def _end(span: Span, entry: Entry, attributes: Mapping[str, str | int], target: str) -> None:
    if span.is_recording():
        if target and entry.target_kind in ("tool", "prompt"):
            span.update_name(f"{entry.operation} {target}")
        span.set_attributes(attributes)
        if entry.outcome in _FAILED:
            why = entry.reason if entry.outcome == "failed" else ""
            span.set_attribute("error.type", why or entry.outcome)
            span.set_status(Status(StatusCode.ERROR))
    span.end()


def _upstream_attributes(entry: Entry) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"mcp.method.name": entry.operation}
    if entry.operation == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    if name_attribute := _NAME_ATTRIBUTES.get(entry.target_kind):
        attributes[name_attribute] = entry.original
    if entry.code is not None:
        attributes["rpc.response.status_code"] = str(entry.code)
    if entry.status is not None:
        attributes["http.response.status_code"] = entry.status
    return attributes


def _call_attributes(call: Call, entry: Entry) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "portico.call": entry.call,
        "portico.outcome": entry.outcome,
        "portico.surface": entry.surface,
        "portico.virtual_server": entry.virtual_server,
        "portico.tenant": entry.tenant,
    }
    if entry.surface == "mcp":
        attributes["mcp.method.name"] = entry.operation
        attributes["mcp.protocol.version"] = call.traits.revision
        if call.traits.session:
            attributes["mcp.session.id"] = call.traits.session
    if entry.operation == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    name_attribute = _NAME_ATTRIBUTES.get(entry.target_kind)
    if name_attribute is not None and entry.target:
        attributes[name_attribute] = entry.target
    return attributes
