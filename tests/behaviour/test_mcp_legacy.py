"""The legacy era over Streamable HTTP: sessions, questions, one stream for server messages."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest

from hub.live.sessions import Sessions
from hub.surfaces.mcp.surface import McpSurface
from tests.peers.clients import connected, text_of
from tests.peers.tiny_hub import WATCHED, TinyHub, serving, tiny_hub

pytestmark = pytest.mark.anyio

SESSION = "Mcp-Session-Id"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, anonymous=True, heartbeat_s=0.05) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


def request(method: str, request_id: Any = 1, /, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def notification(method: str, /, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def handshake(revision: str = "2025-11-25", **capabilities: Any) -> dict[str, Any]:
    info = {"name": "test", "version": "1"}
    return request(
        "initialize", 0, protocolVersion=revision, capabilities=capabilities, clientInfo=info
    )


class Session:
    """One legacy session, spoken to by hand."""

    def __init__(self, http: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> None:
        self.http = http
        self.url = url
        self.headers = {"Accept": "application/json, text/event-stream", **headers}

    async def post(self, body: Any, **more: str) -> httpx2.Response:
        return await self.http.post(self.url, json=body, headers={**self.headers, **more})

    async def call(self, name: str, request_id: Any = 1, /, **arguments: Any) -> httpx2.Response:
        return await self.post(request("tools/call", request_id, name=name, arguments=arguments))

    @asynccontextmanager
    async def calling(
        self, name: str, request_id: Any = 1, /, **arguments: Any
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The messages of a call that is answered by a stream."""
        meta = {"progressToken": "mine", "com.example/tool-use": "t1"}
        body = request("tools/call", request_id, name=name, arguments=arguments, _meta=meta)
        async with self.http.stream("POST", self.url, json=body, headers=self.headers) as response:
            assert response.headers["content-type"] == "text/event-stream"
            yield messages_of(response)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The messages of the session's stream for server messages."""
        async with self.http.stream("GET", self.url, headers=self.headers) as response:
            assert response.status_code == 200
            yield messages_of(response)


