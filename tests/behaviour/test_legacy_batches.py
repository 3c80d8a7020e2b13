"""Batches of 2025-03-26, over every transport of that revision; standard streams: ``test_mcp_stdio``."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.peers.tiny_hub import TinyHub, tiny_hub

pytestmark = pytest.mark.anyio

REVISION = "2025-03-26"
NOTE = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, anonymous=True) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


def request(request_id: Any, method: str, /, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def call(request_id: Any, name: str, /, **arguments: Any) -> dict[str, Any]:
    return request(request_id, "tools/call", name=name, arguments=arguments)


def handshake(revision: str = REVISION) -> dict[str, Any]:
    info = {"name": "test", "version": "1"}
    return request(
        "first", "initialize", protocolVersion=revision, capabilities={}, clientInfo=info
    )


class Connected:
    """A session over HTTP+SSE: posts, and what comes on the stream."""

    def __init__(self, http: httpx2.AsyncClient, url: str, lines: AsyncIterator[str]) -> None:
        self._http = http
        self._url = url
        self._lines = lines

    async def post(self, body: Any) -> int:
        return (await self._http.post(self._url, json=body)).status_code

    async def next(self) -> Any:
        with anyio.fail_after(5):
            async for line in self._lines:
                if line.startswith("data: "):
                    return json.loads(line[6:])
        raise EOFError


@asynccontextmanager
async def over_sse(
    http: httpx2.AsyncClient, hub: TinyHub, revision: str = REVISION
) -> AsyncIterator[Connected]:
    async with http.stream("GET", f"{hub.origin}/v/default/sse") as response:
        lines = response.aiter_lines()
        path = ""
        while not path:
            path = (await anext(lines)).partition("data: ")[2]
        connected = Connected(http, hub.origin + path, lines)
        await connected.post(handshake(revision))
        assert (await connected.next())["id"] == "first"
        yield connected


async def over_http(http: httpx2.AsyncClient, hub: TinyHub, body: Any) -> httpx2.Response:
    answer = await http.post(hub.url, json=handshake())
    session = {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
    return await http.post(hub.url, json=body, headers=session)


async def test_over_http_and_sse_a_batch_is_answered_by_one_array_each_item_its_own_call(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with over_sse(http, hub) as connected:
        before = len(hub.seen.entries)
        batch = [
            call(1, "echo", text="one"), NOTE, request(2, "ping"), call("three", "slow"),
            {"jsonrpc": "2.0", "id": 4}, handshake(), request(5, "no/such"),
        ]  # fmt: skip
        assert await connected.post(batch) == 202
        answers = {item["id"]: item for item in await connected.next()}
        assert answers[1]["result"]["content"][0]["text"] == "one"
        assert answers[2]["result"] == {}
        assert answers["three"]["result"]["content"][0]["text"] == "done"
        assert [answers[key]["error"]["code"] for key in (4, "first", 5)] == [
            -32600, -32600, -32601,
        ]  # fmt: skip
        assert len(hub.seen.entries) - before == 2
        assert await connected.post([NOTE, NOTE]) == 202
        assert await connected.post(request(6, "ping")) == 202
        assert (await connected.next())["id"] == 6


async def test_fifty_messages_are_a_batch_and_fifty_one_are_refused(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    pings = [request(number, "ping") for number in range(51)]
    async with over_sse(http, hub) as connected:
        assert await connected.post(pings) == 400
        assert await connected.post([]) == 400
        assert await connected.post(pings[:50]) == 202
        assert [item["id"] for item in await connected.next()] == list(range(50))
    answer = await over_http(http, hub, pings[:50])
    assert len(answer.json()) == 50
    assert (await over_http(http, hub, pings)).status_code == 400


async def test_a_cancelled_item_is_left_out_of_the_answer(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with over_sse(http, hub) as connected:
        await connected.post([call("c", "hang"), request(2, "ping")])
        await hub.until("hang started")
        cancel = {"method": "notifications/cancelled", "params": {"requestId": "c"}}
        await connected.post({"jsonrpc": "2.0", **cancel})
        (only,) = await connected.next()
        assert only["id"] == 2


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_no_other_revision_has_batches(
    hub: TinyHub, http: httpx2.AsyncClient, revision: str
) -> None:
    async with over_sse(http, hub, revision) as connected:
        assert await connected.post([request(1, "ping")]) == 400


async def test_what_belongs_to_the_other_era_is_refused_inside_a_batch(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    envelope = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    answer = await over_http(http, hub, [request(1, "server/discover", _meta=envelope)])
    assert answer.json()[0]["error"]["code"] == -32600
