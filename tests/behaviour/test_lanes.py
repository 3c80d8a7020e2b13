"""Both lanes give the same bytes and the same record; the fast one answers what it is made for."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from hub.administration.authority import local_administrator
from hub.administration.upstreams import UpstreamPut, put_upstream
from hub.app import Hub, Settings, composed
from hub.audit.reading import tail
from hub.config.models import PorticoFile, ServerSection
from tests.peers.raw_server import RawServer, Received, Wire, raw_server
from tests.peers.served_hub import served

pytestmark = pytest.mark.anyio

MODERN, LEGACY = "2026-07-28", "2025-11-25"
CALL_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
BIG = "x" * 300_000
ANNOTATED = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
}
TOOLS = [
    {"name": "echo", "inputSchema": {"type": "object"}},
    {"name": "mirrored", "inputSchema": ANNOTATED},
    {
        "name": "deletes",
        "inputSchema": {"type": "object"},
        "annotations": {"destructiveHint": True},
    },
    *(
        {"name": name, "inputSchema": {"type": "object"}}
        for name in (
            "fails",
            "refuses",
            "asks",
            "streams",
            "speaks",
            "hangs_up",
            "waits",
            "vendor",
            "null",
        )
    ),
]
RESULTS: dict[str, bytes] = {
    "echo": b'{"resultType":"complete","content":[{"type":"text","text":"hi"}]}',
    "mirrored": b'{"content":[]}',
    "deletes": b'{"content":[]}',
    "fails": b'{"content":[{"type":"text","text":"no"}],"isError":true}',
    "asks": b'{"resultType":"input_required","inputRequests":{},"requestState":"s"}',
    "vendor": b'{"_meta":{"vendor/x":1e400},"content":[{"type":"odd","n":12345678901234567890}]}',
    "null": b'{"content":[],"structuredContent":null}',
}


async def upstream(received: Received, wire: Wire) -> None:
    """Speaks the modern era, one way for each tool."""
    method = received.rpc_method
    if method == "server/discover":
        features: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}}
        await wire.result({"supportedVersions": [MODERN], "capabilities": features})
    elif method == "tools/list":
        await wire.result({"tools": TOOLS})
    elif method == "resources/list":
        await wire.result({"resources": [{"uri": "test://one", "name": "one"}]})
    elif method == "resources/templates/list":
        await wire.result({"resourceTemplates": []})
    elif method == "prompts/list":
        await wire.result({"prompts": [{"name": "greet"}]})
    elif method == "resources/read":
        await wire.result({"contents": [{"uri": "test://one", "text": "1"}], "ttlMs": 7})
    elif method == "prompts/get":
        await wire.result({"messages": []})
    elif method == "tools/call":
        await call(received, wire)
    else:
        await wire.error(404, -32601)


async def call(received: Received, wire: Wire) -> None:
    name = received.json["params"]["name"]
    if name in RESULTS:
        await wire.result(RESULTS[name])
    elif name == "refuses":
        await wire.error(200, -32000, "not today", {"because": 1})
    elif name == "streams":
        await wire.start_stream()
        progress = {"progressToken": int(wire.request_id), "progress": 1}
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
        await wire.frame(note)
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()
    elif name == "speaks":
        await wire.start_stream()
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()
    elif name == "waits":
        await wire.client_left()
    else:
        await wire.hang_up()


@dataclass(frozen=True)
class Case:
    """One request, and whether the fast lane answers it by itself."""

    name: str
    fast: bool
    head: Sequence[tuple[str, str]]
    body: bytes
    path: str = "/mcp"
    times: int = 1


def modern(
    name: str,
    method: str,
    params: dict[str, Any],
    *more: tuple[str, str],
    fast: bool,
    meta: dict[str, Any] | None = None,
    target: str | None = None,
    path: str = "/mcp",
    request_id: Any = 7,
) -> Case:
    envelope = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        **(meta or {}),
    }
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    body = json.dumps({**message, "params": {**params, "_meta": envelope}}).encode()
    head = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", method)]
    if target is not None:
        head.append(("Mcp-Name", target))
    return Case(name, fast, (*head, *more), body, path)


def tool(name: str, *more: tuple[str, str], fast: bool, called: str = "", **options: Any) -> Case:
    params = {"name": name, "arguments": options.pop("arguments", {})}
    title = called or name
    return modern(title, "tools/call", params, *more, fast=fast, target=name, **options)


CASES = [
    tool("echo", fast=True),
    tool("echo", fast=True, called="odd id", request_id="a\u00e9\n"),
    tool("echo", fast=True, called="big", arguments={"text": BIG}),
    tool("echo", fast=True, called="token", meta={"progressToken": "t"}),
    tool("echo", fast=True, called="vendor meta", meta={"claudecode/toolUseId": "u"}),
    tool(
        "echo",
        fast=True,
        called="capable",
        meta={"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
    ),
    tool("echo", fast=True, called="logs", meta={"io.modelcontextprotocol/logLevel": "info"}),
    tool("echo", ("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"), fast=True, called="traced"),
    tool("echo", ("X-Habit", "new"), fast=True, called="new habit"),
    tool("vendor", fast=True),
    tool("null", fast=True),
    tool("fails", fast=True),
    tool("speaks", fast=True),
    modern("list", "tools/list", {}, fast=True),
    modern("resources", "resources/list", {}, fast=True),
    modern("templates", "resources/templates/list", {}, fast=True),
    modern("prompts", "prompts/list", {}, fast=True),
    modern("read", "resources/read", {"uri": "test://one"}, fast=True, target="test://one"),
    modern("get", "prompts/get", {"name": "greet"}, fast=True, target="greet"),
    modern("bad cursor", "tools/list", {"cursor": "x"}, fast=True),
    # What is handed over, or never taken.
    tool("mirrored", fast=False),
    tool(
        "mirrored",
        ("Mcp-Param-Region", "eu"),
        fast=False,
        called="mirrored right",
        arguments={"region": "eu"},
    ),
    tool(
        "mirrored",
        ("Mcp-Param-Region", "us"),
        fast=False,
        called="mirrored wrong",
        arguments={"region": "eu"},
    ),
    tool("deletes", fast=False),
    tool("asks", fast=False),
    tool("refuses", fast=False),
    tool("streams", fast=False, meta={"progressToken": 5}),
    tool("streams", fast=True, called="streams unasked"),
    tool("hangs_up", fast=False),
    tool("absent", fast=False),
    tool("echo", fast=False, called="bad level", meta={"io.modelcontextprotocol/logLevel": "x"}),
    tool("echo", ("Origin", "http://localhost"), fast=False, called="browser"),
    tool("echo", ("Accept", "application/json"), fast=False, called="accepts twice"),
    tool("echo", ("Mcp-Name", "echo"), fast=False, called="name twice"),
    tool("echo", ("Authorization", "Bearer ptk_no"), fast=False, called="bad key"),
    tool("echo", ("X-Tenant-ID", "other"), fast=False, called="other tenant"),
    tool("echo", ("Expect", "100-continue"), fast=False, called="expects"),
    tool("echo", fast=False, called="nowhere", path="/v/nowhere/mcp"),
    modern("discover", "server/discover", {}, fast=False),
    modern("unknown", "tools/none", {}, fast=False),
    modern("wrong name", "tools/call", {"name": "echo"}, fast=False, target="other"),
    modern("no name", "tools/call", {"name": "echo"}, fast=False),
    modern("retry", "tools/call", {"name": "echo", "requestState": "x"}, fast=False, target="echo"),
    Case("no json", False, (("MCP-Protocol-Version", MODERN),), b"{"),
    Case("a note", False, (), b'{"jsonrpc":"2.0","method":"notifications/initialized"}'),
]


@dataclass
class Lane:
    """A hub with one of the lanes, and its clients' connections."""

    hub: Hub
    port: int
    raw: RawServer

    @property
    def answered(self) -> int:
        return 0 if self.hub.fast_lane is None else self.hub.fast_lane.answered_count

    def entries(self, count: int) -> list[dict[str, Any]]:
        """The last entries but for what differs from run to run."""
        listed = tail(self.hub.directory.record, count)
        entries = [msgspec.to_builtins(item.entry) for item in reversed(listed)]
        for entry in entries:
            entry.pop("at")
            entry.pop("call")
            entry["duration_us"] = entry["arguments_digest"] = entry["result_digest"] = 0
            if entry.get("interaction"):
                entry["interaction"] = "some"
        return entries

    async def called(self, name: str, before: int) -> int:
        """Wait for a call of this tool upstream; the connection it came on."""

        def calls() -> list[Received]:
            later = self.raw.requests[before:]
            return [
                one
                for one in later
                if one.rpc_method == "tools/call" and one.json["params"]["name"] == name
            ]

        await self.raw.until(lambda: bool(calls()))
        return calls()[-1].connection

    async def left(self, connection: int) -> None:
        """Wait until the hub has closed a connection upstream."""
        await self.raw.until(lambda: connection not in self.raw.standing)


