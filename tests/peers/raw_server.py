"""A scriptable HTTP/1.1 server without any framework: it does exactly what a test tells it to.

``async with raw_server(script) as raw:`` where ``script(received, wire)`` answers one request. It
counts connections and requests. ``ModernScript`` and ``LegacyScript`` answer discovery the way a
well-behaved upstream does, and leave every other method to the test.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

_HEAD = re.compile(rb'\{"jsonrpc":"2.0",(?:"id":(?P<id>[^,]*),)?"method":"(?P<method>[^"]*)"')
REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 503: "Unavailable"}


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, repetitions kept."""
    body: bytes
    connection: int
    """Number of the connection it came on, from 1."""

    @property
    def json(self) -> Any:
        return json.loads(self.body.decode(errors="replace")) if self.body else {}

    @property
    def rpc_method(self) -> str:
        """Read off the beginning, as the rest may be nested more deeply than can be read here."""
        found = _HEAD.match(self.body)
        return "" if found is None else found["method"].decode()

    @property
    def rpc_id(self) -> bytes:
        """The id as it came."""
        found = _HEAD.match(self.body)
        return b"null" if found is None or found["id"] is None else found["id"]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Wire:
    """Writes one answer."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: Received
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._received = received

    async def send(self, raw: bytes) -> None:
        """Bytes as they are. Raises ConnectionError when the client has gone."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(raw)
        await self._writer.drain()

    async def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        """A whole answer with its length."""
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}"]
        if body:
            lines.append(f"Content-Type: {content_type}")
        lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def result(
        self, result: bytes | object, headers: Mapping[str, str] | None = None
    ) -> None:
        """The JSON-RPC result of the request; bytes go out as they are."""
        text = result if isinstance(result, bytes) else json.dumps(result).encode()
        await self.reply(200, self.envelope(b"result", text), headers)

    async def error(self, status: int, code: int, message: str = "no", data: object = None) -> None:
        """The JSON-RPC error of the request."""
        error: dict[str, Any] = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        await self.reply(status, self.envelope(b"error", json.dumps(error).encode()))

    async def error_to_nobody(self, status: int, code: int, message: str) -> None:
        """A JSON-RPC error that lost the id, as legacy servers answer about sessions."""
        answer = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
        await self.reply(status, json.dumps(answer).encode())

    @property
    def request_id(self) -> bytes:
        """The id of the request; Portico uses the same text as its progress token."""
        return self._received.rpc_id

    def envelope(self, member: bytes, value: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (self.request_id, member, value)

    async def start_stream(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin an event stream of unknown length; frames follow with :meth:`frame`."""
        lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def frame(self, message: bytes | object, prefix: bytes = b"event: message\r\n") -> None:
        """One event; a message that is no bytes is written as JSON."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.chunk(b"%bdata: %b\r\n\r\n" % (prefix, data))

    async def chunk(self, raw: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(raw), raw))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def hang_up(self) -> None:
        """Close the connection in an orderly way."""
        self._writer.close()

    async def abort(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()

    async def client_left(self) -> None:
        """Wait until the client closed the connection; it must not send another request on it."""
        with suppress(ConnectionError):
            await self._reader.read()


Script = Callable[[Received, Wire], Awaitable[None]]


@dataclass
class RawServer:
    """A running server and what it has seen."""

    port: int
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    standing: set[int] = field(default_factory=set)
    """Numbers of the connections that are open."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    stopper: Callable[[], Awaitable[None]] | None = None

    @property
    def open_connections(self) -> int:
        return len(self.standing)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/mcp"

    def of(self, rpc_method: str) -> list[Received]:
        """The requests of one JSON-RPC method."""
        return [request for request in self.requests if request.rpc_method == rpc_method]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was seen makes ``condition`` true."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def stop(self) -> None:
        """Hang up on everybody and listen no more."""
        if self.stopper is not None:
            await self.stopper()

    async def _note(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = []
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.lower(), value.strip()))
        if name.lower() == "content-length":
            length = int(value)
    return Received(method, path, tuple(headers), await reader.readexactly(length), connection)


@asynccontextmanager
async def raw_server(
    script: Script, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve ``script`` on this event loop until the block is left."""
    raw = RawServer(port=0, scheme="https" if tls else "http")
    writers: set[asyncio.StreamWriter] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.connections += 1
        connection = raw.connections
        raw.standing.add(connection)
        writers.add(writer)
        try:
            while (received := await _read_request(reader, connection)) is not None:
                raw.requests.append(received)
                await raw._note()
                await script(received, Wire(reader, writer, received))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            raw.standing.discard(connection)
            writers.discard(writer)
            writer.close()
            await raw._note()

    server = await asyncio.start_server(converse, "127.0.0.1", port, ssl=tls, limit=2**20)
    raw.port = server.sockets[0].getsockname()[1]

    async def stop() -> None:
        server.close()
        for writer in list(writers):
            writer.transport.abort()
        with anyio.move_on_after(5, shield=True):
            await raw.until(lambda: raw.open_connections == 0)

    raw.stopper = stop
    try:
        yield raw
    finally:
        await stop()


class ModernScript:
    """A modern upstream: discovery and lists are answered, ``methods`` answer the rest."""

    def __init__(
        self,
        methods: Mapping[str, Script] | None = None,
        *,
        tools: tuple[object, ...] = (),
        capabilities: object = None,
        versions: tuple[str, ...] = ("2026-07-28",),
    ) -> None:
        self.methods = dict(methods or {})
        self.tools = tools
        self.capabilities = capabilities if capabilities is not None else {"tools": {}}
        self.versions = versions

    async def __call__(self, received: Received, wire: Wire) -> None:
        method = received.rpc_method
        if received.method != "POST":
            await wire.reply(405, headers={"Allow": "POST"})
        elif method in self.methods:
            await self.methods[method](received, wire)
        elif method == "server/discover":
            await wire.result({
                "resultType": "complete",
                "supportedVersions": list(self.versions),
                "capabilities": self.capabilities,
                "ttlMs": 0,
                "cacheScope": "private",
            })
        elif method == "tools/list":
            await wire.result({
                "resultType": "complete",
                "tools": list(self.tools),
                "ttlMs": 0,
                "cacheScope": "private",
            })
        elif method == "initialize":
            data = {"supported": list(self.versions), "requested": "2025-11-25"}
            await wire.error(400, -32022, data=data)
        else:
            await wire.error(404, -32601)


class LegacyScript:
    """A legacy upstream with one session after another; ``methods`` answer what is not handshake."""

    def __init__(
        self, methods: Mapping[str, Script] | None = None, *, capabilities: object = None
    ) -> None:
        self.methods = dict(methods or {})
        self.capabilities = capabilities if capabilities is not None else {"tools": {}}
        self.sessions: set[str] = set()
        self.opened = 0

    async def __call__(self, received: Received, wire: Wire) -> None:
        method, session = received.rpc_method, received.header("mcp-session-id")
        if received.method in self.methods:
            await self.methods[received.method](received, wire)
        elif received.method == "DELETE":
            self.sessions.discard(session or "")
            await wire.reply(200)
        elif received.method != "POST":
            await wire.reply(405, headers={"Allow": "POST"})
        elif method == "initialize":
            await self.initialize(wire)
        elif session is None:
            await wire.error_to_nobody(400, -32600, "Bad Request: Missing session ID")
        elif session not in self.sessions:
            await wire.error_to_nobody(404, -32001, "Session not found")
        elif method in self.methods:
            await self.methods[method](received, wire)
        elif method.startswith("notifications/") or not method:
            await wire.reply(202)
        elif method == "tools/list":
            await wire.result({"tools": []})
        else:
            await wire.error(200, -32601)

    async def initialize(self, wire: Wire) -> None:
        self.opened += 1
        session = f"session-{self.opened}"
        self.sessions.add(session)
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": self.capabilities,
            "serverInfo": {"name": "raw", "version": "0"},
        }
        await wire.result(result, {"Mcp-Session-Id": session})
