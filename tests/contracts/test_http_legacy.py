"""Calls to a legacy upstream: sessions, streams that break, and who is asked."""

import json
from typing import Any

import anyio
import pytest
from msgspec import Raw

from connectors.outcome import Ask, Failure, Log, Pause, Result, Withdrawn
from connectors.protocol import Change, Conversing, Credential
from mcp_wire.jsonrpc import raw as json_raw
from tests.contracts.connector_suite import ASKABLE
from tests.contracts.http_harness import LEGACY, MODERN, connected
from tests.peers.raw_server import LegacyScript, Received, Wire, raw_server
from tests.peers.running import legacy_server


async def answer(received: Received, wire: Wire) -> None:
    await wire.result(b'{"content":[]}')


def ended(end: Result | Failure) -> Failure:
    assert isinstance(end, Failure), end
    return end


async def test_a_session_is_opened_as_the_protocol_says_and_kept() -> None:
    async with (
        raw_server(LegacyScript({"tools/call": answer})) as raw,
        connected(raw.url) as harness,
    ):
        await harness.connector.open()
        for _ in range(5):
            await harness.end(harness.tool("any", client_info=Raw(b'{"name":"x","version":"1"}')))
        opened = raw.of("initialize")
        assert [sent.header("mcp-session-id") for sent in opened] == [None, None]
        assert [sent.header("mcp-protocol-version") for sent in opened] == [None, None]
        assert opened[1].json["params"]["protocolVersion"] == LEGACY
        assert opened[1].json["params"]["capabilities"] == {}
        calls = raw.of("tools/call")
        assert {sent.header("mcp-session-id") for sent in calls} == {"session-2"}
        assert {sent.header("mcp-protocol-version") for sent in calls} == {LEGACY}
        assert all("_meta" not in sent.json["params"] for sent in calls)
        assert len({sent.json["id"] for sent in calls}) == 5
        before = len(raw.requests)
        await harness.end(harness.tool("any"))
        assert len(raw.requests) == before + 1
    deleted = [sent for sent in raw.requests if sent.method == "DELETE"]
    assert {sent.header("mcp-session-id") for sent in deleted} == {"session-1", "session-2"}


async def test_first_calls_at_the_same_time_open_one_session() -> None:
    script = LegacyScript({"tools/call": answer})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(harness.end, harness.tool("any"))
        assert (script.opened, len(raw.of("tools/call"))) == (2, 10)


async def test_what_callers_must_not_share_they_do_not_share() -> None:
    script = LegacyScript({"tools/call": answer})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        for options in (
            {},
            {"affinity": "a"},
            {"affinity": "b"},
            {"client_capabilities": Raw(b'{"x":{}}')},
            {},
            {"affinity": "a"},
        ):
            await harness.end(harness.tool("any", **options))
        harness.credential = Credential("user", 1, {"Authorization": "Bearer a"})
        await harness.end(harness.tool("any"))
        harness.credential = Credential("user", 2, {"Authorization": "Bearer b"})
        await harness.end(harness.tool("any"))
        used = [sent.header("mcp-session-id") for sent in raw.of("tools/call")]
        assert used == [f"session-{number}" for number in (2, 3, 4, 5, 2, 3, 6, 7)]


async def test_a_caller_that_has_left_takes_along_what_rests_and_nothing_in_flight() -> None:
    goes_on = anyio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        if received.json["params"]["name"] == "slow":
            await goes_on.wait()
        await answer(received, wire)

    script = LegacyScript({"tools/call": waits})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        assert isinstance(harness.connector, Conversing)
        for affinity in ("a", "b"):
            await harness.end(harness.tool("any", affinity=affinity))
        ann, bob = [sent.header("mcp-session-id") for sent in raw.of("tools/call")]
        async with anyio.create_task_group() as group:
            group.start_soon(harness.end, harness.tool("slow", affinity="b"))
            with anyio.fail_after(5):
                await raw.until(lambda: len(raw.of("tools/call")) == 3)
                for affinity in ("", "a", "b"):
                    harness.connector.left(affinity)
                await raw.until(lambda: ann not in script.sessions)
            assert bob in script.sessions
            goes_on.set()


