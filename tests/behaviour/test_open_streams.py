"""Streams that last: how many there may be, and what one makes up for that another one missed."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from hub.surfaces.mcp.open_streams import OpenStreams
from tests.peers.tiny_hub import WATCHED, TinyHub, tiny_hub

pytestmark = pytest.mark.anyio

REVISION = "2026-07-28"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, streams=OpenStreams(2, 3)) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    accept = {"Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(trust_env=False, timeout=5, headers=accept) as client:
        yield client


async def session_of(http: httpx2.AsyncClient, hub: TinyHub, name: str) -> dict[str, str]:
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await http.post(hub.url, json=body, headers=hub.headers(name))
    return {**hub.headers(name), "Mcp-Session-Id": answer.headers["mcp-session-id"]}


@asynccontextmanager
async def listening(
    http: httpx2.AsyncClient, hub: TinyHub, session: dict[str, str]
) -> AsyncIterator[httpx2.Response]:
    async with http.stream("GET", hub.url, headers=session) as response:
        yield response


def listen() -> tuple[dict[str, Any], dict[str, str]]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": "mine", "method": "subscriptions/listen", "params": params}
    return body, {"MCP-Protocol-Version": REVISION, "Mcp-Method": "subscriptions/listen"}


async def told(lines: AsyncIterator[str]) -> str:
    """The method of the next notification."""
    with anyio.fail_after(5):
        async for line in lines:
            if line.startswith("data: "):
                return str(json.loads(line[6:])["method"]).removeprefix("notifications/")
    raise EOFError


async def test_a_principal_may_have_so_many_streams_and_the_process_so_many_more(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    body, headers = listen()
    alice = [await session_of(http, hub, "alice") for _ in range(3)]
    bob = [await session_of(http, hub, "bob") for _ in range(2)]
    async with AsyncExitStack() as stack:
        for session in alice[:2]:
            stream = await stack.enter_async_context(listening(http, hub, session))
            assert stream.status_code == 200
        refused = [
            await http.get(hub.url, headers=alice[2]),
            await http.post(hub.url, json=body, headers={**hub.headers("alice"), **headers}),
            await http.get(f"{hub.origin}/v/default/sse", headers=hub.headers("alice")),
        ]
        assert [answer.status_code for answer in refused] == [429] * 3
        assert {answer.json()["error"]["code"] for answer in refused} == {-31429}
        assert refused[1].json()["id"] == "mine"
        assert "2 streams of yours are open" in refused[0].text
        assert hub.seen.entries[-1].outcome == "refused"

        stream = await stack.enter_async_context(listening(http, hub, bob[0]))
        assert stream.status_code == 200
        full = await http.get(hub.url, headers=bob[1])
        assert full.status_code == 429
        assert "Too many streams are open here" in full.text
        again = await stack.enter_async_context(listening(http, hub, alice[0]))
        assert again.status_code == 200  # it takes the place of the one before
    await hub.until_idle()
    async with listening(http, hub, alice[2]) as stream:
        assert stream.status_code == 200


async def test_a_new_stream_tells_what_changed_while_there_was_none(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await session_of(http, hub, "alice")
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": WATCHED}}
    async with listening(http, hub, session):
        await http.post(hub.url, json=body, headers=session)
    await hub.until_idle()
    hub.grown.tools = ("echo",)
    hub.regrow()
    async with listening(http, hub, session) as stream:
        lines = stream.aiter_lines()
        missed = {await told(lines), await told(lines)}
        assert missed == {"resources/updated", "tools/list_changed"}
    await hub.until_idle()
    async with listening(http, hub, session) as stream:
        lines = stream.aiter_lines()
        assert await told(lines) == "resources/updated"
        hub.grown.tools = ("echo", "log")
        hub.regrow()
        assert await told(lines) == "tools/list_changed"
