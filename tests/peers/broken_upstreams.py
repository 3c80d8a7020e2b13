"""Upstreams of every kind that say what a test tells them, byte for byte, and keep what they got.

``async with said_by(kind, folder) as upstream:`` serves one tool, ``say``; set what it answers with
:meth:`Said.answers` and read what came in :attr:`Said.params`. Those over Streamable HTTP have a
resource as well, read with the same answer.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Raw

from mcp_wire.jsonrpc import decode_members
from tests.peers import raw_stdio
from tests.peers.raw_server import LegacyScript, ModernScript, Received, Script, Wire, raw_server

Kind = Literal["modern", "modern_stream", "legacy", "legacy_stream", "sse", "stdio", "stdio_legacy"]
KINDS: Final[tuple[Kind, ...]] = (
    "modern",
    "modern_stream",
    "legacy",
    "legacy_stream",
    "sse",
    "stdio",
    "stdio_legacy",
)
ERA_OF: Final = {kind: "modern" if kind.startswith("modern") else "legacy" for kind in KINDS} | {
    "stdio": "modern"
}
TOOL: Final = {"name": "say", "inputSchema": {"type": "object"}}
URI: Final = "memo://said"
EMPTY: Final = b'{"content":[]}'


@dataclass
class Said:
    """What an upstream says, and what it was told."""

    result: bytes = EMPTY
    error: bytes = b""
    tools: bytes = json.dumps([TOOL]).encode()
    """The list of tools; over Streamable HTTP only."""
    with_progress: bool = False
    """Say first that work goes on; on streams only."""
    spec: dict[str, Any] = field(default_factory=dict)
    """How Portico is told to reach it."""
    calls: Callable[[], list[bytes]] = list
    """The messages of ``tools/call`` that came, oldest first."""
    write: Callable[[], None] = lambda: None
    """Hands ``result`` and ``error`` to an upstream that is another process."""

    def answers(self, result: bytes = EMPTY, *, error: bytes = b"") -> None:
        """From now on."""
        self.result, self.error = result, error
        self.write()

    def answer(self, request_id: bytes) -> bytes:
        """The whole message that answers a request."""
        member, value = (b"error", self.error) if self.error else (b"result", self.result)
        return b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (request_id, member, value)

    @property
    def params(self) -> dict[str, Raw]:
        """The parameters of the last call, each as it came."""
        return decode_members(decode_members(self.calls()[-1])["params"])

    async def on_stream(self, received: Received, stream: Wire) -> None:
        """Answer on an event stream that was begun."""
        if self.with_progress and b'"progressToken"' in received.body:
            params = {"progressToken": json.loads(received.rpc_id), "progress": 1}
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            await stream.frame(note)
        await stream.frame(self.answer(received.rpc_id))


class SseScript:
    """An HTTP+SSE upstream (2024-11-05); ``methods`` answer what is not handshake or list.

    A method's script gets the stream to answer on as its wire; the POST was acknowledged.
    """

    def __init__(
        self,
        methods: dict[str, Script],
        tools: Sequence[object] = (),
    ) -> None:
        self.methods = methods
        self.tools = tools
        self.streams: list[Wire] = []

    async def __call__(self, received: Received, wire: Wire) -> None:
        if received.method == "GET":
            await wire.start_stream()
            endpoint = b"/post?session=%d" % len(self.streams)
            self.streams.append(wire)
            await wire.chunk(b"event: endpoint\r\ndata: %b\r\n\r\n" % endpoint)
            await wire.client_left()
        elif received.path == "/mcp":
            await wire.reply(405)
        else:
            await self._take(received, wire, self.streams[int(received.path.split("=")[1])])

    async def _take(self, received: Received, wire: Wire, stream: Wire) -> None:
        await wire.reply(202, b"Accepted", content_type="text/plain")
        method = received.rpc_method
        if method in self.methods:
            await self.methods[method](received, stream)
        elif method == "initialize":
            await self._say(
                stream, received, {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}}
            )
        elif method == "tools/list":
            await self._say(stream, received, {"tools": list(self.tools)})

    async def _say(self, stream: Wire, received: Received, result: object) -> None:
        await stream.frame({"jsonrpc": "2.0", "id": received.json["id"], "result": result})


@asynccontextmanager
async def said_by(kind: Kind, folder: Path) -> AsyncIterator[Said]:
    """An upstream of this kind, running until the block is left."""
    said = Said()
    if kind.startswith("stdio"):
        result, seen = folder / f"{kind}.result", folder / f"{kind}.seen"
        seen.touch()
        era = "modern" if kind == "stdio" else "error"
        command = raw_stdio.command(
            "--discover", era, "--tool", "say", "--result", str(result), "--seen", str(seen)
        )
        said.spec = {"command": list(command)}
        said.write = lambda: _write(result, said)
        said.calls = lambda: [line for line in seen.read_bytes().splitlines() if b"/call" in line]
        said.write()
        yield said
        return
    async with raw_server(_script(kind, said)) as raw:
        said.spec = {"url": raw.url}
        said.calls = lambda: [request.body for request in raw.of("tools/call")]
        yield said


def _write(path: Path, said: Said) -> None:
    member, value = (b"error", said.error) if said.error else (b"result", said.result)
    path.write_bytes(b'"%b":%b' % (member, value))


def _script(kind: Kind, said: Said) -> Script:
    async def whole(received: Received, wire: Wire) -> None:
        await wire.reply(200, said.answer(received.rpc_id))

    async def streamed(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await said.on_stream(received, wire)
        await wire.end_stream()

    async def tools(_: Received, wire: Wire) -> None:
        await wire.result(b'{"resultType":"complete","ttlMs":0,"tools":%b}' % said.tools)

    async def resources(_: Received, wire: Wire) -> None:
        listed = json.dumps([{"uri": URI, "name": "said"}]).encode()
        await wire.result(b'{"resultType":"complete","ttlMs":0,"resources":%b}' % listed)

    if kind == "sse":
        return SseScript({"tools/call": said.on_stream}, [TOOL])
    call = streamed if kind.endswith("_stream") else whole
    methods: dict[str, Script] = {
        "tools/call": call,
        "resources/read": call,
        "tools/list": tools,
        "resources/list": resources,
        "resources/templates/list": nothing,
    }
    features: dict[str, object] = {"tools": {}, "resources": {}}
    if kind.startswith("modern"):
        return ModernScript(methods, capabilities=features)
    return LegacyScript(methods, capabilities=features)


async def nothing(_: Received, wire: Wire) -> None:
    """There are no resource templates."""
    await wire.result({"resultType": "complete", "ttlMs": 0, "resourceTemplates": []})