@asynccontextmanager
async def lane(data: Path, *, fast: bool) -> AsyncIterator[Lane]:
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(raw_server(upstream))
        settings = Settings(
            data=data, file=PorticoFile(version=1, server=ServerSection(fast_lane=fast))
        )
        hub = await stack.enter_async_context(composed(settings))
        await stack.enter_async_context(hub.upstreams.running())
        put = UpstreamPut.model_validate({"name": "up", "url": raw.url})
        await put_upstream(hub.desk, local_administrator("default"), "default", put)
        await hub.control.refresh()
        with anyio.fail_after(10):
            await hub.upstreams.refresh("default", "up")
            await hub.control.refresh()
        port = await stack.enter_async_context(served(hub))
        yield Lane(hub, port, raw)


@pytest.fixture(scope="module")
async def lanes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Lane, Lane]]:
    data = tmp_path_factory.mktemp("lanes")
    async with lane(data / "fast", fast=True) as fast, lane(data / "plain", fast=False) as plain:
        yield fast, plain


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
async def test_both_lanes_answer_alike_and_record_alike(
    lanes: tuple[Lane, Lane], case: Case
) -> None:
    fast, plain = lanes
    for one in lanes:
        await spoken(one, request(one, CASES[0]))  # there is an idle connection upstream now
    before = fast.answered
    # The second time its head is known, and no parser looks at it.
    told = [[await spoken(one, request(one, case)) for _ in range(2)] for one in lanes]
    assert told[0] == told[1]
    assert fast.answered - before == (2 if case.fast else 0)
    assert fast.entries(3) == plain.entries(3)
    bodies = [without_id(one.raw.requests[-1].body) for one in lanes]
    assert bodies[0] == bodies[1]


