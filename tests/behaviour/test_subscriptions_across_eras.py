"""What upstreams announce reaches whoever listens: every kind of upstream, callers of both eras."""

import json
import math
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.peers.clients import ERAS, Era, connected, text_of
from tests.peers.portico import Portico, running_portico
from tests.peers.raw_server import LegacyScript, Received, Wire, raw_server
from tests.peers.running import legacy_server, modern_server, sse_server

pytestmark = pytest.mark.anyio

WATCHED = "memo://watched"
UPSTREAMS = ("modern", "legacy", "sse", "stdio")
REVISION = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
WITHIN_S = 8.0
WANTED: dict[str, Any] = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourceSubscriptions": [WATCHED, "memo://nothing"],
}

CONFIG = """
version: 1
upstreams:
  modern: {{url: "{modern}"}}
  legacy: {{url: "{legacy}"}}
  sse: {{url: "{sse}", transport: sse}}
  stdio: {{command: {command}, cwd: "{cwd}"}}
virtual_servers:
  modern: {{anonymous: true, prefix: never, include: [{{upstream: modern}}]}}
  legacy: {{anonymous: true, prefix: never, include: [{{upstream: legacy}}]}}
  sse: {{anonymous: true, prefix: never, include: [{{upstream: sse}}]}}
  stdio: {{anonymous: true, prefix: never, include: [{{upstream: stdio}}]}}
"""


@pytest.fixture(scope="module")
def peers() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {
            "modern": stack.enter_context(modern_server()).url,
            "legacy": stack.enter_context(legacy_server()).url,
            "sse": stack.enter_context(sse_server()).url,
        }


@pytest.fixture(scope="module")
async def hub(
    peers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Portico]:
    command = json.dumps([sys.executable, "-m", "tests.peers.stdio_server", "--era", "legacy"])
    config = CONFIG.format(**peers, command=command, cwd=Path(__file__).parents[2])
    data = tmp_path_factory.mktemp("hub") / "data"
    async with running_portico(data, config=config) as running:
        yield running


class Listener:
    """One open stream of a caller, and the notifications that come on it."""

    def __init__(self) -> None:
        self._sent, self._received = anyio.create_memory_object_stream[dict[str, Any]](math.inf)

    async def read(self, response: httpx2.Response) -> None:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                await self._sent.send(json.loads(line[6:]))

    async def next(self) -> tuple[str, str]:
        """Method and URI of the next notification."""
        with anyio.fail_after(WITHIN_S):
            message = await self._received.receive()
        return message["method"], message.get("params", {}).get("uri", "")

    async def until(self, method: str, uri: str = "") -> None:
        while await self.next() != (method, uri):
            pass

    def close(self) -> None:
        self._sent.close()
        self._received.close()


@asynccontextmanager
async def listening(url: str, era: Era) -> AsyncIterator[Listener]:
    """A caller that wants to hear of tools, prompts and two resources, one of which there is not."""
    listener = Listener()
    accept = {"Accept": "application/json, text/event-stream"}
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=20, headers=accept) as http,
        anyio.create_task_group() as tasks,
    ):
        start = _listen if era == "modern" else _subscribe
        async with start(http, url) as response:
            tasks.start_soon(listener.read, response)
            if era == "modern":
                await listener._received.receive()
            else:
                await _post(http, url, "resources/subscribe", uri=WATCHED)
            yield listener
            tasks.cancel_scope.cancel()
    listener.close()


@asynccontextmanager
async def _listen(
    http: httpx2.AsyncClient, url: str, wanted: dict[str, Any] = WANTED
) -> AsyncIterator[httpx2.Response]:
    params = {"notifications": wanted, "_meta": ENVELOPE}
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    headers = {"MCP-Protocol-Version": REVISION, "Mcp-Method": "subscriptions/listen"}
    async with http.stream("POST", url, json=body, headers=headers) as response:
        assert response.status_code == 200
        yield response


@asynccontextmanager
async def _subscribe(http: httpx2.AsyncClient, url: str) -> AsyncIterator[httpx2.Response]:
    info = {"name": "test", "version": "1"}
    answer = await _post(
        http, url, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info
    )
    http.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
    async with http.stream("GET", url) as response:
        assert response.status_code == 200
        yield response


async def _post(
    http: httpx2.AsyncClient, url: str, method: str, /, **params: Any
) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
    answer = await http.post(url, json=body)
    assert "result" in answer.json(), answer.text
    return answer


def url_of(hub: Portico, upstream: str) -> str:
    return f"{hub.origin}/v/{upstream}/mcp"


