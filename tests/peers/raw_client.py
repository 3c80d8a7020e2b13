"""A caller that writes what it likes: requests as bytes, answers as they came, in either era.

``async with raw_session(url, era) as caller:`` has gone through the handshake where its era has one.
Each request has a connection of its own.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tests.peers.clients import Era

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
LIMIT: Final = 2**26

HANDSHAKE: Final = (
    b'{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"%b",'
    b'"capabilities":%b,"clientInfo":{"name":"raw","version":"0"}}}'
)
_ENVELOPE: Final = (
    b'"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    b'"io.modelcontextprotocol/clientCapabilities":{}'
)


@dataclass(frozen=True)
class Answered:
    """One whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def messages(self) -> list[bytes]:
        """The JSON-RPC messages in it, as they came: one, or those of an event stream."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return [self.body]
        lines = self.body.split(b"\n")
        return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]

    @property
    def last(self) -> bytes:
        """The message that answers the request."""
        return self.messages[-1]

    @property
    def json(self) -> Any:
        return json.loads(self.last)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def result(self) -> Any:
        return self.json["result"]

    @property
    def call(self) -> str:
        """The id under which the call is recorded; empty where there was none."""
        return self.headers.get("x-portico-call", "")


class RawConnection:
    """One connection to a server's port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self) -> Answered:
        """The next answer, whole."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = dict(line.lower().partition(":")[::2] for line in lines)
        headers = {name: value.strip() for name, value in headers.items()}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(first.split(" ")[1])
        return Answered(status, headers, await self._body(headers))

    async def message(self) -> bytes:
        """The next event of a stream whose head was read."""
        while True:
            line = await self.reader.readuntil(b"\n")
            if line.startswith(b"data: "):
                return line[6:].rstrip(b"\r\n")

    async def closed(self) -> bytes:
        """Wait until the other side closes; what it said before."""
        return await self.reader.read()

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        chunks = []
        while size := int(await self.reader.readline(), 16):
            chunks.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return b"".join(chunks)


@asynccontextmanager
async def raw_connection(url: str) -> AsyncIterator[RawConnection]:
    """A connection to the server of a URL; reset when the block is left."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


@dataclass
class RawSession:
    """A caller of one era at one URL."""

    url: str
    era: Era
    headers: dict[str, str] = field(default_factory=dict)

    def request(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        verb: str = "POST",
        path: str | None = None,
    ) -> bytes:
        """A whole HTTP request; None among ``headers`` is not possible, empty values are left out."""
        parts = urlsplit(self.url)
        fields = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Content-Length": str(len(body)),
            **self.headers,
            **(headers or {}),
        }
        lines = [f"{verb} {path or parts.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value]
        return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answered:
        """Send a body as it is, and what comes back."""
        async with raw_connection(self.url) as connection:
            await connection.send(self.request(body, headers))
            return await connection.answer()

    async def ask(
        self,
        method: str,
        params: bytes = b"{}",
        *,
        id: bytes = b"1",
        meta: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """One request; ``params`` is an object without ``_meta``, ``meta`` the inside of ``_meta``."""
        body, routing = self.message(method, params, id=id, meta=meta)
        return await self.post(body, {**routing, **(headers or {})})

    async def call(
        self, tool: str, arguments: bytes = b"{}", *, id: bytes = b"1", meta: bytes = b""
    ) -> Answered:
        """One ``tools/call``."""
        params = b'{"name":"%b","arguments":%b}' % (tool.encode(), arguments)
        body, routing = self.message("tools/call", params, id=id, meta=meta, name=tool)
        return await self.post(body, routing)

    def message(
        self,
        method: str,
        params: bytes = b"{}",
        *,
        id: bytes = b"1",
        meta: bytes = b"",
        name: str | None = None,
    ) -> tuple[bytes, dict[str, str]]:
        """A request's body and the headers that go with it; ``name`` is read off ``params``, else."""
        routing: dict[str, str] = {}
        if self.era == "modern":
            meta = _ENVELOPE + (b"," + meta if meta else b"")
            routing = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            if name is None:
                name = json.loads(params).get("uri" if method == "resources/read" else "name")
            routing |= {"Mcp-Name": name} if isinstance(name, str) else {}
        if meta:
            inside = params.strip()[1:-1]
            params = b'{%b%b"_meta":{%b}}' % (inside, b"," if inside.strip() else b"", meta)
        text = b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}'
        return text % (id, method.encode(), params), routing


@asynccontextmanager
async def raw_session(
    url: str,
    era: Era,
    *,
    revision: str = LEGACY,
    capabilities: bytes = b"{}",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[RawSession]:
    """A caller that may ask; ``headers`` go on each of its requests."""
    session = RawSession(url, era, dict(headers or {}))
    if era == "legacy":
        answer = await session.post(HANDSHAKE % (revision.encode(), capabilities))
        assert answer.status == 200, answer
        session.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
    yield session
