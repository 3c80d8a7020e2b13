"""A caller of the modern era over one bare connection: it costs little, and makes nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Caller:
    """One keep-alive connection to one MCP URL."""

    def __init__(
        self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer

    async def post(self, method: str, params: dict[str, Any], name: str = "") -> Any:
        """The answer, decoded."""
        return json.loads(await self.post_raw(method, params, name))

    async def post_raw(self, method: str, params: dict[str, Any], name: str = "") -> bytes:
        """The answer as it came."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        body = json.dumps(message).encode()
        self._writer.write(
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
            b"Mcp-Method: %b\r\n%bContent-Length: %d\r\n\r\n%b"
            % (
                self._path.encode(),
                method.encode(),
                b"Mcp-Name: %b\r\n" % name.encode() if name else b"",
                len(body),
                body,
            )
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        assert head.startswith(b"HTTP/1.1 200"), await self._reader.readexactly(length)
        return await self._reader.readexactly(length)


@asynccontextmanager
async def raw_caller(url: str) -> AsyncIterator[Caller]:
    """A caller connected to an MCP URL."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**26)
    try:
        yield Caller(parts.path, reader, writer)
    finally:
        writer.close()
