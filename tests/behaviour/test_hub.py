"""One URL in front of real upstreams, from the command line to the record."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from tests.peers.clients import ERAS, Era, connected, text_of, tool_names
from tests.peers.portico import Portico, portico, running_portico
from tests.peers.running import legacy_server, modern_server

pytestmark = pytest.mark.anyio


def config(modern: str, legacy: str) -> str:
    return f"""
version: 1
upstreams:
  modern: {{url: "{modern}"}}
  legacy: {{url: "{legacy}"}}
principals: {{ci-bot: {{kind: service}}}}
groups: {{engineers: {{members: [ci-bot]}}, support: {{members: []}}}}
virtual_servers:
  dev:
    title: Development
    include:
      - upstream: modern
        tools: [add, echo]
        override:
          echo: {{name: repeat, description: Says it again, arguments: {{text: {{fix: fixed, hide: true}}}}}}
  calm:
    anonymous: true
    include: [{{upstream: legacy, tools: [echo]}}]
grants:
  - {{group: engineers, virtual_server: dev}}
  - {{group: support, virtual_server: dev, tools: [add]}}
"""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Portico]:
    with modern_server() as modern, legacy_server() as legacy:
        async with running_portico(
            tmp_path / "data", config=config(modern.url, legacy.url)
        ) as running:
            yield running


@pytest.mark.parametrize("era", ERAS)
async def test_everything_is_listed_and_called_without_a_key_until_there_is_one(
    hub: Portico, era: Era
) -> None:
    async with connected(hub.url, era) as client:
        names = await tool_names(client)
        assert "slow" in names
        assert "repeat" in names
        result = await client.call_tool("modern_slow", {"steps": 1})
        assert not result.is_error

    made = await portico("key", "create", "--principal", "ci-bot", data=hub.data)
    async with httpx2.AsyncClient() as http:
        refused = await http.post(hub.url, json={"jsonrpc": "2.0", "id": 7, "method": "ping"})
        assert refused.status_code == 401
        assert refused.json()["id"] == 7
        assert refused.headers["www-authenticate"].startswith("Bearer")
    async with connected(f"{hub.origin}/v/dev/mcp", era, key=made["key"]) as client:
        assert await tool_names(client) == ["add", "repeat"]
        result = await client.call_tool("repeat", {"text": "mine"})
        assert text_of(result) == "fixed"
        result = await client.call_tool("add", {"a": 2, "b": 3})
        assert text_of(result) == "5"


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_that_is_denied_looks_like_one_that_does_not_exist(
    hub: Portico, era: Era
) -> None:
    made = await portico("key", "create", "--principal", "ann", "--group", "support", data=hub.data)
    url = f"{hub.origin}/v/dev/mcp"
    async with connected(url, era, key=made["key"]) as client:
        assert await tool_names(client) == ["add"]
        with pytest.raises(MCPError) as denied:
            await client.call_tool("repeat", {})
        with pytest.raises(MCPError) as absent:
            await client.call_tool("repaet", {})
        assert denied.value.error.code == absent.value.error.code == -32602
        assert denied.value.error.message == "Unknown tool: repeat"
        assert absent.value.error.message == "Unknown tool: repaet"


async def test_a_virtual_server_may_be_open_to_local_callers(hub: Portico) -> None:
    await portico("key", "create", "--principal", "ci-bot", data=hub.data)
    async with connected(f"{hub.origin}/v/calm/mcp", "modern") as client:
        assert await tool_names(client) == ["echo"]
    async with httpx2.AsyncClient() as http:
        forwarded = await http.post(
            f"{hub.origin}/v/calm/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "ping"},
            headers={"X-Forwarded-For": "203.0.113.9"},
        )
    assert forwarded.status_code == 401


async def test_each_call_leaves_one_entry_that_can_be_found_and_verified(hub: Portico) -> None:
    async with connected(hub.url, "modern") as client:
        await client.call_tool("add", {"a": 1, "b": 1})
    found = await portico("audit", "search", "--capability", "add", data=hub.data)
    (entry,) = found["items"]
    assert entry["operation"] == "tools/call"
    assert entry["upstream"] == "legacy"
    assert entry["outcome"] == "ok"
    assert entry["principal"] == "anonymous"
    report = await portico("audit", "verify", data=hub.data)
    assert report["intact"]


async def test_administration_needs_the_administrators_key(hub: Portico) -> None:
    async with httpx2.AsyncClient(base_url=hub.origin) as http:
        anonymous = await http.get("/api/upstreams")
        assert anonymous.status_code == 401
        assert anonymous.headers["content-type"] == "application/problem+json"
        listed = await http.get("/api/upstreams", headers=hub.admin_headers)
    assert {item["name"] for item in listed.json()["upstreams"]} == {"modern", "legacy"}


async def test_a_key_limited_to_virtual_servers_does_not_administer(hub: Portico) -> None:
    async with httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http:
        await http.put("/api/principals/root", json={"roles": ["platform_admin"]})
        body = {"principal": "root", "virtual_servers": ["dev"]}
        limited = (await http.post("/api/keys", json=body)).json()
        theirs = {"Authorization": f"Bearer {limited['key']}"}
        widened = await http.post("/api/keys", json={"principal": "root"}, headers=theirs)
        assert widened.status_code == 403
        assert "limited to virtual servers" in widened.json()["detail"]
        assert (await http.get("/api/upstreams", headers=theirs)).status_code == 403
    async with connected(f"{hub.origin}/v/dev/mcp", "modern", key=limited["key"]) as client:
        assert "add" in await tool_names(client)


@pytest.mark.parametrize(
    "value",
    [b'"\xff"', b"1e400", b"9" * 5_000, b"[" * 5_000 + b"]" * 5_000, b'"\\ud800"', b"NaN"],
    ids=["no UTF-8", "infinite", "long", "deep", "half a pair", "no number"],
)
async def test_what_no_parser_agrees_on_is_refused_by_administration(
    hub: Portico, value: bytes
) -> None:
    body = (
        b'{"include":[{"upstream":"modern","override":{"echo":{"arguments":{"text":{"fix":%b}}}}}]}'
    )
    async with httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http:
        refused = await http.put("/api/virtual-servers/odd", content=body % value)
        assert refused.status_code == 400
        assert (await http.get("/api/virtual-servers/odd")).status_code == 404


async def test_revoking_a_key_shuts_it_out_at_once(hub: Portico) -> None:
    made = await portico("key", "create", "--principal", "ci-bot", data=hub.data)
    url = f"{hub.origin}/v/dev/mcp"
    async with connected(url, "modern", key=made["key"]) as client:
        await client.call_tool("add", {"a": 1, "b": 1})
        async with httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http:
            gone = await http.delete(f"/api/keys/{made['id']}")
            assert gone.status_code == 200
        with pytest.raises(MCPError):
            await client.call_tool("add", {"a": 1, "b": 1})
