"""Twenty upstreams, most of which nobody here wrote, some of them broken: lists come at once."""

import json
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

import httpx2
import pytest

from tests.peers.clients import connected
from tests.peers.portico import Portico, running_portico
from tests.peers.raw_caller import raw_caller
from tests.peers.raw_server import Received, Wire, raw_server
from tests.peers.running import dual_server, legacy_server, modern_server, sse_server

pytestmark = [pytest.mark.anyio, pytest.mark.alone]

TOOLS = Path(__file__).parents[2] / ".tools/node_modules/.bin"
PEERS = Path(__file__).parents[1] / "peers"

PUBLISHED = {
    "everything": [str(TOOLS / "mcp-server-everything")],
    "memory": [str(TOOLS / "mcp-server-memory")],
    "thinking": [str(TOOLS / "mcp-server-sequential-thinking")],
    "fastmcp": [sys.executable, str(PEERS / "fastmcp_server.py")],
}
LIVE = 17
BROKEN = ("sleeping", "refusing", "garbage")


async def sleeping(received: Received, wire: Wire) -> None:
    await wire.client_left()


async def garbage(received: Received, wire: Wire) -> None:
    await wire.reply(200, b"<html>hello</html>", {"content-type": "text/html"})


def config(commands: dict[str, list[str]], urls: dict[str, str]) -> str:
    lines = ["version: 1", "upstreams:"]
    lines += [f"  {name}: {{command: {words!r}}}" for name, words in commands.items()]
    lines += [f'  {name}: {{url: "{url}"}}' for name, url in urls.items()]
    lines += ["virtual_servers:", "  all:", "    anonymous: true", "    include:"]
    lines += [f"      - {{upstream: {name}}}" for name in (*commands, *urls)]
    return "\n".join(lines)


@pytest.fixture(scope="module")
async def hub(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> AsyncIterator[Portico]:
    tmp_path = tmp_path_factory.mktemp("many")
    published = dict(PUBLISHED)
    published["files"] = [str(TOOLS / "mcp-server-filesystem"), str(tmp_path)]
    async with AsyncExitStack() as stack:
        urls = {"refusing": f"http://127.0.0.1:{free_port()}/mcp"}
        for name, script in (("sleeping", sleeping), ("garbage", garbage)):
            urls[name] = (await stack.enter_async_context(raw_server(script))).url
        kinds = (modern_server, legacy_server, dual_server, sse_server)
        for index in range(LIVE - len(published)):
            kind = kinds[index % len(kinds)]
            urls[f"peer{index}"] = stack.enter_context(kind()).url
        portico = await stack.enter_async_context(
            running_portico(tmp_path / "data", config=config(published, urls))
        )
        await until_tried(portico)
        yield portico


async def test_lists_come_at_once_and_say_what_is_missing(hub: Portico) -> None:
    async with raw_caller(f"{hub.origin}/v/all/mcp") as caller:
        durations = []
        for _ in range(200):
            began = perf_counter()
            answer = await caller.post_raw("tools/list", {})
            durations.append((perf_counter() - began) * 1000)
    listed = json.loads(answer)["result"]
    assert len(listed["tools"]) > 100
    states = listed["_meta"]["io.portico/upstreams"]
    marked = {name for name, status in states.items() if status["state"] != "live"}
    assert marked == set(BROKEN)
    p99 = statistics.quantiles(durations, n=100)[98]
    assert p99 <= 100, f"a list took {p99:.1f} ms at the 99th percentile"


async def test_a_broken_upstream_costs_only_its_own_tools(hub: Portico) -> None:
    async with connected(f"{hub.origin}/v/all/mcp", "legacy") as client:
        result = await client.call_tool("add", {"a": 20, "b": 22})
        assert not result.is_error
        listed = await client.call_tool("list_allowed_directories", {})
        assert not listed.is_error


async def until_tried(hub: Portico) -> None:
    """Wait until each upstream was tried; npm programs take their time to start."""
    async with httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http:
        status = (await http.get("/api/status")).json()
        names = {upstream["upstream"] for upstream in status["upstreams"]} - {"sleeping"}
        for name in names:
            await http.post(f"/api/upstreams/{name}/refresh", timeout=60)
        status = (await http.get("/api/status")).json()
    states = [upstream["state"] for upstream in status["upstreams"]]
    assert states.count("live") == LIVE, status
