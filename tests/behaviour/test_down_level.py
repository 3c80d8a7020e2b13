"""What an upstream of today says, as callers of every legacy revision get it (mcp.md row 19)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from hub.surfaces.mcp.down_level import askable, can_be_asked
from mcp_wire.jsonrpc import raw
from mcp_wire.revisions import LEGACY_REVISIONS
from tests.peers.portico import Portico, running_portico
from tests.peers.raw_server import ModernScript, RawServer, Received, Wire, raw_server

pytestmark = pytest.mark.anyio

ICONS = [{"src": "data:image/png;base64,AA==", "mimeType": "image/png"}]
TOOLS = (
    {
        "name": "report",
        "title": "A report",
        "icons": ICONS,
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object"},
        "com.example/kept": 1,
    },
    {
        "name": "numbers",
        "title": "Numbers",
        "annotations": {"title": "Said before", "readOnlyHint": True},
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "array"},
    },
)
PROMPT = {
    "name": "ask",
    "title": "Ask",
    "icons": ICONS,
    "arguments": [{"name": "about", "title": "About", "required": True}],
}
RESOURCE = {"uri": "memo://a", "name": "a", "title": "A", "icons": ICONS}
TEMPLATE = {"uriTemplate": "memo://{id}", "name": "t", "title": "T", "icons": ICONS}
LINK = {
    "type": "resource_link",
    "uri": "memo://a",
    "name": "a",
    "description": "The first",
    "icons": ICONS,
    "annotations": {"priority": 1},
}
AUDIO = {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
UNHEARD_OF = {"type": "com.example/smell", "molecule": None}
RESULT = {
    "resultType": "complete",
    "content": [LINK, AUDIO, UNHEARD_OF],
    "structuredContent": {"total": 9007199254740993},
}
MESSAGES = [{"role": "user", "content": AUDIO}, {"role": "user", "content": LINK}]
CACHED = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


async def call(received: Received, wire: Wire) -> None:
    numbers = {"resultType": "complete", "content": [], "structuredContent": [1, 2]}
    await wire.result(numbers if received.json["params"]["name"] == "numbers" else RESULT)


def answering(result: dict[str, Any]) -> Any:
    async def answer(_: Received, wire: Wire) -> None:
        await wire.result({**CACHED, **result})

    return answer


SCRIPT = ModernScript(
    {
        "tools/call": call,
        "prompts/list": answering({"prompts": [PROMPT]}),
        "prompts/get": answering({"messages": MESSAGES}),
        "resources/list": answering({"resources": [RESOURCE]}),
        "resources/templates/list": answering({"resourceTemplates": [TEMPLATE]}),
    },
    tools=TOOLS,
    capabilities={"tools": {}, "prompts": {}, "resources": {}},
)


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[RawServer]:
    async with raw_server(SCRIPT) as raw:
        yield raw


@pytest.fixture(scope="module")
async def hub(
    upstream: RawServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Portico]:
    config = (
        f'version: 1\nupstreams: {{one: {{url: "{upstream.url}"}}}}\n'
        "virtual_servers: {one: {anonymous: true, prefix: never, include: [{upstream: one}]}}\n"
    )
    data = tmp_path_factory.mktemp("hub") / "data"
    async with running_portico(data, config=config) as running:
        yield running


class Caller:
    """A session of one revision."""

    def __init__(self, hub: Portico, revision: str) -> None:
        self._url = f"{hub.origin}/v/one/mcp"
        self._revision = revision
        self._http = httpx2.AsyncClient(trust_env=False, timeout=10)

    async def __aenter__(self) -> "Caller":
        info = {"name": "test", "version": "1"}
        shaken = await self.ask(
            "initialize", protocolVersion=self._revision, capabilities={}, clientInfo=info
        )
        assert shaken["protocolVersion"] == self._revision
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self._http.post(self._url, json=body)
        session = answer.headers.get("mcp-session-id")
        if session is not None:
            self._http.headers["Mcp-Session-Id"] = session
        result: dict[str, Any] = answer.json()["result"]
        return result


async def test_icons_are_of_2025_11_25(hub: Portico) -> None:
    for revision in LEGACY_REVISIONS:
        async with Caller(hub, revision) as caller:
            (resource,) = (await caller.ask("resources/list"))["resources"]
            (template,) = (await caller.ask("resources/templates/list"))["resourceTemplates"]
            (prompt,) = (await caller.ask("prompts/list"))["prompts"]
            tools = (await caller.ask("tools/list"))["tools"]
            report = next(tool for tool in tools if tool["name"] == "report")
        for definition in (resource, template, prompt, report):
            assert ("icons" in definition) is (revision == "2025-11-25"), (revision, definition)


async def test_titles_and_output_schemas_are_of_2025_06_18(hub: Portico) -> None:
    for revision in LEGACY_REVISIONS:
        known = revision >= "2025-06-18"
        async with Caller(hub, revision) as caller:
            tools = {tool["name"]: tool for tool in (await caller.ask("tools/list"))["tools"]}
            (resource,) = (await caller.ask("resources/list"))["resources"]
            (prompt,) = (await caller.ask("prompts/list"))["prompts"]
        for definition in (tools["report"], resource, prompt, prompt["arguments"][0]):
            assert ("title" in definition) is known, (revision, definition)
        assert ("outputSchema" in tools["report"]) is known
        assert tools["report"]["com.example/kept"] == 1
        if not known:
            assert tools["report"]["annotations"] == {"title": "A report"}
            assert tools["numbers"]["annotations"] == {
                "title": "Said before",
                "readOnlyHint": True,
            }


async def test_no_legacy_client_gets_an_output_schema_that_is_no_object(hub: Portico) -> None:
    for revision in LEGACY_REVISIONS:
        async with Caller(hub, revision) as caller:
            tools = {tool["name"]: tool for tool in (await caller.ask("tools/list"))["tools"]}
            assert "outputSchema" not in tools["numbers"]
            result = await caller.ask("tools/call", name="numbers", arguments={})
        assert "structuredContent" not in result
        assert result["content"] == [{"type": "text", "text": "[1, 2]"}]


async def test_links_and_structured_content_are_of_2025_06_18_and_audio_of_2025_03_26(
    hub: Portico,
) -> None:
    for revision in LEGACY_REVISIONS:
        async with Caller(hub, revision) as caller:
            result = await caller.ask("tools/call", name="report", arguments={})
            messages = (await caller.ask("prompts/get", name="ask"))["messages"]
        link, audio, unheard_of = result["content"]
        assert unheard_of == UNHEARD_OF
        assert ("structuredContent" in result) is (revision >= "2025-06-18")
        if revision >= "2025-06-18":
            assert link == {
                key: value
                for key, value in LINK.items()
                if key != "icons" or revision == "2025-11-25"
            }
            assert result["structuredContent"] == RESULT["structuredContent"]
        else:
            assert link == {
                "type": "text",
                "text": "a: memo://a\nThe first",
                "annotations": {"priority": 1},
            }
        if revision == "2024-11-05":
            assert audio["type"] == "text"
            assert "audio/wav" in audio["text"]
        else:
            assert audio == AUDIO
        assert [message["content"] for message in messages] == [audio, link]


@pytest.mark.parametrize(
    ("revision", "kept"),
    [
        ("2024-11-05", {"sampling": {"context": {}}, "roots": {}}),
        ("2025-03-26", {"sampling": {"context": {}}, "roots": {}}),
        ("2025-06-18", {"elicitation": {"form": {}}, "sampling": {"context": {}}, "roots": {}}),
        (
            "2025-11-25",
            {
                "elicitation": {"form": {}, "url": {}},
                "sampling": {"context": {}, "tools": {}},
                "roots": {},
            },
        ),
    ],
)
def test_a_client_cannot_declare_what_its_revision_does_not_have(
    revision: str, kept: dict[str, Any]
) -> None:
    declared = {
        "elicitation": raw({"form": {}, "url": {}}),
        "sampling": raw({"context": {}, "tools": {}}),
        "roots": raw({}),
    }
    left = askable(declared, revision)
    assert {name: json.loads(bytes(value)) for name, value in left.items()} == kept
    only_url = askable({"elicitation": raw({"url": {}})}, revision)
    assert set(only_url) == ({"elicitation"} if revision == "2025-11-25" else set())
    odd = {"elicitation": raw([1]), "sampling": raw(None)}
    assert askable(odd, revision).items() <= odd.items()


def test_what_a_client_may_be_asked_depends_on_its_revision() -> None:
    def able(method: str, mode: str = "", *, with_tools: bool = False) -> list[bool]:
        return [
            can_be_asked(revision, method, mode, with_tools=with_tools)
            for revision in LEGACY_REVISIONS
        ]

    assert able("roots/list") == able("sampling/createMessage") == [True] * 4
    assert able("elicitation/create") == [False, False, True, True]
    assert able("elicitation/create", "form") == [False, False, True, True]
    assert able("elicitation/create", "url") == [False, False, False, True]
    assert able("sampling/createMessage", with_tools=True) == [False, False, False, True]
    assert able("tasks/list") == [False] * 4
