"""MCP over standard streams: as a process of its own, and as a relay to a running hub."""

import json
import math
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx2
import mcp_types as types
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from hub.domain.outcome import Event, Pause, Progress
from hub.pipeline import Admitted
from hub.surfaces.mcp.stdio_relay import Hub, StdioRelay
from mcp_wire.jsonrpc import raw
from tests.peers.clients import ERAS, Era, text_of
from tests.peers.tiny_hub import WATCHED, TinyHub, text_result, tiny_hub

pytestmark = pytest.mark.anyio

REVISION = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def program(data: Path) -> list[str]:
    return [sys.executable, "-m", "tests.peers.tiny_stdio", str(data)]


class Lines:
    """One process, spoken to line by line."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)

    async def send(self, message: Any) -> None:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self._stdin.send(text + b"\n")

    async def next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self._line())
        return message

    async def array(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = json.loads(await self._line())
        return messages

    async def _line(self) -> bytes:
        with anyio.fail_after(10):
            return await self._stdout.receive_until(b"\n", 1 << 24)

    async def end_input(self) -> int:
        await self._stdin.aclose()
        with anyio.fail_after(10):
            return await self.process.wait()


@asynccontextmanager
async def started(data: Path) -> AsyncIterator[Lines]:
    root = Path(__file__).parents[2]
    async with await anyio.open_process(program(data), cwd=root, stderr=None) as process:
        try:
            yield Lines(process)
        finally:
            if process.returncode is None:
                process.kill()


def modern(request_id: Any, method: str, **params: Any) -> dict[str, Any]:
    meta = {**ENVELOPE, **params.pop("meta", {})}
    return {
        "jsonrpc": "2.0",
        "id": request_id,
        "method": method,
        "params": {**params, "_meta": meta},
    }


def legacy(request_id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def initialize(request_id: Any = 0, revision: str = "2025-11-25") -> dict[str, Any]:
    info = {"name": "test", "version": "1"}
    return legacy(
        request_id, "initialize", protocolVersion=revision, capabilities={}, clientInfo=info
    )


@pytest.mark.parametrize("era", ERAS)
async def test_the_sdk_client_starts_it_and_uses_everything(tmp_path: Path, era: Era) -> None:
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async def answer(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"colour": "red"})

    command, *arguments = program(tmp_path)
    parameters = StdioServerParameters(
        command=command, args=arguments, cwd=str(Path(__file__).parents[2])
    )
    mode = "legacy" if era == "legacy" else "auto"
    async with Client(stdio_client(parameters), mode=mode, elicitation_callback=answer) as client:
        assert client.protocol_version == ("2025-11-25" if era == "legacy" else REVISION)
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        assert text_of(await client.call_tool("echo", {"text": "hi"})) == "hi"
        assert text_of(await client.call_tool("slow", {}, progress_callback=note)) == "done"
        assert seen == [1, 2, 3]
        assert text_of(await client.call_tool("ask", {})) == "accept:red"


async def test_each_message_is_judged_by_its_own_era(tmp_path: Path) -> None:
    async with started(tmp_path) as lines:
        await lines.send(legacy(1, "tools/list"))
        assert (await lines.next())["error"]["code"] == -32600
        await lines.send(modern(2, "server/discover"))
        assert REVISION in (await lines.next())["result"]["supportedVersions"]
        await lines.send(initialize(3, "2025-06-18"))
        assert (await lines.next())["result"]["protocolVersion"] == "2025-06-18"
        await lines.send(legacy(4, "ping"))
        assert (await lines.next()) == {"jsonrpc": "2.0", "id": 4, "result": {}}
        await lines.send(legacy("five", "tools/call", name="echo", arguments={"text": "a"}))
        assert (await lines.next())["id"] == "five"
        await lines.send(modern(6, "ping"))
        assert (await lines.next())["error"]["code"] == -32601
        await lines.send(
            modern(7, "tools/list", meta={"io.modelcontextprotocol/protocolVersion": "2099-01-01"})
        )
        assert (await lines.next())["error"]["code"] == -32022
        await lines.send(b"{not json")
        assert (await lines.next())["error"]["code"] == -32700
        assert await lines.end_input() == 0


async def test_a_batch_is_answered_as_one_line_in_the_one_revision_that_has_them(
    tmp_path: Path,
) -> None:
    batch = [
        legacy(1, "ping"),
        legacy(2, "tools/call", name="echo", arguments={"text": "two"}),
        {"jsonrpc": "2.0", "id": 3},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        initialize(4),
        modern(5, "server/discover"),
    ]
    async with started(tmp_path) as lines:
        await lines.send(batch)
        assert (await lines.next())["error"]["code"] == -32600
        await lines.send(initialize(0, "2025-03-26"))
        assert (await lines.next())["id"] == 0
        await lines.send(batch)
        answers = {message["id"]: message for message in await lines.array()}
        assert answers[1]["result"] == {}
        assert answers[2]["result"]["content"][0]["text"] == "two"
        assert [answers[number]["error"]["code"] for number in (3, 4, 5)] == [-32600] * 3
        assert len(answers) == 5
        await lines.send([{"jsonrpc": "2.0", "method": "notifications/initialized"}])
        await lines.send(legacy(6, "ping"))
        assert (await lines.next())["id"] == 6  # a batch that asks nothing is not answered
        for size in (0, 51):
            await lines.send([legacy(number, "ping") for number in range(size)])
            assert (await lines.next())["error"]["code"] == -32600
        assert await lines.end_input() == 0


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_request_is_not_answered(tmp_path: Path, era: Era) -> None:
    make = modern if era == "modern" else legacy
    async with started(tmp_path) as lines:
        if era == "legacy":
            await lines.send(initialize())
            await lines.next()
        await lines.send(make(1, "tools/call", name="hang", arguments={}))
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        await lines.send({**cancelled, "params": {"requestId": 99}})
        await lines.send({**cancelled, "params": {"requestId": 1}})
        await lines.send(make(2, "tools/call", name="echo", arguments={"text": "after"}))
        assert (await lines.next())["id"] == 2
        assert await lines.end_input() == 0


async def test_a_subscription_is_acknowledged_and_ends_with_its_answer(tmp_path: Path) -> None:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": [WATCHED]}
    async with started(tmp_path) as lines:
        await lines.send(modern("sub", "subscriptions/listen", notifications=wanted))
        first = await lines.next()
        assert first["params"]["notifications"] == wanted
        await lines.send(modern("other", "subscriptions/listen", notifications={}))
        await lines.next()
        cancel = {"requestId": "other"}
        await lines.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
        await lines.send(modern(1, "tools/list"))
        assert (await lines.next())["id"] == 1
        await lines._stdin.aclose()
        last = await lines.next()
        assert last["id"] == "sub"
        assert last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
        with anyio.fail_after(10):
            assert await lines.process.wait() == 0


async def test_calls_under_way_may_end_when_the_client_stops_sending(tmp_path: Path) -> None:
    async with started(tmp_path) as lines:
        await lines.send(modern(1, "tools/call", name="slow", arguments={}))
        await lines._stdin.aclose()
        assert (await lines.next())["id"] == 1
        with anyio.fail_after(10):
            assert await lines.process.wait() == 0


async def test_answers_stay_on_one_line_each(tmp_path: Path) -> None:
    message = modern(1, "tools/call", name="say", arguments={"body": 0})
    text = json.dumps(message).replace('"body": 0', '"body": {"content": [],\\r "a": [1, 2]}')
    async with started(tmp_path) as lines:
        await lines.send(text.replace("\\r", "\r").encode())
        assert (await lines.next())["result"]["a"] == [1, 2]
        assert await lines.end_input() == 0


class Ends:
    """Both ends of a relay under way: what a client writes, and reads."""

    def __init__(self, into: "Pipe", out: "Pipe") -> None:
        self._into = into
        self._out = BufferedByteReceiveStream(out.receiver)

    async def send(self, message: Any) -> None:
        await self._into.send(json.dumps(message).encode() + b"\n")

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            message: dict[str, Any] = json.loads(await self._out.receive_until(b"\n", 1 << 24))
        return message

    async def end_input(self) -> None:
        await self._into.aclose()


class Pipe:
    """A byte stream inside the process, from :meth:`send` to :meth:`receive`."""

    def __init__(self) -> None:
        self.sender, self.receiver = anyio.create_memory_object_stream[bytes](math.inf)

    async def send(self, item: bytes) -> None:
        await self.sender.send(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        assert max_bytes
        return await self.receiver.receive()

    async def aclose(self) -> None:
        self.sender.close()


@asynccontextmanager
async def relayed(url: str, headers: dict[str, str]) -> AsyncIterator[Ends]:
    """A relay to a running hub; leaving the block waits for its end."""
    into, out = Pipe(), Pipe()
    async with httpx2.AsyncClient(trust_env=False, timeout=None) as client:
        relay = StdioRelay(Hub(client, url, headers, (httpx2.TransportError,)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.run, into, out)
            yield Ends(into, out)
            await into.aclose()
        out.sender.close()
        out.receiver.close()
        into.receiver.close()


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path) as running:
        yield running


async def test_a_relay_carries_the_legacy_era_with_its_session_and_its_stream(hub: TinyHub) -> None:
    async with relayed(hub.url, hub.headers()) as client:
        info = {"name": "test", "version": "1"}
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": info,
        }
        await client.send(legacy(0, "initialize", **params))
        assert (await client.next())["result"]["protocolVersion"] == "2025-11-25"
        await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        await client.send(legacy(1, "tools/call", name="ask", arguments={}))
        question = await client.next()
        assert question["method"] == "elicitation/create"
        result = {"action": "accept", "content": {"colour": "red"}}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": result})
        assert (await client.next())["result"]["content"][0]["text"] == "accept:red"
        with anyio.fail_after(5):
            while not hub.surface.open_streams:
                await anyio.lowlevel.checkpoint()
        hub.grown.tools = ("echo", "hang")
        hub.regrow()
        assert (await client.next())["method"] == "notifications/tools/list_changed"
        await client.send(legacy(2, "tools/call", name="hang", arguments={}))
        await hub.until("hang started")
        cancel = {"requestId": 2}
        await client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
        await hub.until("hang cancelled")
    await hub.until_idle()


async def test_a_relay_carries_the_modern_era_and_adds_what_http_wants(hub: TinyHub) -> None:
    async with relayed(hub.url, hub.headers()) as client:
        await client.send(modern(0, "server/discover"))
        assert REVISION in (await client.next())["result"]["supportedVersions"]
        arguments = {"text": "there", "region": "zürich", "count": 3}
        for request_id in (1, 2):
            await client.send(modern(request_id, "tools/call", name="route", arguments=arguments))
            answer = await client.next()
            assert answer["id"] == request_id
            assert answer["result"]["content"][0]["text"] == "there"
        operations = [entry.operation for entry in hub.seen.entries]
        assert operations == [
            "server/discover", "tools/call", "tools/list", "tools/call", "tools/call",
        ]  # fmt: skip
        await client.send(
            modern(3, "tools/call", name="slow", arguments={}, meta={"progressToken": 9})
        )
        told = [await client.next() for _ in range(4)]
        assert [message["params"]["progressToken"] for message in told[:3]] == [9, 9, 9]
        assert told[3]["id"] == 3
        await client.send(modern(4, "tools/call", name="hang", arguments={}))
        await hub.until("hang started")
        cancel = {"requestId": 4}
        await client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
        await hub.until("hang cancelled")


async def test_a_relay_goes_on_with_an_answer_that_the_hub_had_it_wait_for(hub: TinyHub) -> None:
    async def paused(_: Admitted) -> AsyncGenerator[Event]:
        yield Pause(10)
        yield Progress({"progress": raw(1)})
        yield Pause(10)
        yield text_result("at last")

    hub.scripted.scripts["hang"] = paused
    async with relayed(hub.url, hub.headers()) as client:
        await client.send(initialize())
        await client.next()
        await client.send(legacy(1, "tools/call", name="hang", _meta={"progressToken": "p"}))
        assert (await client.next())["params"] == {"progress": 1, "progressToken": "p"}
        assert (await client.next())["result"]["content"][0]["text"] == "at last"
        await client.end_input()


async def test_a_relay_answers_whatever_becomes_of_the_hub(hub: TinyHub) -> None:
    async with relayed(hub.url, {}) as stranger:
        await stranger.send(modern("a", "tools/list"))
        refused = await stranger.next()
        assert (refused["id"], refused["error"]["code"]) == ("a", -31401)
    async with relayed("http://127.0.0.1:1/mcp", {}) as lost:
        await lost.send(modern("b", "tools/list"))
        failed = await lost.next()
        assert (failed["id"], failed["error"]["code"]) == ("b", -32603)
        assert "cannot be reached" in failed["error"]["message"]
        await lost.send([1])
        await lost.send("no message")
        assert (await lost.next())["error"]["code"] == -32600