@pytest.mark.parametrize("status", [404, 400])
async def test_a_lost_session_is_opened_anew_and_the_call_sent_again(status: int) -> None:
    script = LegacyScript({"tools/call": answer})

    async def forgetful(received: Received, wire: Wire) -> None:
        session = received.header("mcp-session-id")
        if session is not None and session not in script.sessions and received.body:
            await wire.error_to_nobody(status, -32000, "No valid session")
        else:
            await script(received, wire)

    async with raw_server(forgetful) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        await harness.end(harness.tool("any"))
        script.sessions.clear()
        assert isinstance(await harness.end(harness.tool("any")), Result)
        assert script.opened == 3
        used = [sent.header("mcp-session-id") for sent in raw.of("tools/call")]
        assert used == ["session-2", "session-2", "session-3"]
        await harness.connector.list()
        assert script.opened == 4


async def test_a_session_that_is_lost_at_once_is_not_opened_for_ever() -> None:
    async def lost(received: Received, wire: Wire) -> None:
        await wire.error_to_nobody(404, -32001, "Session not found")

    script = LegacyScript({"tools/call": lost})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        failure = ended(await harness.end(harness.tool("any")))
        assert failure.status == 404
        assert len(raw.of("tools/call")) == 2


class Sessionless(LegacyScript):
    """Keeps no sessions, and gives no id."""

    async def __call__(self, received: Received, wire: Wire) -> None:
        if received.rpc_method == "tools/call":
            await answer(received, wire)
        elif received.rpc_method == "notifications/initialized":
            await wire.reply(202)
        else:
            await super().__call__(received, wire)

    async def initialize(self, wire: Wire) -> None:
        await wire.result({"protocolVersion": "2025-03-26", "capabilities": {}})


async def test_a_server_without_sessions_is_called_without() -> None:
    async with raw_server(Sessionless()) as raw, connected(raw.url) as harness:
        assert isinstance(await harness.end(harness.tool("any")), Result)
        sent = raw.of("tools/call")[0]
        assert sent.header("mcp-session-id") is None
        assert sent.header("mcp-protocol-version") == "2025-03-26"
    assert {sent.method for sent in raw.requests} == {"POST", "GET"}


async def test_cancelling_is_a_notification_with_the_id_that_went_out() -> None:
    started = anyio.Event()

    async def hang(received: Received, wire: Wire) -> None:
        started.set()
        await wire.client_left()

    script = LegacyScript({"tools/call": hang})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        end = await harness.end(harness.tool("any", timeout_s=0.2))
        assert ended(end).kind == "timeout"
        with anyio.fail_after(5):
            await raw.until(lambda: len(raw.of("notifications/cancelled")) == 1)
        notice = raw.of("notifications/cancelled")[0]
        assert notice.json["params"]["requestId"] == raw.of("tools/call")[0].json["id"]
        assert notice.header("mcp-session-id") == "session-2"
        assert "id" not in notice.json