async def messages_of(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


async def following(messages: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    with anyio.fail_after(5):
        return await anext(messages)


async def begun(
    http: httpx2.AsyncClient,
    hub: TinyHub,
    revision: str = "2025-11-25",
    name: str | None = None,
    **capabilities: Any,
) -> Session:
    own = {} if name is None else hub.headers(name)
    answer = await http.post(hub.url, json=handshake(revision, **capabilities), headers=own)
    assert answer.status_code == 200
    return Session(http, hub.url, {**own, SESSION: answer.headers[SESSION]})


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
async def test_the_handshake_settles_a_revision_and_mints_a_visible_session_id(
    hub: TinyHub, http: httpx2.AsyncClient, asked: str, given: str
) -> None:
    answer = await http.post(hub.url, json=handshake(asked))
    result = answer.json()["result"]
    assert result["protocolVersion"] == given
    assert result["serverInfo"]["name"] == "portico"
    assert result["capabilities"]["tools"] == {"listChanged": True}
    assert result["instructions"] == "Ask me anything."
    assert not {"resultType", "ttlMs", "cacheScope", "supportedVersions"} & set(result)
    assert set(result["_meta"]) == {"io.portico/call"}
    assert all(0x21 <= ord(letter) <= 0x7E for letter in answer.headers[SESSION])


async def test_the_sdk_client_uses_everything(hub: TinyHub) -> None:
    told: list[float] = []
    logged: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async def log(params: Any) -> None:
        logged.append(params.level)

    async def answer(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"colour": "green"})

    async with connected(
        hub.url, "legacy", logging_callback=log, elicitation_callback=answer
    ) as client:
        assert client.protocol_version == "2025-11-25"
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        assert text_of(await client.call_tool("echo", {"text": "hello"})) == "hello"
        assert text_of(await client.call_tool("slow", {}, progress_callback=note)) == "done"
        assert told == [1, 2, 3]
        assert text_of(await client.call_tool("ask", {})) == "accept:green"
        assert (await client.get_prompt("greet", {})).messages
        assert text_of(await client.call_tool("log", {})) == "logged"
        assert logged == ["debug", "info", "error"]
    assert {entry.outcome for entry in hub.seen.entries} == {"ok"}


async def test_requests_without_a_session_are_400_and_with_an_unknown_one_404(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    listing = request("tools/list", "mine")
    missing = await http.post(hub.url, json=listing)
    assert (missing.status_code, missing.json()["id"]) == (400, "mine")
    for unknown in ("nonsense", session.headers[SESSION][:-2] + "xx", "x" * 9000):
        answer = await http.post(hub.url, json=listing, headers={SESSION: unknown})
        assert (answer.status_code, answer.json()["id"]) == (404, "mine")
    elsewhere = await http.post(f"{hub.origin}/v/dev/mcp", json=listing, headers=session.headers)
    assert elsewhere.status_code == 404


async def test_a_version_header_may_be_absent_but_not_wrong(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    for revision in ("2025-11-25", "2025-03-26"):
        answer = await session.post(request("tools/list"), **{"MCP-Protocol-Version": revision})
        assert answer.status_code == 200
    assert (await session.post(request("tools/list"))).status_code == 200
    answer = await session.post(request("tools/list"), **{"MCP-Protocol-Version": "1999-01-01"})
    assert (answer.status_code, answer.json()["id"]) == (400, 1)


async def test_another_principals_session_is_an_unknown_one(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub, name="alice")
    stolen = Session(http, hub.url, {**session.headers, **hub.headers("bob")})
    answers = [
        await stolen.post(request("tools/call", name="echo")),
        await stolen.post(request("ping")),
        await stolen.post(notification("notifications/cancelled", requestId=1)),
        await stolen.post({"jsonrpc": "2.0", "id": "portico-1", "result": {}}),
        await http.get(hub.url, headers=stolen.headers),
        await http.delete(hub.url, headers=stolen.headers),
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert (await session.post(request("ping"))).status_code == 200


async def test_a_deleted_session_is_unknown_from_then_on(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    async with session.listening() as messages:
        gone = await http.delete(hub.url, headers=session.headers)
        assert gone.status_code == 204
        with pytest.raises(StopAsyncIteration):
            await following(messages)
    assert (await session.post(request("ping"))).status_code == 404
    assert (await http.get(hub.url, headers=session.headers)).status_code == 404
    assert (await http.delete(hub.url, headers=session.headers)).status_code == 404
    assert (await http.delete(hub.url)).status_code == 400


async def test_a_session_survives_a_restart_and_is_told_once_that_lists_may_differ(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    restarted = McpSurface(hub.restarted())
    async with serving(restarted) as port:
        session.url = f"http://127.0.0.1:{port}/mcp"
        answer = await session.call("echo", text="still here")
        assert answer.json()["result"]["content"][0]["text"] == "still here"
        async with session.listening() as messages:
            told = [(await following(messages))["method"] for _ in range(3)]
            assert told == [
                "notifications/tools/list_changed",
                "notifications/resources/list_changed",
                "notifications/prompts/list_changed",
            ]
            restarted.end_streams()
            with pytest.raises(StopAsyncIteration):
                await following(messages)


async def test_idle_sessions_make_room_for_others_and_begin_again_when_they_come_back(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    few = Sessions(max_idle=2, max_ended=1)
    async with tiny_hub(tmp_path, anonymous=True, sessions=few) as hub:
        first = await begun(http, hub)
        await first.post(request("logging/setLevel", level="error"))
        async with first.listening() as messages:
            others = [await begun(http, hub) for _ in range(3)]
            async with first.calling("log") as told:
                assert len([message async for message in told]) == 2  # busy, so it was kept
            hub.grown.tools = ("echo", "log")
            hub.regrow()
            assert (await following(messages))["method"] == "notifications/tools/list_changed"
        await hub.until_idle()
        for other in others:
            await other.post(request("tools/list"))
        async with first.calling("log") as told:
            assert len([message async for message in told]) == 4  # defaults again
        async with first.listening() as messages:
            assert (await following(messages))["method"] == "notifications/tools/list_changed"


async def test_notifications_and_answers_are_taken_and_ping_is_no_call(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    before = len(hub.seen.entries)
    for message in (
        notification("notifications/initialized"),
        notification("notifications/roots/list_changed"),
        notification("notifications/cancelled", requestId="nothing"),
        {"jsonrpc": "2.0", "id": "portico-99", "result": {}},
        {"jsonrpc": "2.0", "id": 5, "error": {"code": -1, "message": "no"}},
    ):
        answer = await session.post(message)
        assert (answer.status_code, answer.content) == (202, b"")
    answer = await session.post(request("ping", "p"))
    assert answer.json() == {"jsonrpc": "2.0", "id": "p", "result": {}}
    assert len(hub.seen.entries) == before


async def test_unknown_methods_and_bad_parameters_are_errors_inside_the_session(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    wrong = [
        (request("no/such"), -32601),
        (request("server/discover"), -32601),
        (request("tools/call"), -32602),
        (request("tools/list", cursor=5), -32602),
        (request("logging/setLevel", level="loud"), -32602),
        (request("completion/complete", ref={"type": "ref/other"}), -32602),
        (request("resources/read", uri="memo://nothing"), -32002),
        (request("resources/read", uri="memo://gone"), -32002),
    ]
    for body, code in wrong:
        answer = await session.post(body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, code), body
        assert answer.json()["id"] == 1


async def test_a_question_goes_on_the_calls_own_stream_and_its_answer_finds_back(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub, elicitation={})
    async with (
        session.calling("ask", 1) as first,
        session.calling("ask", 2) as second,
    ):
        questions = [await following(first), await following(second)]
        assert questions[0]["method"] == "elicitation/create"
        assert questions[0]["params"]["_meta"] == {"com.example/tool-use": "t1"}
        for question, colour in zip(questions, ("red", "blue"), strict=True):
            result = {"action": "accept", "content": {"colour": colour}}
            taken = await session.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
            assert taken.status_code == 202
        ends = [await following(first), await following(second)]
    texts = [end["result"]["content"][0]["text"] for end in ends]
    assert texts == ["accept:red", "accept:blue"]
    assert [end["id"] for end in ends] == [1, 2]


async def test_a_client_may_decline_a_question_with_an_error(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub, elicitation={})
    async with session.calling("ask") as messages:
        question = await following(messages)
        error = {"code": -1, "message": "not now"}
        await session.post({"jsonrpc": "2.0", "id": question["id"], "error": error})
        end = await following(messages)
    assert end["result"]["content"][0]["text"] == "declined: not now"


async def test_a_client_that_cannot_be_asked_is_not(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    session = await begun(http, hub, sampling={})
    answer = await session.call("ask")
    assert "does not support elicitation/create" in answer.text
    deaf = {"Accept": "application/json"}
    session = await begun(http, hub, elicitation={})
    body = request("tools/call", name="ask", arguments={})
    answer = await session.post(body, **deaf)
    assert "cannot be reached" in answer.text


async def test_a_question_is_declined_when_its_caller_hangs_up(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub, elicitation={})
    async with session.calling("ask") as messages:
        await following(messages)
    with anyio.fail_after(5):
        while len(hub.seen.entries) < 2:
            await anyio.lowlevel.checkpoint()
    assert (hub.seen.entries[1].outcome, hub.seen.entries[1].delivered) == ("ok", "none")


async def test_input_that_the_client_cannot_give_is_a_clear_failure(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub, sampling={})
    result = (await session.call("ask", push="input_required")).json()["result"]
    assert result["isError"]
    assert "The caller does not support elicitation/create" in result["content"][0]["text"]
    assert "resultType" not in result


async def test_hanging_up_does_not_cancel_and_the_record_says_that_nobody_was_there(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.call, "hang")
        await hub.until("hang started")
        await anyio.sleep(0.1)  # longer than a call may last unwatched
        tasks.cancel_scope.cancel()
    await anyio.sleep(0.05)  # the server hears of it
    assert not hub.seen.event("hang cancelled").is_set()
    hub.seen.event("hang release").set()
    with anyio.fail_after(5):
        while len(hub.seen.entries) < 2:
            await anyio.lowlevel.checkpoint()
    assert (hub.seen.entries[1].outcome, hub.seen.entries[1].delivered) == ("ok", "none")


async def test_only_the_cancel_notification_cancels_and_only_in_its_own_session(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session, other = await begun(http, hub), await begun(http, hub)
    answers: list[httpx2.Response] = []

    async def call() -> None:
        answers.append(await session.call("hang", "c"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await hub.until("hang started")
        cancel = notification("notifications/cancelled", requestId="c")
        await other.post(cancel)
        assert not hub.seen.event("hang cancelled").is_set()
        await session.post(cancel)
        await hub.until("hang cancelled")
    assert '"code":-32800' in answers[0].text
    assert [entry.outcome for entry in hub.seen.entries] == ["ok", "ok", "cancelled"]


async def test_the_stream_tells_of_changes_and_updates_and_is_kept_alive(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    async with session.http.stream("GET", hub.url, headers=session.headers) as response:
        assert response.headers["x-accel-buffering"] == "no"
        lines = response.aiter_lines()
        with anyio.fail_after(5):
            assert (await anext(lines)).startswith(":")
        answer = await session.post(request("resources/subscribe", uri=WATCHED))
        assert answer.json()["result"] == {}
        assert hub.seen.watched == [frozenset({WATCHED})]
        hub.touch(WATCHED)
        hub.touch("memo://static")
        hub.grown.tools = ("echo",)
        hub.regrow()
        told: list[dict[str, Any]] = []
        with anyio.fail_after(5):
            while len(told) < 2:
                line = await anext(lines)
                if line.startswith("data: "):
                    told.append(json.loads(line[6:]))
    assert told == [
        {
            "jsonrpc": "2.0",
            "method": "notifications/resources/updated",
            "params": {"uri": WATCHED},
        },
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
    ]
    await hub.until_idle()
    assert hub.seen.watched[-1] == frozenset()
    async with session.listening() as messages:
        hub.touch(WATCHED)
        assert (await following(messages))["params"]["uri"] == WATCHED
        await session.post(request("resources/unsubscribe", uri=WATCHED))
        assert hub.seen.watched[-1] == frozenset()
    absent = await session.post(request("resources/subscribe", uri="memo://nothing"))
    assert absent.json()["error"]["code"] == -32002


async def test_a_second_stream_takes_over_from_the_first(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    async with session.listening() as first, session.listening() as second:
        with pytest.raises(StopAsyncIteration):
            await following(first)
        hub.grown.tools = ("echo",)
        hub.regrow()
        assert (await following(second))["method"] == "notifications/tools/list_changed"
    await hub.until_idle()


async def test_without_a_session_there_is_no_stream_and_never_a_404(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    answer = await http.get(hub.url, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    session = await begun(http, hub)
    answer = await http.get(hub.url, headers={**session.headers, "Accept": "application/json"})
    assert answer.status_code == 406


async def test_losing_the_key_closes_the_stream(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    session = await begun(http, hub, name="bob")
    async with session.listening() as messages:
        hub.revocations.revoke("key of alice")
        hub.touch(WATCHED)
        hub.revocations.revoke("key of bob")
        with pytest.raises(StopAsyncIteration):
            await following(messages)
    assert (await session.post(request("ping"))).status_code == 401


async def test_the_log_level_is_the_sessions_own(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    loud, quiet = await begun(http, hub), await begun(http, hub)
    answer = await quiet.post(request("logging/setLevel", level="error"))
    assert answer.json()["result"] == {}
    assert answer.headers["x-portico-call"] == hub.seen.entries[-1].call
    async with quiet.calling("log") as messages:
        levels = [message async for message in messages]
    assert [message["params"]["level"] for message in levels[:-1]] == ["error"]
    async with loud.calling("log") as messages:
        assert len([message async for message in messages]) == 4


async def test_progress_is_told_under_each_callers_own_token(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    one, two = await begun(http, hub), await begun(http, hub)
    async with one.calling("slow") as first, two.calling("slow") as second:
        for messages in (first, second):
            told = [message async for message in messages]
            assert {message["params"]["progressToken"] for message in told[:-1]} == {"mine"}
            assert told[-1]["result"]["content"][0]["text"] == "done"


async def test_a_batch_is_as_many_calls_in_the_one_revision_that_has_them(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub, "2025-03-26")
    before = len(hub.seen.entries)
    batch = [
        request("tools/call", 1, name="echo", arguments={"text": "one"}),
        request("ping", 2),
        notification("notifications/initialized"),
        request("no/such", 3),
        {"jsonrpc": "2.0", "id": 4},
        request("initialize", 5),
        request("tools/call", 6, name="slow", arguments={}),
    ]
    answer = await session.post(batch)
    answers = {item["id"]: item for item in answer.json()}
    assert answers[1]["result"]["content"][0]["text"] == "one"
    assert answers[2]["result"] == {}
    assert [answers[number]["error"]["code"] for number in (3, 4, 5)] == [-32601, -32600, -32600]
    assert answers[6]["result"]["content"][0]["text"] == "done"
    assert len(hub.seen.entries) - before == 2

    silent = await session.post([notification("notifications/initialized")])
    assert silent.status_code == 202
    for refused in ([], [request("ping", number) for number in range(51)]):
        answer = await session.post(refused)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
    newer = await begun(http, hub, "2025-06-18")
    answer = await newer.post(batch)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)


async def test_results_lose_what_only_the_other_era_knows(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    session = await begun(http, hub)
    said = {
        "resultType": "complete",
        "content": [],
        "structuredContent": [1],
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "x"}, "com.example/k": 1},
    }
    result = (await session.call("say", body=said)).json()["result"]
    assert set(result) == {"content", "_meta"}
    assert set(result["_meta"]) == {"com.example/k", "io.portico/call"}
    read = (await session.post(request("resources/read", uri="memo://static"))).json()["result"]
    assert set(read) == {"contents", "_meta"}


async def test_what_a_client_declared_is_kept_within_bounds(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    noise: dict[str, Any] = {"experimental": {"x": "y" * 5000}, "elicitation": {"form": {}}}
    session = await begun(http, hub, name=None, **noise)
    await session.call("echo")
    traits = hub.seen.calls[-1].traits
    assert json.loads(bytes(traits.client_capabilities)) == {"elicitation": {"form": {}}}
    assert traits.revision == "2025-11-25"
    assert traits.session
    session = await begun(http, hub, elicitation={"x": "y" * 5000}, extensions={"a": {}})
    await session.call("echo")
    traits = hub.seen.calls[-1].traits
    assert json.loads(bytes(traits.client_capabilities)) == {"elicitation": {}}
