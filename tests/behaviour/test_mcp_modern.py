"""The modern era over HTTP, with the SDK's client and with requests written by hand."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.subscriptions import ResourceUpdated

from tests.peers.clients import connected, text_of
from tests.peers.tiny_hub import WATCHED, TinyHub, exchanged, tiny_hub

pytestmark = pytest.mark.anyio

REVISION = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, anonymous=True, heartbeat_s=0.05) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


def envelope(**more: Any) -> dict[str, Any]:
    return {VERSION_KEY: REVISION, CAPABILITIES_KEY: {}, **more}


def request(method: str, params: Mapping[str, Any] | None = None, /, **meta: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": "one",
        "method": method,
        "params": {**(params or {}), "_meta": envelope(**meta)},
    }


def headers_for(body: dict[str, Any], **changed: str | None) -> dict[str, str]:
    params = body["params"]
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": body["method"],
        "Mcp-Name": params.get("name") or params.get("uri"),
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in headers.items() if value is not None}


async def post(
    http: httpx2.AsyncClient, hub: TinyHub, body: dict[str, Any], **changed: str | None
) -> httpx2.Response:
    return await http.post(hub.url, json=body, headers=headers_for(body, **changed))


@asynccontextmanager
async def listening(
    http: httpx2.AsyncClient, hub: TinyHub, wanted: dict[str, Any], **changed: str | None
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """An open listen stream, as the messages that come on it."""
    body = request("subscriptions/listen", {"notifications": wanted})
    async with http.stream(
        "POST", hub.url, json=body, headers=headers_for(body, **changed)
    ) as response:
        assert response.status_code == 200
        assert response.headers["x-accel-buffering"] == "no"
        yield messages_of(response)


async def messages_of(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


async def following(messages: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    with anyio.fail_after(5):
        return await anext(messages)


async def test_discovery_names_the_revision_the_features_and_how_long_it_holds(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    answer = (await post(http, hub, request("server/discover"))).json()
    assert answer["id"] == "one"
    result = answer["result"]
    assert result["supportedVersions"][0] == REVISION
    assert "2025-11-25" in result["supportedVersions"]
    assert result["capabilities"]["tools"] == {"listChanged": True}
    assert result["instructions"] == "Ask me anything."
    assert result["resultType"] == "complete"
    assert result["ttlMs"] >= 0
    assert result["cacheScope"] == "private"
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "portico"
    assert result["_meta"]["io.portico/call"] == hub.seen.entries[0].call


async def test_the_sdk_client_negotiates_and_uses_everything(hub: TinyHub) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with (
        httpx2.AsyncClient(trust_env=False) as own,
        Client(streamable_http_client(hub.url, http_client=own), mode="auto") as client,
    ):
        assert client.protocol_version == REVISION
        assert client.instructions == "Ask me anything."
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        assert text_of(await client.call_tool("echo", {"text": "hello"})) == "hello"
        assert text_of(await client.call_tool("slow", {}, progress_callback=note)) == "done"
        assert told == [1, 2, 3]
        read = await client.read_resource("memo://note/7")
        assert read.ttl_ms == 0
        assert read.cache_scope == "private"
        prompt = await client.get_prompt("greet", {})
        assert prompt.messages[0].role == "user"
        reference = types.PromptReference(type="ref/prompt", name="greet")
        completed = await client.complete(reference, {"name": "n", "value": "a"})
        assert completed.completion.values == ["alice"]
        assert len((await client.list_resource_templates()).resource_templates) == 1
    assert {entry.outcome for entry in hub.seen.entries} == {"ok"}


async def test_a_result_passes_unchanged_but_for_what_this_hop_says_of_itself(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    said = (
        '{"content":[{"type":"hologram","x":1e400}],"structuredContent":null,"vendor":'
        '{"n":12345678901234567890123},"resultType":"complete","_meta":{"com.example/k":[1, 2]}}'
    )
    body = request("tools/call", {"name": "say", "arguments": {"body": 0}})
    text = json.dumps(body).replace('"body": 0', f'"body": {said}')
    answer = await http.post(hub.url, content=text, headers=headers_for(body) | JSON)
    assert '"x":1e400' in answer.text
    assert '"n":12345678901234567890123' in answer.text
    assert '"structuredContent":null' in answer.text
    assert '"com.example/k":[1, 2]' in answer.text
    assert answer.headers["x-portico-call"] == hub.seen.entries[0].call


JSON = {"Content-Type": "application/json"}


async def test_every_header_rung_is_checked_in_order_and_the_id_is_echoed(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    call = request("tools/call", {"name": "echo", "arguments": {"text": "x"}})
    wrong: list[tuple[dict[str, str | None], int]] = [
        ({"MCP_Protocol_Version": None}, -32020),
        ({"MCP_Protocol_Version": "2025-11-25"}, -32020),
        ({"Mcp_Method": None}, -32020),
        ({"Mcp_Method": "tools/list"}, -32020),
        ({"Mcp_Name": None}, -32020),
        ({"Mcp_Name": "other"}, -32020),
        ({"Mcp_Name": "=?base64?ZWNobw?="}, -32020),
    ]
    for changed, code in wrong:
        answer = await post(http, hub, call, **changed)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), changed
        assert answer.json()["id"] == "one"
    for name in ("echo", "=?base64?ZWNobw==?="):
        answer = await post(http, hub, call, Mcp_Name=name)
        assert answer.status_code == 200, name
    assert hub.seen.refused[0] == ("127.0.0.1", "malformed")
    assert len(hub.seen.calls) == 2


async def test_white_space_around_header_values_does_not_count(hub: TinyHub) -> None:
    body = request("tools/call", {"name": "echo", "arguments": {"text": "x"}})
    headers = {name: f"  {value}\t " for name, value in headers_for(body).items()}
    answer = await exchanged(hub, "POST", "/mcp", headers | JSON, json.dumps(body).encode())
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_repeated_routing_header_is_refused(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    body = request("tools/list")
    pairs = [*headers_for(body).items(), ("Mcp-Method", "tools/list")]
    answer = await http.post(hub.url, json=body, headers=pairs)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


async def test_an_incomplete_envelope_is_invalid_and_an_unknown_revision_is_named(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    body = request("tools/list")
    del body["params"]["_meta"][CAPABILITIES_KEY]
    answer = await post(http, hub, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)

    body = request("tools/list")
    del body["params"]["_meta"]
    answer = await post(http, hub, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)
    assert answer.json()["id"] == "one"

    body = request("tools/list", **{VERSION_KEY: "2099-01-01"})
    answer = await post(http, hub, body, MCP_Protocol_Version="2099-01-01")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, -32022)
    assert error["data"]["requested"] == "2099-01-01"
    discovered = (await post(http, hub, request("server/discover"))).json()["result"]
    assert error["data"]["supported"] == discovered["supportedVersions"]

    body = request("tools/list", **{"io.modelcontextprotocol/logLevel": "loud"})
    answer = await post(http, hub, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/list", "no"]
)
async def test_methods_of_the_other_era_and_unknown_ones_are_not_found(
    hub: TinyHub, http: httpx2.AsyncClient, method: str
) -> None:
    answer = await post(http, hub, request(method))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)
    assert answer.json()["id"] == "one"
    assert "mcp-session-id" not in answer.headers


async def test_parameters_mirrored_in_headers_must_agree(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    def routed(**arguments: Any) -> dict[str, Any]:
        return request("tools/call", {"name": "route", "arguments": {"text": "t", **arguments}})

    fits: list[tuple[dict[str, Any], dict[str, str | None]]] = [
        ({"region": "eu", "count": 42}, {"Mcp_Param_Region": "eu", "Mcp_Param_Count": "42.0"}),
        ({"region": None}, {}),
        ({"region": "zürich"}, {"Mcp_Param_Region": "=?base64?esO8cmljaA==?="}),
    ]
    for arguments, headers in fits:
        answer = await post(http, hub, routed(**arguments), **headers)
        assert answer.status_code == 200, arguments
    clashes: list[tuple[dict[str, Any], dict[str, str | None]]] = [
        ({"region": "eu"}, {}),
        ({"region": "eu"}, {"Mcp_Param_Region": "us"}),
        ({}, {"Mcp_Param_Region": "eu"}),
        ({"region": None}, {"Mcp_Param_Region": "eu"}),
        ({"count": 1}, {"Mcp_Param_Count": "2"}),
    ]
    for arguments, headers in clashes:
        answer = await post(http, hub, routed(**arguments), **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020), arguments
        assert answer.json()["id"] == "one"
    assert [entry.outcome for entry in hub.seen.entries] == ["ok"] * 3 + ["refused"] * 5
    assert len(hub.seen.calls) == 3 + 5
    assert len(hub.seen.answers) == 0


async def test_the_sdk_client_mirrors_parameters_and_is_let_through(hub: TinyHub) -> None:
    async with connected(hub.url, "modern") as client:
        await client.list_tools()
        answer = await client.call_tool("route", {"text": "there", "region": "eu", "count": 3})
        assert text_of(answer) == "there"


async def test_what_no_request_may_be_is_refused_and_notifications_are_taken(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    modern = {"MCP-Protocol-Version": REVISION}
    posted: list[tuple[Any, int, int | None]] = [
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, 400, -32600),
        ([request("tools/list")], 400, -32600),
        ({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}}, 202, None),
        (7, 400, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "tools/list"}, 400, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "tools/list"}, 400, -32600),
        ({"jsonrpc": "2.0", "id": [1], "method": "tools/list"}, 400, -32600),
    ]
    for body, status, code in posted:
        answer = await http.post(hub.url, json=body, headers=modern)
        assert answer.status_code == status, body
        if code is not None:
            assert answer.json()["error"]["code"] == code, body
    answer = await http.post(hub.url, content=b"{not json", headers=modern | JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)
    for method in ("GET", "DELETE"):
        answer = await http.request(method, hub.url, headers=modern)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_logs_come_only_when_asked_for_and_from_that_level_on(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    silent = await post(http, hub, request("tools/call", {"name": "log"}))
    assert silent.headers["content-type"] == "application/json"

    body = request("tools/call", {"name": "log"}, **{"io.modelcontextprotocol/logLevel": "info"})
    async with http.stream("POST", hub.url, json=body, headers=headers_for(body)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        messages = [message async for message in messages_of(response)]
    assert [message["params"]["level"] for message in messages[:-1]] == ["info", "error"]
    assert messages[-1]["result"]["content"][0]["text"] == "logged"


async def test_progress_increases_and_carries_the_callers_own_token(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    arguments = {"steps": [1, 1, 0.5, 2, 2, 3]}
    body = request("tools/call", {"name": "slow", "arguments": arguments}, progressToken="mine")
    async with http.stream("POST", hub.url, json=body, headers=headers_for(body)) as response:
        messages = [message async for message in messages_of(response)]
    told = [message["params"] for message in messages[:-1]]
    assert [params["progress"] for params in told] == [1, 2, 3]
    assert {params["progressToken"] for params in told} == {"mine"}

    body = request("tools/call", {"name": "slow"})
    answer = await post(http, hub, body)
    assert answer.headers["content-type"] == "application/json"


async def test_a_call_that_stays_silent_becomes_a_stream_with_comments(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    body = request("tools/call", {"name": "hang"})
    async with http.stream("POST", hub.url, json=body, headers=headers_for(body)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        lines = response.aiter_lines()
        with anyio.fail_after(5):
            assert (await anext(lines)).startswith(":")
            hub.seen.event("hang release").set()
            rest = [line async for line in lines]
    (data,) = [line for line in rest if line.startswith("data: ")]
    assert json.loads(data[6:])["result"]["content"][0]["text"] == "released"


async def test_hanging_up_cancels_the_call_and_its_record_says_so(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    body = request("tools/call", {"name": "hang"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post, http, hub, body)
        await hub.until("hang started")
        tasks.cancel_scope.cancel()
    await hub.until("hang cancelled")
    with anyio.fail_after(5):
        while not hub.seen.entries:
            await anyio.lowlevel.checkpoint()
    assert [entry.outcome for entry in hub.seen.entries] == ["cancelled"]


async def test_a_leg_that_asks_for_input_passes_as_it_is_and_comes_back(hub: TinyHub) -> None:
    async def answer(context: Any, params: Any) -> types.ElicitResult:
        assert params.message == "Which colour?"
        return types.ElicitResult(action="accept", content={"colour": "blue"})

    async with connected(hub.url, "modern", elicitation_callback=answer) as client:
        assert text_of(await client.call_tool("ask", {})) == "accept:blue"
    calls = [entry for entry in hub.seen.entries if entry.operation == "tools/call"]
    assert [entry.outcome for entry in calls] == ["input_required", "ok"]


async def test_a_modern_caller_that_declares_nothing_is_not_asked(hub: TinyHub) -> None:
    async with connected(hub.url, "modern") as client:
        answer = await client.call_tool("ask", {"push": True})
    assert answer.is_error
    assert text_of(answer) == "declined: The caller does not support elicitation/create."


async def test_vendor_keys_pass_and_reserved_ones_do_not(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    meta = {"com.example/k": {"a": 1}, "io.portico/call": "forged", "progressToken": 5}
    body = request("tools/call", {"name": "echo"}, traceparent=trace, baggage="a=b", **meta)
    await post(http, hub, body)
    (call,) = hub.seen.calls
    assert set(call.meta) == {"com.example/k"}
    assert call.traceparent == trace
    assert call.traits.wants_progress
    assert call.id != "forged"

    other = request("tools/call", {"name": "echo"})
    await post(http, hub, other, traceparent=trace)
    assert hub.seen.calls[1].traceparent == trace


async def test_the_tasks_extension_is_not_relayed(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    declared: dict[str, Any] = {
        "extensions": {"io.modelcontextprotocol/tasks": {}, "io.modelcontextprotocol/ui": {}}
    }
    body = request("tools/call", {"name": "echo"}, **{CAPABILITIES_KEY: declared})
    await post(http, hub, body)
    relayed = json.loads(bytes(hub.seen.calls[0].traits.client_capabilities))
    assert relayed == {"extensions": {"io.modelcontextprotocol/ui": {}}}


async def test_listening_begins_with_what_is_honoured_and_tells_only_of_that(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": [WATCHED, "memo://nothing"]}
    async with listening(http, hub, wanted) as messages:
        first = await following(messages)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == {
            "toolsListChanged": True,
            "resourceSubscriptions": [WATCHED],
        }
        assert hub.seen.watched == [frozenset({WATCHED})]
        hub.touch("memo://static")
        hub.touch(WATCHED, "dev")
        hub.touch(WATCHED)
        update = await following(messages)
        assert update["method"] == "notifications/resources/updated"
        assert update["params"]["uri"] == WATCHED
        hub.grown.tools = ("echo", "new")
        hub.regrow()
        changed = await following(messages)
        assert changed["method"] == "notifications/tools/list_changed"
        hub.surface.end_streams()
        last = await following(messages)
        assert last["id"] == "one"
        assert last["result"]["resultType"] == "complete"
        for message in (first, update, changed):
            assert message["params"]["_meta"][SUBSCRIPTION_KEY] == "one"
        assert last["result"]["_meta"][SUBSCRIPTION_KEY] == "one"
        with pytest.raises(StopAsyncIteration):
            await following(messages)
    assert hub.seen.watched[-1] == frozenset()
    assert [entry.operation for entry in hub.seen.entries] == ["subscriptions/listen"]


async def test_a_list_that_looks_the_same_to_the_caller_is_not_announced(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    wanted = {"toolsListChanged": True}
    async with listening(http, hub, wanted, **hub.headers("bob")) as messages:
        await following(messages)
        hub.announce("tools")
        hub.grown.tools = (*hub.grown.tools, "for alice only")
        hub.regrow()
        await anyio.sleep(
            0.15
        )  # longer than changes are collected: what comes next was caused next
        hub.grown.bob_tools = ("echo",)
        hub.regrow()
        changed = await following(messages)
        assert changed["method"] == "notifications/tools/list_changed"
        hub.surface.end_streams()
        assert "result" in await following(messages)


async def test_losing_the_key_ends_a_listen_stream_at_once(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with listening(http, hub, {"toolsListChanged": True}, **hub.headers("bob")) as messages:
        await following(messages)
        hub.revocations.revoke("key of bob")
        assert "result" in await following(messages)
        with pytest.raises(StopAsyncIteration):
            await following(messages)


async def test_losing_every_grant_ends_a_listen_stream(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with listening(http, hub, {"toolsListChanged": True}, **hub.headers("bob")) as messages:
        await following(messages)
        hub.grown.withheld = frozenset({"bob"})
        hub.regrow()
        assert "result" in await following(messages)


async def test_hanging_up_on_a_listen_stream_lets_go_of_what_it_watched(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async with listening(http, hub, {"resourceSubscriptions": [WATCHED]}) as messages:
        await following(messages)
        assert hub.surface.open_streams == 1
    await hub.until_idle()
    assert hub.seen.watched == [frozenset({WATCHED}), frozenset()]


async def test_the_sdk_client_listens(hub: TinyHub) -> None:
    async with (
        connected(hub.url, "modern") as client,
        client.listen(tools_list_changed=True, resource_subscriptions=[WATCHED]) as events,
    ):
        hub.touch(WATCHED)
        with anyio.fail_after(5):
            event = await anext(aiter(events))
        assert event == ResourceUpdated(uri=WATCHED)


async def test_a_listen_request_that_takes_no_streams_is_refused(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    body = request("subscriptions/listen", {"notifications": {}})
    answer = await post(http, hub, body, Accept="application/json")
    assert answer.status_code == 406
    assert answer.json()["id"] == "one"
    bad = request("subscriptions/listen", {"notifications": {"resourceSubscriptions": [1]}})
    answer = await post(http, hub, bad)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


async def test_a_client_that_takes_no_streams_gets_json_whatever_happens_before(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    body = request("tools/call", {"name": "slow"}, progressToken=1)
    answer = await post(http, hub, body, Accept="application/json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"]["content"][0]["text"] == "done"
