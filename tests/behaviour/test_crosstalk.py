"""Clients with the same ids and progress tokens share an upstream session: each hears its own only."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, Literal, get_args

import anyio
import httpx2
import pytest

from tests.peers.clients import ERAS, Era
from tests.peers.eras import only_legacy, only_modern
from tests.peers.mingling_server import build, command
from tests.peers.portico import Portico, running_portico
from tests.peers.running import serving

Upstream = Literal["http_legacy", "http_modern", "sse", "stdio_legacy", "stdio_modern"]
UPSTREAMS: tuple[Upstream, ...] = get_args(Upstream)
ASKED_AT_ONCE: tuple[Upstream, ...] = ("http_legacy", "http_modern", "stdio_modern")
"""Where a question is never in doubt; elsewhere whoever may be asked has a session to itself."""
ONE_STREAM: tuple[Upstream, ...] = ("sse", "stdio_legacy", "stdio_modern")
"""Where a log message does not say whose it is, so that it may reach nobody."""

BATCHES = 25
SIZE = 10
"""Calls that each of two clients makes at the same time: 500 in each era."""
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "twin", "version": "1"},
    "io.modelcontextprotocol/logLevel": "debug",
}
ACCEPTED = {"Accept": "application/json, text/event-stream"}


def config(urls: Mapping[str, str]) -> str:
    lines = ["version: 1", "upstreams:"]
    lines += [f'  {name}: {{url: "{url}"}}' for name, url in urls.items()]
    lines += [f"  stdio_{era}: {{command: {command(era)!r}}}" for era in ERAS]
    lines += ["virtual_servers:"]
    for name in UPSTREAMS:
        lines += [f"  {name}: {{anonymous: true, include: [{{upstream: {name}}}]}}"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portico]:
    with ExitStack() as stack:
        legacy = only_legacy(build().streamable_http_app())
        modern = only_modern(build().streamable_http_app())
        urls = {
            "http_legacy": stack.enter_context(serving(legacy)).url,
            "http_modern": stack.enter_context(serving(modern)).url,
            "sse": stack.enter_context(serving(build().sse_app(), path="/sse")).url,
        }
        data = tmp_path_factory.mktemp("twins") / "data"
        async with (
            running_portico(data, config=config(urls)) as hub,
            httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http,
        ):
            for name in UPSTREAMS:
                await http.post(f"/api/upstreams/{name}/refresh", timeout=60)
            yield hub


class Twin:
    """A client that chooses its ids as its twin does, and hears all that comes."""

    era: Era

    def __init__(self, http: httpx2.AsyncClient, url: str, name: str) -> None:
        self.http = http
        self.url = url
        self.name = name
        self.heard: list[str] = []
        """Log messages of all calls. In the legacy era they belong to the session."""
        self._texts = count()

    async def mingle(self, number: int, among: int, *, asks: bool, logs: bool) -> None:
        """One call; everything that comes for it must be its own."""
        text = f"{self.name} {next(self._texts)}"
        arguments = {"text": text, "number": among, "asks": asks}
        params = {"name": "mingle", "arguments": arguments}
        messages = await self.call(number, params)
        told = [message for message in messages if "method" in message]
        progress, logged = of(told, "notifications/progress"), of(told, "notifications/message")
        asked = of(told, "elicitation/create")
        assert progress == [
            {"progressToken": number, "progress": step, "total": 2, "message": text}
            for step in (1, 2)
        ]
        heard = [log["data"] for log in logged]
        if logs:
            assert heard == [text], messages
        elif self.era == "modern":
            assert heard in ([], [text])
        self.heard += heard
        assert [question["message"] for question in asked] == [text] * asks
        assert len(told) == len(progress) + len(logged) + len(asked)
        answer = messages[-1]
        assert answer["id"] == number
        assert answer["result"]["content"][0]["text"] == text, answer

    async def call(self, number: int, params: dict[str, Any]) -> list[Any]:
        raise NotImplementedError

    async def message(
        self, number: int, params: dict[str, Any], meta: dict[str, Any], **headers: str
    ) -> AsyncIterator[Any]:
        """Whatever answers a call, one message after another."""
        params = {**params, "_meta": {**meta, "progressToken": number}}
        body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        async with self.http.stream("POST", self.url, json=body, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            if response.headers["content-type"] == "application/json":
                yield json.loads(await response.aread())
                return
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line[6:])


class ModernTwin(Twin):
    era = "modern"

    def __init__(self, http: httpx2.AsyncClient, url: str, name: str, *, asks: bool) -> None:
        super().__init__(http, url, name)
        declared: dict[str, Any] = {"elicitation": {}} if asks else {}
        self._meta = {**META, "io.modelcontextprotocol/clientCapabilities": declared}
        self._headers = {
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "mingle",
        }

    async def call(self, number: int, params: dict[str, Any]) -> list[Any]:
        """What came; a question and its answer are told as the legacy era would."""
        messages = [m async for m in self.message(number, params, self._meta, **self._headers)]
        result = messages[-1].get("result", {})
        if result.get("resultType") != "input_required":
            return messages
        ((key, question),) = result["inputRequests"].items()
        answer = {"action": "accept", "content": {"text": question["params"]["message"]}}
        again = {**params, "inputResponses": {key: answer}, "requestState": result["requestState"]}
        return [*messages[:-1], question, *await self.call(number, again)]


class LegacyTwin(Twin):
    era = "legacy"

    def __init__(self, http: httpx2.AsyncClient, url: str, name: str) -> None:
        super().__init__(http, url, name)
        self.strays: list[Any] = []
        """What came on the stream of its session."""

    async def initialize(self, *, asks: bool) -> None:
        declared: dict[str, Any] = {"elicitation": {}} if asks else {}
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": declared,
            "clientInfo": {"name": "twin", "version": "1"},
        }
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        response = await self.http.post(self.url, json=hello)
        self.http.headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
        self.http.headers["MCP-Protocol-Version"] = "2025-11-25"
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await self.http.post(self.url, json=ready)).status_code == 202
        level = {"method": "logging/setLevel", "params": {"level": "debug"}}
        await self.http.post(self.url, json={"jsonrpc": "2.0", "id": 1, **level})

    async def hear(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with self.http.stream("GET", self.url, timeout=None) as response:
            assert response.status_code == 200
            task_status.started()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    self.strays.append(json.loads(line[6:]))

    async def call(self, number: int, params: dict[str, Any]) -> list[Any]:
        messages = []
        async for message in self.message(number, params, {}):
            messages.append(message)
            if message.get("method") == "elicitation/create":
                said = {"action": "accept", "content": {"text": message["params"]["message"]}}
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": said}
                assert (await self.http.post(self.url, json=answer)).status_code == 202
        return messages


def of(told: list[Any], method: str) -> list[Any]:
    return [message["params"] for message in told if message["method"] == method]


@asynccontextmanager
async def twins(hub: Portico, upstream: Upstream, era: Era, *, asks: bool) -> Any:
    """Two clients of one principal, which anonymous ones are."""
    url = f"{hub.origin}/v/{upstream}/mcp"
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    options: Any = {"headers": ACCEPTED, "trust_env": False, "timeout": 30, "limits": limits}
    async with (
        httpx2.AsyncClient(**options) as one,
        httpx2.AsyncClient(**options) as other,
        anyio.create_task_group() as tasks,
    ):
        if era == "modern":
            yield [
                ModernTwin(http, url, name, asks=asks) for http, name in ((one, "a"), (other, "b"))
            ]
        else:
            pair = [LegacyTwin(one, url, "a"), LegacyTwin(other, url, "b")]
            for twin in pair:
                await twin.initialize(asks=asks)
                await tasks.start(twin.hear)
            yield pair
            assert [twin.strays for twin in pair] == [[], []]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_nothing_of_a_thousand_interleaved_calls_reaches_the_wrong_client(
    hub: Portico, upstream: Upstream, era: Era
) -> None:
    can_ask = upstream in ASKED_AT_ONCE
    async with twins(hub, upstream, era, asks=can_ask) as pair:
        for _ in range(BATCHES):
            with anyio.fail_after(30):
                async with anyio.create_task_group() as calls:
                    for number in range(SIZE):
                        for twin in pair:
                            asks = can_ask and number % 2 == 0
                            logs = upstream not in ONE_STREAM
                            mingled = partial(twin.mingle, asks=asks, logs=logs)
                            calls.start_soon(mingled, number, 2 * SIZE)
        for twin in pair:
            assert all(text.startswith(twin.name) for text in twin.heard)
            assert len(set(twin.heard)) == len(twin.heard)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("upstream", ["sse", "stdio_legacy"])
async def test_questions_of_calls_at_the_same_time_reach_their_own_client_where_streams_are_shared(
    hub: Portico, upstream: Upstream, era: Era
) -> None:
    async with twins(hub, upstream, era, asks=True) as pair:
        for number in range(SIZE):
            with anyio.fail_after(30):
                async with anyio.create_task_group() as calls:
                    for twin in pair:
                        calls.start_soon(partial(twin.mingle, asks=True, logs=False), number, 1)
