"""Logs and cancelling in every cell: each kind of upstream, callers of both eras, through Portico."""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest

from tests.peers.clients import ERAS, Era, connected, text_of
from tests.peers.portico import Portico, running_portico
from tests.peers.running import legacy_server, modern_server, sse_server

pytestmark = pytest.mark.anyio

UPSTREAMS = ("modern", "legacy", "sse", "stdio", "stdio_modern")
REVISION = "2026-07-28"


@pytest.fixture(scope="module")
def peers() -> Iterator[dict[str, dict[str, Any]]]:
    def stdio(era: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.peers.stdio_server", "--era", era]
        return {"command": command, "cwd": str(Path(__file__).parents[2])}

    with ExitStack() as stack:
        yield {
            "modern": {"url": stack.enter_context(modern_server()).url},
            "legacy": {"url": stack.enter_context(legacy_server()).url},
            "sse": {"url": stack.enter_context(sse_server()).url, "transport": "sse"},
            "stdio": stdio("legacy"),
            "stdio_modern": stdio("modern"),
        }


@pytest.fixture(scope="module")
async def hub(
    peers: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Portico]:
    servers = {
        name: {"anonymous": True, "prefix": "never", "include": [{"upstream": name}]}
        for name in peers
    }
    config = json.dumps({"version": 1, "upstreams": peers, "virtual_servers": servers})
    data = tmp_path_factory.mktemp("hub") / "data"
    async with running_portico(data, config=config) as running:
        yield running


def url_of(hub: Portico, upstream: str) -> str:
    return f"{hub.origin}/v/{upstream}/mcp"


class Legacy:
    """A legacy session, spoken to by hand."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.http = http
        self.url = url

    async def begin(self) -> None:
        info = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        answer = await self.send("initialize", params)
        self.http.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]

    async def send(self, method: str, params: dict[str, Any]) -> httpx2.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.http.post(self.url, json=body)


def levels_in(answer: httpx2.Response) -> list[str]:
    texts = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    messages = [json.loads(text) for text in texts or [answer.text]]
    assert "result" in messages[-1], answer.text
    return [message["params"]["level"] for message in messages[:-1]]


def log(level: str) -> dict[str, Any]:
    return {"name": "log", "arguments": {"message": "said", "level": level}}


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_the_level_of_a_legacy_session_holds_whatever_the_upstream_speaks(
    hub: Portico, upstream: str
) -> None:
    accept = {"Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(trust_env=False, timeout=20, headers=accept) as http:
        session = Legacy(http, url_of(hub, upstream))
        await session.begin()
        unasked = levels_in(await session.send("tools/call", log("warning")))
        # Before a level is set, what is sent is the server's choice; a modern one sends nothing.
        assert unasked == ([] if upstream in ("modern", "stdio_modern") else ["warning"])
        await session.send("logging/setLevel", {"level": "warning"})
        assert levels_in(await session.send("tools/call", log("error"))) == ["error"]
        assert levels_in(await session.send("tools/call", log("info"))) == []


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_the_level_of_a_modern_request_holds_whatever_the_upstream_speaks(
    hub: Portico, upstream: str
) -> None:
    async def levels(level: str, wanted: str | None) -> list[str]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        if wanted is not None:
            meta["io.modelcontextprotocol/logLevel"] = wanted
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {**log(level), "_meta": meta},
        }
        headers = {
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "log",
            "Accept": "application/json, text/event-stream",
        }
        async with httpx2.AsyncClient(trust_env=False, timeout=20, headers=headers) as http:
            return levels_in(await http.post(url_of(hub, upstream), json=body))

    assert await levels("warning", "info") == ["warning"]
    assert await levels("info", "error") == []
    assert await levels("error", None) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_a_call_given_up_is_cancelled_upstream(hub: Portico, upstream: str, era: Era) -> None:
    name = uuid4().hex
    async with (
        connected(url_of(hub, upstream), "modern") as other,
        connected(url_of(hub, upstream), era) as client,
        anyio.create_task_group() as tasks,
    ):
        with anyio.fail_after(20):
            tasks.start_soon(client.call_tool, "hang", {"name": name})
            await other.call_tool("await_started", {"name": name})
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                result = await other.call_tool("await_cancelled", {"name": name})
                assert text_of(result) == "cancelled"
