"""An MCP upstream that costs next to nothing, so that what stands in front of it can be measured.

No framework: one ``asyncio.Protocol`` on httptools' parser. It speaks the handshake era and
2026-07-28 on one address; ``echo`` answers as JSON, ``echo_stream`` as an event stream, and
``echo_chunks`` as one that takes its time: progress notifications, a pause between them, the result.
What it has seen is at ``GET /stats``.

    python -m bench.upstream [--port N]      prints {"url": "http://127.0.0.1:PORT/mcp"} when ready
"""

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any, Final, cast

import httptools
import uvloop
from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, field
from msgspec.json import Decoder

from bench.listening import listen
from mcp_wire.codes import META_PROGRESS, META_REVISION, METHOD_NOT_FOUND, PARSE_ERROR
from mcp_wire.jsonrpc import encode, encode_error, encode_result
from mcp_wire.revisions import LATEST_LEGACY, LATEST_MODERN

TOOL_COUNT: Final = 20
JSON_TOOL: Final = "echo"
STREAM_TOOL: Final = "echo_stream"
CHUNKS_TOOL: Final = "echo_chunks"
"""Takes ``chunks`` and ``pause_ms`` beside ``text``; without a progress token it only pauses."""

_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "What comes back."},
        "chunks": {"type": "integer", "description": "How often it comes before the result."},
        "pause_ms": {"type": "integer", "description": "How long after each of these times."},
    },
    "required": ["text"],
}
_CAPABILITIES: Final[dict[str, Any]] = {"tools": {}}
_SERVER_INFO: Final = {"name": "bench-upstream", "version": "1"}
_CACHEABLE: Final = {"resultType": "complete", "ttlMs": 600_000, "cacheScope": "public"}

_JSON_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_CHUNK: Final = b"%x\r\n%b\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_EVENT: Final = b"event: message\r\ndata: %b\r\n\r\n"
_PROGRESS: Final = (
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":'
    b'{"progressToken":%b,"progress":%d,"total":%d,"message":%b}}'
)
_ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_GONE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_NO_STREAM: Final = (
    b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, DELETE\r\nContent-Length: 0\r\n\r\n"
)
_SESSION_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: bench-%d\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
_ERROR_HEAD: Final = (
    b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)


class _Meta(Struct, frozen=True, gc=False):
    revision: str | UnsetType = field(default=UNSET, name=META_REVISION)
    progress_token: Raw | UnsetType = field(default=UNSET, name=META_PROGRESS)


class _Arguments(Struct, frozen=True, gc=False):
    text: Raw = Raw(b'""')
    chunks: int = 0
    pause_ms: int = 0


class _Params(Struct, frozen=True, gc=False):
    name: str = ""
    arguments: _Arguments = _Arguments()
    meta: _Meta = field(default=_Meta(), name="_meta")


class _Request(Struct, frozen=True, gc=False):
    method: str = ""
    id: Raw | UnsetType = UNSET
    params: _Params = _Params()


_request: Final = Decoder(_Request)


def _tools() -> list[dict[str, Any]]:
    others = (f"tool_{number:02}" for number in range(4, TOOL_COUNT + 1))
    names = [JSON_TOOL, STREAM_TOOL, CHUNKS_TOOL, *others]
    text = "Gives back the text it was called with, unchanged, whatever it holds."
    return [{"name": name, "description": text, "inputSchema": _SCHEMA} for name in names]


_LEGACY_RESULTS: Final = {
    "initialize": encode({
        "protocolVersion": LATEST_LEGACY,
        "capabilities": _CAPABILITIES,
        "serverInfo": _SERVER_INFO,
    }),
    "tools/list": encode({"tools": _tools()}),
    "ping": b"{}",
}
_MODERN_RESULTS: Final = {
    "server/discover": encode({
        **_CACHEABLE,
        "supportedVersions": [LATEST_MODERN],
        "capabilities": _CAPABILITIES,
        "_meta": {"io.modelcontextprotocol/serverInfo": _SERVER_INFO},
    }),
    "tools/list": encode({**_CACHEABLE, "tools": _tools()}),
}
_LEGACY_ECHO: Final = b'{"content":[{"type":"text","text":%b}]}'
_MODERN_ECHO: Final = b'{"resultType":"complete","content":[{"type":"text","text":%b}]}'