async def test_a_broken_stream_is_taken_up_again_and_the_call_not_sent_again() -> None:
    """2025-11-25 transports, Resumability: the server ends the stream and names a pause."""
    resumed: list[Received] = []
    answers_kept: list[bytes] = []

    async def polls(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(b"id: s-0\r\nretry: 50\r\ndata:\r\n\r\n")
        answers_kept.append(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    async def get(received: Received, wire: Wire) -> None:
        if received.header("last-event-id") is None:
            await wire.reply(405)
            return
        resumed.append(received)
        await wire.start_stream()
        if len(resumed) == 1:
            await wire.chunk(b"id: s-1\r\ndata:\r\n\r\n")
        else:
            await wire.frame(answers_kept[0], prefix=b"id: s-2\r\n")
        await wire.end_stream()

    script = LegacyScript({"tools/call": polls, "GET": get})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        events = await harness.events(harness.tool("any"))
        assert events[:2] == [Pause(50), Pause(None)]
        assert isinstance(events[2], Result)
        assert [sent.header("last-event-id") for sent in resumed] == ["s-0", "s-1"]
        assert {sent.header("mcp-session-id") for sent in resumed} == {"session-2"}
        assert len(raw.of("tools/call")) == 1


async def test_a_stream_that_cannot_be_taken_up_again_is_a_disconnection() -> None:
    async def breaks(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(b"id: s-0\r\nretry: 1\r\ndata:\r\n\r\n")
        await wire.abort()

    for methods in ({}, {"GET": answer_404}):
        script = LegacyScript({"tools/call": breaks, **methods})
        async with raw_server(script) as raw, connected(raw.url) as harness:
            end = await harness.end(harness.tool("any"))
            assert ended(end).kind == "disconnected"
            assert len(raw.of("tools/call")) == 1
            assert script.opened == 2


async def answer_404(received: Received, wire: Wire) -> None:
    await wire.reply(404)


async def test_a_stream_without_ids_that_breaks_is_a_disconnection() -> None:
    async def breaks(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(b": nothing yet\r\n\r\n")
        await wire.abort()

    script = LegacyScript({"tools/call": breaks})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        assert ended(await harness.end(harness.tool("any"))).kind == "disconnected"
        assert len(raw.of("tools/call")) == 1


async def test_what_a_server_asks_itself_is_answered_without_the_caller() -> None:
    async def asks(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.frame({"jsonrpc": "2.0", "id": "p1", "method": "ping"})
        await wire.frame({"jsonrpc": "2.0", "id": 7, "method": "unheard/of", "params": {}})
        with anyio.fail_after(5):
            await raw.until(lambda: len(answers(raw.requests)) == 2)
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    script = LegacyScript({"tools/call": asks})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        events = await harness.events(harness.tool("any"))
        assert [type(event) for event in events] == [Result]
        given = {json.dumps(sent["id"]): sent for sent in answers(raw.requests)}
        assert given['"p1"']["result"] == {}
        assert given["7"]["error"]["code"] == -32601


def answers(requests: list[Received]) -> list[Any]:
    return [sent.json for sent in requests if sent.body and "method" not in sent.json]


async def test_a_question_that_is_withdrawn_is_not_answered() -> None:
    async def asks(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.frame({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}})
        params = {"requestId": 1}
        await wire.frame({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    script = LegacyScript({"tools/call": asks})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        request = harness.tool("any", client_capabilities=ASKABLE)
        outcome = harness.connector.invoke(request, harness.credential)
        events = [event async for event in outcome]
        asked = events[0]
        assert isinstance(asked, Ask)
        await asked.answer(json_raw({"action": "accept"}))
        assert events[1] == Withdrawn(asked)
        assert isinstance(events[2], Result)
        assert answers(raw.requests) == []


async def test_questions_on_the_sessions_own_stream_reach_the_only_caller_there_is() -> None:
    streams: list[Wire] = []
    both = anyio.Event()

    async def get(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        if received.header("mcp-session-id") == "session-2":
            streams.append(wire)
        await wire.client_left()

    async def call(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        if received.json["params"]["name"] == "alone":
            ask = {"jsonrpc": "2.0", "id": 1, "method": "roots/list", "params": {}}
            await streams[0].frame(ask)
        elif len(raw.of("tools/call")) < 3:
            await both.wait()
        else:
            ask = {"jsonrpc": "2.0", "id": 2, "method": "roots/list", "params": {}}
            await streams[0].frame(ask)
        with anyio.fail_after(5):
            await raw.until(lambda: bool(answers(raw.requests)))
        both.set()
        given = json.dumps(answers(raw.requests)[-1]).encode()
        await wire.frame(wire.envelope(b"result", b'{"given":%b}' % given))
        await wire.end_stream()

    script = LegacyScript({"tools/call": call, "GET": get})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        harness.answers = {"roots/list": {"roots": []}}
        end = await harness.end(harness.tool("alone", client_capabilities=ASKABLE))
        assert isinstance(end, Result)
        assert json.loads(bytes(end.body))["given"]["result"] == {"roots": []}
        raw.requests[:] = [sent for sent in raw.requests if sent.rpc_method]
        async with anyio.create_task_group() as group:
            group.start_soon(harness.end, harness.tool("first", client_capabilities=ASKABLE))
            await raw.until(lambda: len(raw.of("tools/call")) == 2)
            end = await harness.end(harness.tool("second", client_capabilities=ASKABLE))
        assert isinstance(end, Result)
        assert json.loads(bytes(end.body))["given"]["error"]["code"] == -32600


async def test_what_comes_on_the_sessions_own_stream_reaches_the_calls_it_belongs_to() -> None:
    streams: list[Wire] = []

    async def get(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        if received.header("mcp-session-id") == "session-2":
            streams.append(wire)
        await wire.client_left()

    async def call(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        for message in (
            {"method": "notifications/message", "params": {"level": "info", "data": "said"}},
            {"id": 1, "method": "roots/list", "params": {}},
            {"method": "notifications/cancelled", "params": {"requestId": 1}},
        ):
            await streams[0].frame({"jsonrpc": "2.0", **message})
        await released.wait()
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    released = anyio.Event()
    script = LegacyScript({"tools/call": call, "GET": get})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        request = harness.tool("any", client_capabilities=ASKABLE)
        outcome = harness.connector.invoke(request, harness.credential)
        events = []
        with anyio.fail_after(5):
            async for event in outcome:
                events.append(event)
                if isinstance(event, Withdrawn):
                    released.set()
        log, ask, taken_back, end = events
        assert isinstance(log, Log)
        assert isinstance(ask, Ask)
        assert taken_back == Withdrawn(ask)
        assert isinstance(end, Result)
        assert answers(raw.requests) == []


async def test_the_log_level_is_lowered_once_and_never_raised() -> None:
    script = LegacyScript(
        {"tools/call": answer, "logging/setLevel": answer}, capabilities={"logging": {}}
    )
    async with raw_server(script) as raw, connected(raw.url) as harness:
        for level in (None, "error", "warning", "error", "debug", "info"):
            await harness.end(harness.tool("any", log_level=level))
        levels = [sent.json["params"]["level"] for sent in raw.of("logging/setLevel")]
        assert levels == ["error", "warning", "debug"]


async def test_a_modern_caller_of_a_legacy_upstream_is_served_in_a_session() -> None:
    script = LegacyScript({"tools/call": answer})
    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        assert isinstance(await harness.end(harness.tool("any")), Result)
        assert raw.of("tools/call")[0].header("mcp-session-id") == "session-2"
        assert raw.of("tools/call")[0].header("mcp-method") is None


@pytest.mark.parametrize("session", ["a b", "", "ä"])
async def test_a_session_id_that_headers_cannot_carry_breaks_the_protocol(session: str) -> None:
    class Odd(LegacyScript):
        async def initialize(self, wire: Wire) -> None:
            result = json.dumps({"protocolVersion": LEGACY, "capabilities": {}}).encode()
            body = wire.envelope(b"result", result)
            head = f"HTTP/1.1 200 OK\r\nMcp-Session-Id: {session}\r\nContent-Length: {len(body)}"
            await wire.send(head.encode() + b"\r\nContent-Type: application/json\r\n\r\n" + body)

    async with raw_server(Odd()) as raw, connected(raw.url) as harness:
        assert ended(await harness.end(harness.tool("any"))).kind == "unreachable"
        assert raw.of("tools/call") == []


async def test_a_restarted_upstream_is_heard_of_again() -> None:
    watched = "memo://watched"
    with legacy_server() as peer:
        async with connected(peer.url) as harness:
            await harness.connector.open()
            assert await harness.connector.watch(frozenset({watched})) == {watched}
            peer.stop()
            await harness.changes.until(Change("closed"))
            with legacy_server(port=peer.port):
                await harness.changes.until(Change("tools"))
                await harness.changes.until(Change("resource", watched))
                await harness.text("touch", {"uri": watched})
                await harness.changes.until(Change("resource", watched), 2)
