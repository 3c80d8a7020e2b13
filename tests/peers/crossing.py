"""Portico between callers and asking upstreams of both eras: what tests of crossing eras stand on."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from msgspec import Struct

from hub.audit.reading import tail
from hub.domain.record import Entry
from tests.peers.asking_server import (
    Recording,
    asking_server,
    asking_sse_server,
    command,
)
from tests.peers.clients import text_of
from tests.peers.portico import PORTICO, Portico, portico, running_portico

REVISION = "2026-07-28"
CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
STALE = "Invalid or expired requestState."


LEGACY = ("legacy", "legacy-sse", "legacy-io")
MODERN = ("modern", "modern-io")
"""Upstreams over HTTP, HTTP+SSE and standard streams; each has a virtual server of its name."""


def config(urls: Mapping[str, str], chosen: Sequence[str], **settings: float) -> str:
    """Some of the asking upstreams, whose tools two principals may use."""
    known: dict[str, dict[str, Any]] = {
        **{name: {"url": url} for name, url in urls.items()},
        "legacy-io": {"command": list(command("legacy"))},
        "modern-io": {"command": list(command("modern"))},
    }
    upstreams = {name: {**known[name], **settings} for name in chosen}
    servers = {
        name: {"anonymous": True, "prefix": "never", "include": [{"upstream": name}]}
        for name in upstreams
    }
    grants = [
        {"principal": who, "virtual_server": name} for who in ("ann", "bob") for name in upstreams
    ]
    principals = {"ann": {"kind": "person"}, "bob": {"kind": "person"}}
    text = {
        "version": 1,
        "upstreams": upstreams,
        "virtual_servers": servers,
        "principals": principals,
        "grants": grants,
    }
    return json.dumps(text)


class Crossing(Struct, frozen=True):
    """A running Portico and what reached its HTTP upstreams."""

    portico: Portico
    legacy: Recording
    modern: Recording

    def url(self, server: str) -> str:
        return f"{self.portico.origin}/v/{server}/mcp"

    async def keys(self, *principals: str) -> list[dict[str, Any]]:
        """A new key for each of these."""
        return [
            await portico("key", "create", "--principal", name, data=self.portico.data)
            for name in principals
        ]

    def entries(self, operation: str = "tools/call") -> list[Entry]:
        """The record's entries for a method, oldest first."""
        found = [item.entry for item in tail(self.portico.data / "record", 10_000)]
        return [entry for entry in reversed(found) if entry.operation == operation]

    async def entries_from(self, first: int, count: int) -> list[Entry]:
        """The entries from one on, once there are so many."""
        with anyio.fail_after(10):
            while len(entries := self.entries()[first:]) < count:
                await anyio.lowlevel.checkpoint()
        return entries


@asynccontextmanager
async def crossing(data: Path, *upstreams: str, **settings: float) -> AsyncIterator[Crossing]:
    """Portico in front of asking upstreams; ``settings`` are those of each of them."""
    with ExitStack() as stack:
        legacy, seen_legacy = stack.enter_context(asking_server("legacy"))
        modern, seen_modern = stack.enter_context(asking_server("modern"))
        sse = stack.enter_context(asking_sse_server())
        urls = {"legacy": legacy.url, "modern": modern.url, "legacy-sse": sse.url}
        async with running_portico(data, config=config(urls, upstreams, **settings)) as portico:
            yield Crossing(portico, seen_legacy, seen_modern)


ANSWERED = ["accept:blue", "a word", "file:///home", "Paint it accept:blue.", "accept:blue"]


async def asked_in_every_way(client: Client) -> list[str]:
    """What requests that ask their caller in every way end with: ``ANSWERED`` by ``Answers``."""
    called = [
        await client.call_tool("colour", {}),
        await client.call_tool("model", {"prompt": "Say."}),
        await client.call_tool("places", {}),
    ]
    prompt = await client.get_prompt("advice", {})
    read = await client.read_resource("ask://colour/hall")
    told = prompt.messages[0].content.model_dump()
    return [*map(text_of, called), told["text"], read.contents[0].model_dump()["text"]]