class Statistics:
    """What the upstream has seen. Questions for the statistics are not counted."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        """By JSON-RPC method; other HTTP methods by their name."""
        self.connections = 0
        """Connections that carried at least one MCP request."""
        self.sessions = 0

    def count(self, method: str) -> None:
        self.requests[method] = self.requests.get(method, 0) + 1


class Paced(Struct, frozen=True):
    """An answer that takes its time."""

    token: Raw | UnsetType
    """The caller's progress token; without one it is told nothing."""
    text: Raw
    chunks: int
    pause_s: float
    message: bytes
    """What it ends with."""

    def events(self) -> Iterator[bytes]:
        """Its events as chunks of HTTP; the next one is sent a pause later."""
        for number in range(1, self.chunks + 1):
            if self.token is UNSET:
                yield b""
            else:
                progress = _PROGRESS % (self.token, number, self.chunks, self.text)
                yield _as_chunk(progress)
        yield _as_chunk(self.message) + _LAST_CHUNK


class _Connection(asyncio.Protocol):
    """One connection; requests are answered, or begun to be, in the turn that completes them."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body: list[bytes] = []
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._write(_ERROR_HEAD % (b"400 Bad Request\r\nConnection: close", 0, b""))
            if self._transport is not None:
                self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if self._url == b"/stats":
            seen = self._statistics
            text = encode({"requests": seen.requests, "connections": seen.connections})
            self._write(_JSON_HEAD % (len(text), text))
            return
        if not self._counted:
            self._counted = True
            self._statistics.connections += 1
        method = self._parser.get_method()
        if method == b"POST":
            said = answer(body, self._statistics)
            if isinstance(said, Paced):
                self._write(_STREAM_HEAD)
                self._send_next(said.events(), said.pause_s)
            else:
                self._write(said)
        else:
            self._statistics.count(method.decode())
            self._write(_GONE if method == b"DELETE" else _NO_STREAM)

    def _send_next(self, events: Iterator[bytes], pause_s: float) -> None:
        """Send one event, and see to it that the next one follows; nothing when nobody listens."""
        event = next(events, None)
        if event is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.write(event)
            loop = asyncio.get_running_loop()
            loop.call_later(pause_s, self._send_next, events, pause_s)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def answer(body: bytes, statistics: Statistics) -> bytes | Paced:
    """The whole HTTP answer to a POST, or how it is to be given bit by bit."""
    try:
        request = _request.decode(body)
    except DecodeError:
        return _refusal(b"400 Bad Request", encode_error(None, PARSE_ERROR, "unreadable"))
    method = request.method
    statistics.count(method)
    if request.id is UNSET:
        return _ACCEPTED
    modern = request.params.meta.revision is not UNSET
    if method == "tools/call":
        given = request.params.arguments
        message = encode_result(request.id, (_MODERN_ECHO if modern else _LEGACY_ECHO) % given.text)
        if request.params.name == CHUNKS_TOOL:
            token = request.params.meta.progress_token
            return Paced(token, given.text, given.chunks, given.pause_ms / 1000, message)
        if request.params.name == STREAM_TOOL:
            return _STREAM_HEAD + _as_chunk(message) + _LAST_CHUNK
        return _JSON_HEAD % (len(message), message)
    result = (_MODERN_RESULTS if modern else _LEGACY_RESULTS).get(method)
    if result is None:
        refusal = encode_error(request.id, METHOD_NOT_FOUND, "unknown method")
        return _refusal(b"404 Not Found" if modern else b"200 OK", refusal)
    message = encode_result(request.id, result)
    if method == "initialize":
        statistics.sessions += 1
        return _SESSION_HEAD % (statistics.sessions, len(message), message)
    return _JSON_HEAD % (len(message), message)


def _as_chunk(message: bytes) -> bytes:
    event = _EVENT % message
    return _CHUNK % (len(event), event)


def _refusal(status: bytes, message: bytes) -> bytes:
    return _ERROR_HEAD % (status, len(message), message)


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until the process is told to end; 0 takes any free port."""
    statistics = Statistics()
    await listen(lambda: _Connection(statistics), port, "/mcp")


def main() -> None:
    parser = argparse.ArgumentParser(description="An MCP upstream to measure against.")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
