"""A collector of traces that counts spans and throws them away.

    python -m bench.collector [--port N]     prints {"url": "http://127.0.0.1:PORT"} when ready

It takes OTLP over HTTP at ``/v1/traces``; what it has seen is at ``GET /stats``.
"""

import argparse
import asyncio
import json
from typing import Final, cast

import httptools
import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.listening import listen

_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
_TAKEN: Final = _OK % (b"application/x-protobuf", 0, b"")


class Seen:
    """What came so far."""

    def __init__(self) -> None:
        self.spans = 0

    def count(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += sum(len(scope.spans) for scope in resource.scope_spans)


class _Connection(asyncio.Protocol):
    """One exporter's connection, or one question."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if self._url == b"/stats":
            text = json.dumps({"spans": self._seen.spans}).encode()
            self._write(_OK % (b"application/json", len(text), text))
        else:
            self._seen.count(body)
            self._write(_TAKEN)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until the process is told to end; 0 takes any free port."""
    seen = Seen()
    await listen(lambda: _Connection(seen), port)


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts spans and throws them away.")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