class Answers:
    """Answers the questions of an SDK client, and notes them."""

    def __init__(self, action: str = "accept", said: str = "blue") -> None:
        self.asked: list[Any] = []
        self.action = action
        self.said = said
        self.before: Callable[[], Any] | None = None
        """Awaited before each answer."""

    async def elicit(self, _: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params)
        if self.before is not None:
            await self.before()
        content = None
        if self.action == "accept" and isinstance(params, types.ElicitRequestFormParams):
            (field,) = params.requested_schema["properties"]
            content = {field: self.said}
        return types.ElicitResult.model_validate({"action": self.action, "content": content})

    async def sample(self, _: Any, params: Any) -> types.CreateMessageResult:
        self.asked.append(params)
        text = types.TextContent(type="text", text="a word")
        return types.CreateMessageResult(role="assistant", content=text, model="m")

    async def roots(self, _: Any) -> types.ListRootsResult:
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root.model_validate({"uri": "file:///home"})])

    @property
    def options(self) -> dict[str, Any]:
        """What an SDK client is given."""
        return {
            "elicitation_callback": self.elicit,
            "sampling_callback": self.sample,
            "list_roots_callback": self.roots,
        }


@asynccontextmanager
async def over_sse(
    crossed: Crossing, server: str, mode: str, **options: Any
) -> AsyncIterator[Client]:
    """An SDK client on the oldest HTTP transport."""
    transport = sse_client(f"{crossed.portico.origin}/v/{server}/sse")
    async with Client(transport, mode=mode, **options) as client:
        yield client


@asynccontextmanager
async def over_stdio(
    crossed: Crossing, server: str, mode: str, **options: Any
) -> AsyncIterator[Client]:
    """An SDK client that starts ``portico stdio``."""
    parameters = StdioServerParameters(
        command=PORTICO,
        args=["stdio", "--virtual-server", server, "--data", str(crossed.portico.data)],
    )
    async with Client(stdio_client(parameters), mode=mode, **options) as client:
        yield client


class Raw:
    """A modern caller written by hand, as one principal or without a key."""

    def __init__(self, http: httpx2.AsyncClient, url: str, key: str | None = None) -> None:
        self._http = http
        self._url = url
        self._key = key
        self._id = 0

    def request(
        self, method: str, params: dict[str, Any], capabilities: dict[str, Any] = CAPABILITIES
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Body and headers."""
        self._id += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        }
        params = {**params, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": method,
            "Mcp-Name": params.get("name") or params.get("uri") or "",
        }
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return body, headers

    async def send(
        self, method: str, params: dict[str, Any], capabilities: dict[str, Any] = CAPABILITIES
    ) -> dict[str, Any]:
        """The whole answer; what comes before it on a stream is skipped."""
        body, headers = self.request(method, params, capabilities)
        with anyio.fail_after(15):
            answer = await self._http.post(self._url, content=json.dumps(body), headers=headers)
        text = answer.text
        if answer.headers["content-type"].startswith("text/event-stream"):
            text = [line for line in text.splitlines() if line.startswith("data: ")][-1][6:]
        message: dict[str, Any] = json.loads(text)
        assert message["id"] == body["id"]
        return message

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any] | None = None,
        capabilities: dict[str, Any] = CAPABILITIES,
        **more: Any,
    ) -> dict[str, Any]:
        """One ``tools/call``."""
        params = {"name": tool, "arguments": arguments or {}, **more}
        return await self.send("tools/call", params, capabilities)


def retry_of(answer: dict[str, Any], colour: str = "blue") -> dict[str, Any]:
    """What a caller comes back with that answers every form with a colour."""
    result = answer["result"]
    assert result["resultType"] == "input_required", answer
    responses = {
        key: {"action": "accept", "content": {"colour": colour}} for key in result["inputRequests"]
    }
    more: dict[str, Any] = {"inputResponses": responses}
    if "requestState" in result:
        more["requestState"] = result["requestState"]
    return more


def said(answer: dict[str, Any]) -> str:
    """The text of an answer's first block."""
    text: str = answer["result"]["content"][0]["text"]
    return text


def is_stale(answer: dict[str, Any]) -> bool:
    """Whether a state was refused, in the one way that is the same for every reason."""
    error = answer.get("error", {})
    return (error.get("code"), error.get("message")) == (-32602, STALE)
