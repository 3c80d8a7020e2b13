"""Notifications that cross a pair of legacy sessions: to the one on the other side, and to no other."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest

from tests.peers import raw_stdio
from tests.peers.portico import Portico, running_portico
from tests.peers.raw_server import LegacyScript, RawServer, Received, Wire, raw_server

pytestmark = pytest.mark.anyio

ROOTS = "notifications/roots/list_changed"
COMPLETE = "notifications/elicitation/complete"
TOOL = {"name": "work", "inputSchema": {"type": "object"}}


class Upstream(LegacyScript):
    """A legacy server with one tool, which keeps the streams of its sessions open."""

    def __init__(self) -> None:
        super().__init__({"GET": self.get, "tools/list": self.list, "tools/call": self.call})
        self.streams: dict[str, Wire] = {}
        self.callers: dict[str, str] = {}
        self.during = b""

    async def get(self, received: Received, wire: Wire) -> None:
        self.streams[received.header("mcp-session-id") or ""] = wire
        await wire.start_stream()
        await wire.client_left()

    async def list(self, _: Received, wire: Wire) -> None:
        await wire.result({"tools": [TOOL]})

    async def call(self, received: Received, wire: Wire) -> None:
        name = received.json["params"]["arguments"]["name"]
        self.callers[name] = received.header("mcp-session-id") or ""
        if not self.during:
            await wire.result({"content": []})
            return
        await wire.start_stream()
        await wire.frame(self.during)
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    async def say(self, name: str, message: bytes) -> None:
        """Send something on the stream of the session in which ``name`` has called."""
        await self.streams[self.callers[name]].frame(message)


def completed(elicitation: str) -> bytes:
    message = {"jsonrpc": "2.0", "method": COMPLETE, "params": {"elicitationId": elicitation}}
    return json.dumps(message).encode()


@pytest.fixture
def script() -> Upstream:
    return Upstream()


@pytest.fixture
async def upstream(script: Upstream) -> AsyncIterator[RawServer]:
    async with raw_server(script) as raw:
        yield raw


@asynccontextmanager
async def hub_of(data: Path, upstream: str) -> AsyncIterator[Portico]:
    config = (
        f"version: 1\nupstreams: {{one: {upstream}}}\n"
        "virtual_servers: {one: {anonymous: true, prefix: never, include: [{upstream: one}]}}\n"
    )
    async with running_portico(data, config=config) as hub:
        yield hub


class Caller:
    """A legacy session that declares roots and elicitation by URL."""

    def __init__(self, hub: Portico, name: str, revision: str = "2025-11-25") -> None:
        self._url = f"{hub.origin}/v/one/mcp"
        self._http = httpx2.AsyncClient(trust_env=False, timeout=10)
        self._http.headers["Accept"] = "application/json, text/event-stream"
        self._revision = revision
        self.name = name

    async def __aenter__(self) -> "Caller":
        info = {"name": "test", "version": "1"}
        capabilities = {"roots": {"listChanged": True}, "elicitation": {"form": {}, "url": {}}}
        params = {
            "protocolVersion": self._revision,
            "capabilities": capabilities,
            "clientInfo": info,
        }
        answer = await self.post("initialize", params, request_id=0)
        self._http.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(
        self, method: str, params: dict[str, Any] | None = None, *, request_id: int | None = None
    ) -> httpx2.Response:
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            body["params"] = params
        if request_id is not None:
            body["id"] = request_id
        return await self._http.post(self._url, json=body)

    async def end(self) -> None:
        assert (await self._http.delete(self._url)).status_code == 204

    async def work(self, tool: str = "work") -> None:
        params = {"name": tool, "arguments": {"name": self.name}}
        answer = await self.post("tools/call", params, request_id=1)
        assert "result" in answer.text, answer.text

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[str]]:
        async with self._http.stream("GET", self._url) as response:
            assert response.status_code == 200
            yield response.aiter_lines()


async def message_on(lines: AsyncIterator[str]) -> dict[str, Any]:
    with anyio.fail_after(8):
        async for line in lines:
            if line.startswith("data: "):
                message: dict[str, Any] = json.loads(line[6:])
                return message
    raise EOFError


async def test_changed_roots_are_told_in_the_callers_own_conversation_alone(
    script: Upstream, upstream: RawServer, tmp_path: Path
) -> None:
    async with (
        hub_of(tmp_path / "data", f'{{url: "{upstream.url}"}}') as hub,
        Caller(hub, "a") as one,
        Caller(hub, "b") as other,
    ):
        await one.post(ROOTS)  # it has no conversation yet
        await one.work()
        await other.work()
        assert (await one.post(ROOTS)).status_code == 202
        with anyio.fail_after(5):
            await upstream.until(lambda: len(upstream.of(ROOTS)) == 1)
        (told,) = upstream.of(ROOTS)
        assert told.header("mcp-session-id") == script.callers["a"]
        await other.post(ROOTS)
        with anyio.fail_after(5):
            await upstream.until(lambda: len(upstream.of(ROOTS)) == 2)
        assert upstream.of(ROOTS)[1].header("mcp-session-id") == script.callers["b"]


async def test_changed_roots_are_told_to_the_callers_own_child(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    command = json.dumps(list(raw_stdio.command("--discover", "error", "--seen", str(seen))))

    def told() -> int:
        return seen.read_text("utf-8").count(ROOTS)

    async with (
        hub_of(tmp_path / "data", f"{{command: {command}}}") as hub,
        Caller(hub, "a") as one,
        Caller(hub, "b") as other,
    ):
        await one.work("pid")
        await other.work("pid")
        await one.post(ROOTS)
        with anyio.fail_after(5):
            while told() < 1:
                await anyio.lowlevel.checkpoint()
        await other.work("pid")
        assert told() == 1


async def test_a_session_that_is_ended_is_ended_upstream(
    script: Upstream, upstream: RawServer, tmp_path: Path
) -> None:
    async with (
        hub_of(tmp_path / "data", f'{{url: "{upstream.url}"}}') as hub,
        Caller(hub, "a") as one,
        Caller(hub, "b") as other,
    ):
        await one.work()
        await other.work()
        await one.end()
        with anyio.fail_after(5):
            await upstream.until(lambda: script.callers["a"] not in script.sessions)
        assert script.callers["b"] in script.sessions
        await other.work()


async def test_a_client_whose_event_stream_ends_is_gone_upstream(
    script: Upstream, upstream: RawServer, tmp_path: Path
) -> None:
    async with (
        hub_of(tmp_path / "data", f'{{url: "{upstream.url}"}}') as hub,
        httpx2.AsyncClient(base_url=hub.origin, trust_env=False, timeout=10) as http,
    ):
        async with http.stream("GET", "/v/one/sse") as response:
            lines = (line[6:] async for line in response.aiter_lines() if line.startswith("data: "))
            endpoint = await anext(lines)
            shake = {
                "protocolVersion": "2024-11-05",
                "capabilities": {"roots": {}},
                "clientInfo": {"name": "test", "version": "1"},
            }
            params = {"name": "work", "arguments": {"name": "a"}}
            for method, sent in (("initialize", shake), ("tools/call", params)):
                message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": sent}
                await http.post(endpoint, json=message)
                assert "result" in json.loads(await anext(lines))
            assert script.callers["a"] in script.sessions
        with anyio.fail_after(5):
            await upstream.until(lambda: script.callers["a"] not in script.sessions)


async def test_the_child_of_a_session_that_is_ended_stops(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    command = json.dumps(list(raw_stdio.command("--discover", "error", "--seen", str(seen))))

    def children(hub: Portico) -> int:
        found = 0
        for child in psutil.Process(hub.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has stopped meanwhile
                found += any("raw_stdio" in word for word in child.cmdline())
        return found

    async with (
        hub_of(tmp_path / "data", f"{{command: {command}}}") as hub,
        Caller(hub, "a") as one,
        Caller(hub, "b") as other,
    ):
        await one.work("pid")
        before = children(hub)
        await other.work("pid")
        assert children(hub) == before + 1
        await other.end()
        with anyio.fail_after(10):
            while children(hub) > before:  # noqa: ASYNC110 -- stopping is not announced
                await anyio.sleep(0.01)
        await one.work("pid")


async def test_a_settled_elicitation_is_told_to_the_session_that_was_asked(
    script: Upstream, upstream: RawServer, tmp_path: Path
) -> None:
    async with (
        hub_of(tmp_path / "data", f'{{url: "{upstream.url}"}}') as hub,
        Caller(hub, "a") as one,
        Caller(hub, "b") as other,
        Caller(hub, "c", "2025-06-18") as old,
        one.listening() as lines,
        other.listening() as other_lines,
        old.listening() as old_lines,
    ):
        for caller in (one, other, old):
            await caller.work()
        with anyio.fail_after(5):
            while not set(script.callers.values()) <= script.streams.keys():
                await anyio.lowlevel.checkpoint()
        await script.say("a", completed("first"))
        told = await message_on(lines)
        assert told == json.loads(completed("first"))
        await script.say("c", completed("unheard of"))
        await script.say("b", completed("second"))
        assert (await message_on(other_lines))["params"] == {"elicitationId": "second"}
        script.during = completed("third")
        await one.work()
        assert (await message_on(lines))["params"] == {"elicitationId": "third"}
        with anyio.move_on_after(0.3):
            raise AssertionError(await message_on(old_lines))