async def done(hub: Portico, upstream: str, tool: str, /, **arguments: Any) -> str:
    async with connected(url_of(hub, upstream), "legacy") as client:
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return text_of(result)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_updates_and_changed_lists_cross_in_every_cell_and_nothing_else_is_told(
    hub: Portico, upstream: str, era: Era
) -> None:
    async with listening(url_of(hub, upstream), era) as listener:
        await done(hub, upstream, "touch", uri=WATCHED)
        assert await listener.next() == ("notifications/resources/updated", WATCHED)
        await done(hub, upstream, "touch", uri="memo://static")
        await done(hub, upstream, "announce_prompts")  # they are the same as before
        await done(hub, upstream, "add_tool", name=f"later_{era}")
        assert await listener.next() == ("notifications/tools/list_changed", "")
        await done(hub, upstream, "touch", uri=WATCHED)
        assert await listener.next() == ("notifications/resources/updated", WATCHED)
        await done(hub, upstream, "remove_tool", name=f"later_{era}")
        assert await listener.next() == ("notifications/tools/list_changed", "")


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_what_is_acknowledged_is_what_the_upstream_agreed_to(
    hub: Portico, upstream: str
) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        http.headers["Accept"] = "application/json, text/event-stream"
        async with _listen(http, url_of(hub, upstream)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    break
    message = json.loads(line[6:])
    assert message["method"] == "notifications/subscriptions/acknowledged"
    assert message["params"]["notifications"] == {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourceSubscriptions": [WATCHED],
    }


@pytest.mark.parametrize("era", ERAS)
async def test_many_changes_at_once_are_told_once(hub: Portico, era: Era) -> None:
    async with listening(url_of(hub, "legacy"), era) as listener:
        async with connected(url_of(hub, "legacy"), "legacy") as client:
            for _ in range(5):
                await client.call_tool("touch", {"uri": WATCHED})
            for number in range(5):
                await client.call_tool("add_tool", {"name": f"burst_{era}_{number}"})
            told = [await listener.next()]
            while told[-1][0] != "notifications/tools/list_changed":
                told.append(await listener.next())
            assert told.count(("notifications/resources/updated", WATCHED)) < 5
            for number in range(5):
                await client.call_tool("remove_tool", {"name": f"burst_{era}_{number}"})
        await listener.until("notifications/tools/list_changed")


@pytest.mark.parametrize("kind", ["legacy", "modern"])
async def test_an_upstream_that_was_away_counts_as_updated(tmp_path: Path, kind: str) -> None:
    serve = legacy_server if kind == "legacy" else modern_server
    with serve() as first:
        config = (
            f'version: 1\nupstreams: {{one: {{url: "{first.url}"}}}}\n'
            "virtual_servers: {one: {anonymous: true, prefix: never, include: [{upstream: one}]}}\n"
        )
        async with running_portico(tmp_path / "data", config=config) as hub:
            url = url_of(hub, "one")
            async with listening(url, "modern") as modern, listening(url, "legacy") as legacy:
                first.stop()
                with serve(port=first.port):
                    with anyio.fail_after(20):
                        for listener in (modern, legacy):
                            await listener.until("notifications/resources/updated", WATCHED)
                    await done(hub, "one", "touch", uri=WATCHED)
                    for listener in (modern, legacy):
                        await listener.until("notifications/resources/updated", WATCHED)


async def test_who_does_not_agree_in_time_is_not_acknowledged(tmp_path: Path) -> None:
    async def subscribe(received: Received, wire: Wire) -> None:
        if received.json["params"]["uri"] == "memo://refused":
            await wire.error(200, -32602)
        elif received.json["params"]["uri"] == "memo://slow":
            await wire.client_left()
        else:
            await wire.result({})

    async def resources(_: Received, wire: Wire) -> None:
        names = ("agreed", "refused", "slow")
        await wire.result({"resources": [{"uri": f"memo://{one}", "name": one} for one in names]})

    async def templates(_: Received, wire: Wire) -> None:
        await wire.result({"resourceTemplates": []})

    script = LegacyScript(
        {
            "resources/subscribe": subscribe,
            "resources/list": resources,
            "resources/templates/list": templates,
        },
        capabilities={"resources": {"subscribe": True}},
    )

    async def acknowledged(url: str, *uris: str) -> tuple[list[str], float]:
        began = anyio.current_time()
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
            http.headers["Accept"] = "application/json, text/event-stream"
            wanted = {"resourceSubscriptions": list(uris)}
            async with _listen(http, url, wanted) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        break
        granted = json.loads(line[6:])["params"]["notifications"]
        return granted.get("resourceSubscriptions", []), anyio.current_time() - began

    async with raw_server(script) as raw:
        config = (
            f'version: 1\nupstreams: {{one: {{url: "{raw.url}"}}}}\n'
            "virtual_servers: {one: {anonymous: true, prefix: never, include: [{upstream: one}]}}\n"
        )
        async with running_portico(tmp_path / "data", config=config) as hub:
            url = url_of(hub, "one")
            honoured, _ = await acknowledged(url, "memo://agreed", "memo://refused")
            assert honoured == ["memo://agreed"]
            honoured, waited_s = await acknowledged(url, "memo://slow")
            assert honoured == []
            assert waited_s < 4
