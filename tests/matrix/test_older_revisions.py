"""Clients of the revisions before 2025-11-25 get nothing that is younger than they are."""

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx2
import pytest

from mcp_wire.codes import META_CALL
from tests.matrix.conftest import headers_of, until_listed
from tests.matrix.upstreams import configuration, http_upstreams
from tests.peers.portico import Portico, running_portico

Revision = Literal["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
REVISIONS: tuple[Revision, ...] = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
UPSTREAMS = ("http_legacy", "http_modern")


class Client:
    """A legacy client that speaks exactly one revision."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self.messages: list[Any] = []
        """What came before and with the last answer."""

    async def initialize(self, revision: Revision) -> Any:
        info = {"name": "older", "version": "0"}
        params: dict[str, Any] = {
            "protocolVersion": revision,
            "capabilities": {"elicitation": {}},
            "clientInfo": info,
        }
        result = await self.ask("initialize", params)
        assert result["protocolVersion"] == revision
        return result

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of one request; None for an error."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        accepted = {"Accept": "application/json, text/event-stream"}
        response = await self._http.post(self._url, json=message, headers=accepted)
        assert response.status_code == 200, response.text
        if "mcp-session-id" in response.headers:
            self._http.headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
        self.messages = [json.loads(text) for text in messages_in(response)]
        return self.messages[-1].get("result")

    async def call(self, tool: str) -> Any:
        return await self.ask("tools/call", {"name": tool, "arguments": {}})

    async def tool(self, name: str) -> Any:
        """The definition of a tool."""
        tools = (await self.ask("tools/list", {}))["tools"]
        return next(tool for tool in tools if tool["name"] == name)


def messages_in(response: httpx2.Response) -> list[str]:
    if not response.headers["content-type"].startswith("text/event-stream"):
        return [response.text]
    lines = response.text.splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]


@pytest.fixture(scope="module")
async def authenticated(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Portico, dict[str, str]]]:
    """A Portico of its own, with upstreams that start at once."""
    data = tmp_path_factory.mktemp("older") / "data"
    with http_upstreams() as urls:
        config = configuration({name: f'url: "{urls[name]}"' for name in UPSTREAMS})
        async with running_portico(data, config=config) as hub:
            await until_listed(hub)
            yield hub, await headers_of(hub)


@pytest.fixture(params=UPSTREAMS)
async def client(
    request: pytest.FixtureRequest, authenticated: tuple[Portico, dict[str, str]]
) -> AsyncIterator[Client]:
    """Not initialized yet."""
    hub, headers = authenticated
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=5) as http:
        yield Client(http, f"{hub.origin}/v/{request.param}/mcp")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_content_that_is_younger_than_the_client_becomes_text(
    client: Client, revision: Revision
) -> None:
    await client.initialize(revision)
    result = await client.call("kinds")
    text, recording, link = result["content"]
    assert text == {"type": "text", "text": "all of it"}
    assert recording["type"] == ("text" if revision < "2025-03-26" else "audio")
    assert link["type"] == ("text" if revision < "2025-06-18" else "resource_link")
    assert "memo://static" in json.dumps(link)
    assert ("structuredContent" in result) == (revision >= "2025-06-18")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_icons_are_left_out_before_2025_11_25(client: Client, revision: Revision) -> None:
    await client.initialize(revision)
    tool = await client.tool("kinds")
    assert ("icons" in tool) == (revision >= "2025-11-25")
    assert ("outputSchema" in tool) == (revision >= "2025-06-18")
    assert ("title" in tool) == (revision >= "2025-06-18")


@pytest.mark.parametrize("revision", REVISIONS[:2])
async def test_nothing_is_elicited_before_2025_06_18(client: Client, revision: Revision) -> None:
    await client.initialize(revision)
    result = await client.call("elicit")
    assert result is None or result["isError"] is True
    assert [message for message in client.messages if "method" in message] == []


async def test_lists_and_results_have_nothing_that_only_the_modern_era_knows(
    client: Client,
) -> None:
    await client.initialize("2025-11-25")
    listed = await client.ask("tools/list", {})
    assert {"ttlMs", "cacheScope", "resultType"}.isdisjoint(listed)
    called = await client.call("kinds")
    assert {"resultType", "inputRequests", "requestState"}.isdisjoint(called)
    assert set(called["_meta"]) == {META_CALL}
