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
from tests.peers.redis import Redis, running_redis
from tests.peers.ruled_hub import ruled_hub
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

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        # The ledger takes in the record in batches, beside the calls.
        if "ledger_" not in text and not text.startswith("BEGIN"):
            counted.note("statements")

    event.listen(Engine, "before_cursor_execute", statement)
    return counted


RULES = {
    "guardrails": [
        {"name": "secrets", "check": "secrets", "on": ["request", "response"], "action": "redact",
         "attach": {"tenant": "default"}},
        {"name": "shape", "check": "json_schema", "on": ["request"], "action": "block",
         "attach": {"tenant": "default"}},
    ],
    "limits": [
        {"name": "burst", "rate": "1000000/s", "per": "principal", "attach": {"tenant": "default"}},
        {"name": "width", "concurrency": 100, "per": "tenant", "attach": {"tenant": "default"}},
    ],
    "prices": [{"upstream": "echoing", "per_call": "0.01 USD"}],
    "budgets": [{"name": "month", "amount": "1000.00 USD", "period": "month", "per": "tenant",
                 "attach": {"tenant": "default"}}],
}  # fmt: skip


async def test_a_warm_call_under_rules_reads_nothing_and_stays_in_the_fast_lane(
    tmp_path: Path, counted: Counted
) -> None:
    async with raw_server(modern) as upstream:
        document = {"version": 1, "upstreams": {"echoing": {"url": upstream.url}}, **RULES}
        async with (
            ruled_hub(tmp_path / "data", document) as hub,
            raw_caller(hub.url()) as caller,
        ):
            for _ in range(3):
                await caller.post("tools/call", {"name": "echo", "arguments": {}}, "echo")
            lane = hub.hub.fast_lane
            assert lane is not None
            requests, answered = len(upstream.requests), lane.answered_count
            counted.on = True
            for _ in range(CALLS):
                await caller.post("tools/call", {"name": "echo", "arguments": {"n": 1}}, "echo")
            counted.on = False
            assert len(upstream.requests) - requests == CALLS
            assert lane.answered_count - answered == CALLS
    assert counted.counts == dict.fromkeys(counted.counts, 0)


async def test_a_call_asks_redis_once_and_waits_for_nothing_else_of_it(tmp_path: Path) -> None:
    with running_redis() as redis:
        async with raw_server(modern) as upstream:
            document = {"version": 1, "upstreams": {"echoing": {"url": upstream.url}}, **RULES}
            async with (
                ruled_hub(tmp_path / "data", document, redis=redis.url) as hub,
                raw_caller(hub.url()) as caller,
            ):
                await caller.post("tools/call", {"name": "echo", "arguments": {}}, "echo")
                before = scripts_run(redis)
                for _ in range(CALLS):
                    await caller.post("tools/call", {"name": "echo", "arguments": {}}, "echo")
                # One that is awaited, and what ended before, told along with it or by itself; beside
                # them a heartbeat each second.
                assert CALLS <= scripts_run(redis) - before <= 2 * CALLS + 10


def scripts_run(redis: Redis) -> int:
    """How many scripts Redis has run."""
    for line in redis.run("INFO", "commandstats").splitlines():
        if line.startswith("cmdstat_evalsha:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


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
