"""An OpenTelemetry collector over HTTP: keeps the spans and metrics that are posted to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(ThreadingHTTPServer):
    """Decodes what comes with the official protobuf types."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.spans: list[Span] = []
        self.exports: list[ResourceMetrics] = []
        """One for each export of metrics, oldest first."""
        self.exported = threading.Event()
        """Metrics have come."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def metrics(self, export: int = -1) -> dict[str, Metric]:
        """The metrics of one export by their names, the last one's unless said otherwise."""
        (scope,) = self.exports[export].scope_metrics
        return {metric.name: metric for metric in scope.metrics}


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = self.server
        assert isinstance(collector, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    collector.spans += scope.spans
        else:
            assert self.path == "/v1/metrics"
            collector.exports += ExportMetricsServiceRequest.FromString(body).resource_metrics
            collector.exported.set()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a free port of 127.0.0.1."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)
