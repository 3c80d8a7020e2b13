"""HTTP+SSE (2024-11-05): one stream for everything the server says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.sse import sse_client

from mcp_wire.revisions import LEGACY_REVISIONS
from tests.peers.clients import text_of
from tests.peers.tiny_hub import WATCHED, TinyHub, tiny_hub

pytestmark = pytest.mark.anyio

URL = "/v/default/sse"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, heartbeat_s=0.05) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


class Stream:
    """An open stream: where to post, and what comes."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()
        self.comments = 0

    async def data(self) -> str:
        with anyio.fail_after(5):
            async for line in self._lines:
                self.comments += line.startswith(":")
                if line.startswith("data: "):
                    return line[6:]
        raise EOFError

    async def message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.data())
        return message


@asynccontextmanager
async def opened(
    http: httpx2.AsyncClient, hub: TinyHub, name: str = "alice", path: str = URL
) -> AsyncIterator[tuple[Stream, str]]:
    async with http.stream("GET", hub.origin + path, headers=hub.headers(name)) as response:
        assert response.status_code == 200
        stream = Stream(response)
        yield stream, hub.origin + await stream.data()


def initialize(revision: str = "2024-11-05", **capabilities: Any) -> dict[str, Any]:
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": info}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


async def test_the_sdk_client_uses_everything(hub: TinyHub) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async def answer(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"colour": "red"})

    transport = sse_client(hub.origin + URL, headers=hub.headers())
    async with Client(transport, mode="legacy", elicitation_callback=answer) as client:
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        assert text_of(await client.call_tool("echo", {"text": "hello"})) == "hello"
        assert text_of(await client.call_tool("slow", {}, progress_callback=note)) == "done"
        assert told == [1, 2, 3]
        assert text_of(await client.call_tool("ask", {})) == "accept:red"
    await hub.until_idle()


@pytest.mark.parametrize("path", [URL, "/v/dev/sse", "/t/default/v/dev/sse"])
async def test_the_first_event_names_where_to_post(
    hub: TinyHub, http: httpx2.AsyncClient, path: str
) -> None:
    async with opened(http, hub, path=path) as (stream, url):
        assert url.startswith(f"{hub.origin}{path}/messages?")
        taken = await http.post(url, json=initialize(), headers=hub.headers())
        assert (taken.status_code, taken.content) == (202, b"")
        answer = await stream.message()
        assert answer["result"]["protocolVersion"] == "2024-11-05"
        assert answer["result"]["instructions"] == "Ask me anything."
    await hub.until_idle()


@pytest.mark.parametrize("revision", [*LEGACY_REVISIONS, "1999-01-01"])
async def test_every_legacy_revision_can_be_settled_and_holds_for_the_channel(
    hub: TinyHub, http: httpx2.AsyncClient, revision: str
) -> None:
    settled = revision if revision in LEGACY_REVISIONS else LEGACY_REVISIONS[-1]
    link = {"type": "resource_link", "uri": "memo://static", "name": "static"}
    audio = {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
    said = {"content": [link, audio], "structuredContent": {"a": 1}}
    async with opened(http, hub) as (stream, url):

        async def ask(method: str, **params: Any) -> dict[str, Any]:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            assert (await http.post(url, json=body, headers=hub.headers())).status_code == 202
            return await stream.message()

        early = await ask("tools/list")
        assert early["error"]["message"] == "Send 'initialize' first."
        await http.post(url, json=initialize(revision, elicitation={}), headers=hub.headers())
        shaken = (await stream.message())["result"]
        assert shaken["protocolVersion"] == settled
        result = (await ask("tools/call", name="say", arguments={"body": said}))["result"]
        kinds = [block["type"] for block in result["content"]]
        assert kinds == [
            "resource_link" if settled >= "2025-06-18" else "text",
            "audio" if settled >= "2025-03-26" else "text",
        ]
        assert ("structuredContent" in result) is (settled >= "2025-06-18")
        assert (await ask("ping"))["result"] == {}
        asked = await ask("tools/call", name="ask", arguments={})
        if settled < "2025-06-18":
            assert "does not support elicitation/create" in asked["result"]["content"][0]["text"]
        else:
            assert asked["method"] == "elicitation/create"
    await hub.until_idle()


async def test_messages_need_the_stream_they_belong_to_and_its_own_principal(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with opened(http, hub) as (_, url):
        assert (await http.post(url, json=initialize())).status_code == 401
        stolen = await http.post(url, json=initialize(), headers=hub.headers("bob"))
        assert stolen.status_code == 404
        other = url.partition("?")[0] + "?session_id=nonsense"
        answer = await http.post(other, json=initialize(), headers=hub.headers())
        assert answer.status_code == 404
        bad = await http.post(
            url, content=b"{", headers={**hub.headers(), "Content-Type": "application/json"}
        )
        assert bad.status_code == 400
    await hub.until_idle()
    late = await http.post(url, json=initialize(), headers=hub.headers())
    assert late.status_code == 404


async def test_who_may_not_enter_gets_no_stream(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    anonymous = await http.get(hub.origin + URL)
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"].startswith("Bearer")
    denied = await http.get(f"{hub.origin}/v/dev/sse", headers=hub.headers("bob"))
    absent = await http.get(f"{hub.origin}/v/nothing/sse", headers=hub.headers("bob"))
    assert denied.status_code == absent.status_code == 403
    assert denied.content == absent.content
    assert (await http.post(hub.origin + URL, json={}, headers=hub.headers())).status_code == 405


async def test_the_stream_is_kept_alive_and_tells_of_changes(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with opened(http, hub) as (stream, url):

        async def post(body: dict[str, Any]) -> None:
            await http.post(url, json=body, headers=hub.headers())

        await post(initialize())
        await stream.message()
        uri = {"uri": WATCHED}
        await post({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": uri})
        assert (await stream.message())["id"] == 1
        hub.touch(WATCHED)
        assert (await stream.message())["method"] == "notifications/resources/updated"
        hub.grown.tools = ("echo",)
        hub.regrow()
        assert (await stream.message())["method"] == "notifications/tools/list_changed"
        assert stream.comments
        hub.revocations.revoke("key of alice")
        with pytest.raises(EOFError):
            await stream.message()
    await hub.until_idle()
    assert hub.seen.watched[-1] == frozenset()


async def test_calls_go_on_when_the_stream_is_lost(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    async with opened(http, hub) as (stream, url):
        await http.post(url, json=initialize(), headers=hub.headers())
        await stream.message()
        params = {"name": "hang", "arguments": {}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        await http.post(url, json=call, headers=hub.headers())
        await hub.until("hang started")
    await hub.until_idle()
    hub.seen.event("hang release").set()
    with anyio.fail_after(5):
        while len(hub.seen.entries) < 2:
            await anyio.lowlevel.checkpoint()
    assert (hub.seen.entries[1].outcome, hub.seen.entries[1].delivered) == ("ok", "none")
