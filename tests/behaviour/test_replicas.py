"""Three hubs on one PostgreSQL and one Redis: limits, budgets and usage are those of one."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.peers.portico import Portico, portico, running_portico
from tests.peers.postgresql import running_postgresql
from tests.peers.redis import running_redis
from tests.peers.running import modern_server

pytestmark = pytest.mark.anyio

HUBS = 3
CALLERS = 100
ALLOWED = 60
MODERN = "2026-07-28"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def config(store: str, redis: str, upstream: str) -> str:
    return f"""
version: 1
store: {{url: "{store}"}}
redis: {{url: "{redis}", processes: {HUBS}}}
upstreams: {{calc: {{url: "{upstream}"}}}}
principals: {{ann: {{groups: [staff]}}}}
groups: {{staff: {{}}}}
grants: [{{group: staff, virtual_server: default}}]
limits:
  - {{name: day, quota: "{ALLOWED}/month", per: principal, attach: {{tenant: default}}}}
prices: [{{upstream: calc, tool: add, per_call: "0.01 USD"}}]
budgets:
  - {{name: cash, amount: "0.40 USD", period: month, per: group, attach: {{tool: default/add}}}}
"""


async def call(http: httpx2.AsyncClient, hub: Portico, key: str, tool: str) -> str:
    """How a call ended: ``ok``, or the rule that refused it."""
    arguments = {"a": 1, "b": 2} if tool == "add" else {"text": "x"}
    envelope = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": envelope}
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = (await http.post(hub.url, json=message, headers=headers)).json()
    assert "result" in answer, answer
    result = answer["result"]
    refusal = result.get("_meta", {}).get("io.portico/refusal")
    return str(refusal["rule"]) if refusal else "ok"


async def test_three_hubs_count_as_one_and_their_usage_adds_up(tmp_path: Path) -> None:
    ended: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        postgresql = stack.enter_context(running_postgresql())
        redis = stack.enter_context(running_redis())
        upstream = stack.enter_context(modern_server())
        text = config(postgresql.new_database(), redis.url, upstream.url)
        hubs = []
        for number in range(HUBS):
            running = running_portico(tmp_path / f"data{number}", config=text)
            hubs.append(await stack.enter_async_context(running))
        data = tmp_path / "data0"
        key = (await portico("key", "create", "--principal", "ann", data=data))["key"]
        http = await stack.enter_async_context(
            httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=CALLERS))
        )
        for hub in hubs:
            with anyio.fail_after(20):
                while (
                    await http.post(hub.url, json=PING, headers={"X-API-Key": key})
                ).status_code == 401:
                    await anyio.lowlevel.checkpoint()

        async def caller(number: int) -> None:
            tool = "add" if number % 2 else "echo"
            how = await call(http, hubs[number % HUBS], key, tool)
            ended[f"{tool} {how}"] = ended.get(f"{tool} {how}", 0) + 1

        async with anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(caller, number)
        executed = ended.get("add ok", 0) + ended.get("echo ok", 0)
        assert executed == ALLOWED
        assert ended.get("add ok", 0) <= 40
        usage = await usage_of(http, hubs[0], CALLERS)
        rows = {row["of"]["tool"]: row["calls"] for row in usage["rows"]}
        assert rows == {
            f"calc/{tool}": ended[f"{tool} ok"] for tool in ("add", "echo") if f"{tool} ok" in ended
        }
        assert usage["total"]["refused"] == CALLERS - ALLOWED
        spent = sum(cost["micro"] for cost in usage["total"]["costs"])
        assert spent == ended.get("add ok", 0) * 10_000
        # While Redis is away a budget refuses and a limit lets each process spend its share.
        redis.kill()
        with anyio.fail_after(20):
            while (await call(http, hubs[0], key, "add")) != "cash":
                await anyio.lowlevel.checkpoint()
        spent = 0
        while await call(http, hubs[1], key, "echo") == "ok":
            spent += 1
        assert spent <= ALLOWED // HUBS
        redis.start()
        with anyio.fail_after(30):
            while "shared" not in (await counting(http, hubs[2])):
                await anyio.lowlevel.checkpoint()
        assert await call(http, hubs[2], key, "echo") == "day"
    for number in range(HUBS):
        assert (await portico("audit", "verify", data=tmp_path / f"data{number}"))["intact"]


async def usage_of(http: httpx2.AsyncClient, hub: Portico, count: int) -> dict[str, Any]:
    """What was used, once every hub has taken its record into the ledger."""
    with anyio.fail_after(30):
        while True:
            answer = await http.get(f"{hub.origin}/api/usage", headers=hub.admin_headers)
            usage: dict[str, Any] = answer.json()
            if usage["total"]["calls"] + usage["total"]["refused"] >= count:
                return usage


async def counting(http: httpx2.AsyncClient, hub: Portico) -> list[str]:
    """How a hub counts now, as its metrics say it."""
    metrics = (await http.get(f"{hub.origin}/metrics")).text
    lines = [line for line in metrics.splitlines() if line.startswith("portico_counting_state")]
    return [line.split('"')[1] for line in lines if line.endswith(" 1.0")]