async def test_requests_on_one_connection_are_answered_in_their_order(
    lanes: tuple[Lane, Lane],
) -> None:
    wanted = [case for case in CASES if case.name in {"echo", "absent", "list", "streams", "fails"}]
    told = [
        await spoken(one, b"".join(request(one, case) for case in wanted), len(wanted))
        for one in lanes
    ]
    assert told[0] == told[1]


async def test_a_session_takes_the_fast_lane_too(lanes: tuple[Lane, Lane]) -> None:
    fast, _ = lanes
    told = []
    answered = []
    bodies = [
        b'{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"echo"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":"","method":"tools/call","params":{"name":"vendor"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"streams",'
        b'"_meta":{"progressToken":9}}}',
        b'{"jsonrpc":"2.0","id":2,"method":"resources/read","params":{"uri":"test://no"}}',
        b'{"jsonrpc":"2.0","id":3,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":4,"method":"logging/setLevel","params":{"level":"info"}}',
    ]
    for one in lanes:
        head = (("MCP-Protocol-Version", LEGACY), ("Mcp-Session-Id", await shaken(one)))
        cases = [Case("", True, head, body) for body in bodies]
        told.append([
            await spoken(one, request(one, cases[0]))
        ])  # the upstream's eras are known now
        before = fast.answered
        told[-1] += [await spoken(one, request(one, case)) for case in cases[1:]]
        answered.append(fast.answered - before)
    assert told[0] == told[1]
    assert answered == [2, 0]


async def test_a_client_that_hangs_up_in_either_lane_has_its_call_cancelled_upstream(
    lanes: tuple[Lane, Lane],
) -> None:
    for one in lanes:
        before = len(one.raw.requests)
        _, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(request(one, tool("waits", fast=False)))
        with anyio.fail_after(10):
            connection = await one.called("waits", before)
            writer.close()
            await one.left(connection)
        assert one.entries(1)[0]["outcome"] == "cancelled"


async def test_a_legacy_client_cancels_in_either_lane(lanes: tuple[Lane, Lane]) -> None:
    told = []
    note = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"w"}}'
    body = b'{"jsonrpc":"2.0","id":"w","method":"tools/call","params":{"name":"waits"}}'
    for one in lanes:
        head = (("MCP-Protocol-Version", LEGACY), ("Mcp-Session-Id", await shaken(one)))
        before = len(one.raw.requests)
        async with anyio.create_task_group() as tasks:

            async def ask(one: Lane = one, head: Any = head) -> None:
                told.append(await spoken(one, request(one, Case("", False, head, body))))

            tasks.start_soon(ask)
            await one.called("waits", before)
            await spoken(one, request(one, Case("", False, head, note)))
        assert one.entries(1)[0]["outcome"] == "cancelled"
    assert told[0] == told[1]


def request(one: Lane, case: Case) -> bytes:
    lines = [
        f"POST {case.path} HTTP/1.1",
        f"Host: 127.0.0.1:{one.port}",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        *(f"{name}: {value}" for name, value in case.head),
        f"Content-Length: {len(case.body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + case.body


async def spoken(one: Lane, sent: bytes, answers: int = 1) -> bytes:
    """What the hub says to requests on a connection of their own, call ids blotted out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port, limit=2**24)
    try:
        writer.write(sent)
        said = b""
        with anyio.fail_after(10):
            for _ in range(answers):
                said += await answer(reader)
    finally:
        writer.close()
    said = re.sub(rb'"requestState":"[^"]*"', b"STATE", said)
    said = re.sub(rb"(?m)^id: [!-~]+", b"id: EVENT", said)
    return CALL_ID.sub(b"CALL", re.sub(rb'"since":"[^"]*"', b"SINCE", said))


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return head + await answer(reader)
    lower = head.lower()
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        return head + await reader.readexactly(length)
    if b"transfer-encoding: chunked" in lower:
        return head + await reader.readuntil(b"0\r\n\r\n")
    return head


async def shaken(one: Lane) -> str:
    """A session id."""
    params = {
        "protocolVersion": LEGACY,
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "0"},
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(request(one, Case("", False, (), body.encode())))
    head = await answer(reader)
    writer.close()
    found = re.search(rb"mcp-session-id: ([!-~]+)", head)
    assert found is not None
    return found[1].decode()


def without_id(body: bytes) -> bytes:
    body = re.sub(rb'"id":\d+', b'"id":0', body)
    return re.sub(rb'"progressToken":\d+', b'"progressToken":0', body)
