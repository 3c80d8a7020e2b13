"""What a warm call costs in kind: one upstream request, and nothing made anew on its way."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio._backends._asyncio import TaskGroup
from sqlalchemy import Engine, event

from hub.administration.authority import local_administrator
from hub.administration.upstreams import UpstreamPut, put_upstream
from hub.app import Hub, Settings, composed
from tests.peers.raw_caller import raw_caller
from tests.peers.raw_server import RawServer, Received, Wire, raw_server
from tests.peers.served_hub import served

pytestmark = pytest.mark.anyio

CALLS = 200
DISCOVERED = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 60000,
    "cacheScope": "public",
}
TOOLS = {
    "resultType": "complete",
    "tools": [{"name": "echo", "inputSchema": {"type": "object"}}],
    "ttlMs": 60000,
    "cacheScope": "public",
}


async def modern(received: Received, wire: Wire) -> None:
    if received.rpc_method == "server/discover":
        await wire.result(json.dumps(DISCOVERED).encode())
    elif received.rpc_method == "tools/list":
        await wire.result(json.dumps(TOOLS).encode())
    elif received.rpc_method == "tools/call":
        await wire.result(b'{"resultType":"complete","content":[]}')
    else:
        await wire.error(404, -32601)


class Counted:
    """How often things were made or done while counting was on."""

    def __init__(self) -> None:
        self.on = False
        self.counts = dict.fromkeys(("statements", "tls contexts", "clients", "task groups"), 0)

    def note(self, what: str) -> None:
        if self.on:
            self.counts[what] += 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts what the constructors themselves are asked for; they work as ever."""
    counted = Counted()

    def count(kind: Any, what: str) -> None:
        made = kind.__init__

        def counting(self: Any, *args: Any, **kwargs: Any) -> None:
            counted.note(what)
            if made is not object.__init__:
                made(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", counting)

    count(httpx2.AsyncClient, "clients")
    count(ssl.SSLContext, "tls contexts")
    count(TaskGroup, "task groups")
    event.listen(Engine, "before_cursor_execute", lambda *_: counted.note("statements"))
    return counted


@asynccontextmanager
async def hub_before(upstream: RawServer, data: Path) -> AsyncIterator[Hub]:
    async with composed(Settings(data=data)) as hub, hub.upstreams.running():
        put = UpstreamPut.model_validate({"name": "echoing", "url": upstream.url})
        await put_upstream(hub.desk, local_administrator("default"), "default", put)
        await hub.control.refresh()
        with anyio.fail_after(5):
            await hub.upstreams.refresh("default", "echoing")
            await hub.control.refresh()
        yield hub


async def test_a_warm_call_is_one_upstream_request_and_makes_nothing_anew(
    tmp_path: Path, counted: Counted
) -> None:
    async with raw_server(modern) as upstream, hub_before(upstream, tmp_path / "data") as hub:
        async with served(hub) as port, raw_caller(f"http://127.0.0.1:{port}/mcp") as caller:
            for _ in range(3):
                await caller.post("tools/call", {"name": "echo", "arguments": {}}, "echo")
            requests, connections = len(upstream.requests), upstream.connections
            counted.on = True
            for _ in range(CALLS):
                await caller.post("tools/call", {"name": "echo", "arguments": {"n": 1}}, "echo")
                await caller.post("tools/list", {})
            counted.on = False
        assert len(upstream.requests) - requests == CALLS
        assert upstream.connections == connections
    assert counted.counts == dict.fromkeys(counted.counts, 0)
