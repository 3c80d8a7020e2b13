"""Answers that are streams can be taken up again: after a break, and after a pause (2025-11-25)."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp_types import ElicitResult

from hub.domain.outcome import Ask, Event, Failure, Pause, Progress
from hub.live.replays import Replays
from hub.live.sessions import Sessions
from hub.pipeline import Admitted
from hub.surfaces.mcp.surface import McpSurface
from mcp_wire.jsonrpc import raw
from tests.peers.clients import connected, text_of
from tests.peers.tiny_hub import TinyHub, exchanged, serving, text_result, tiny_hub

pytestmark = pytest.mark.anyio

SESSION = "Mcp-Session-Id"
LAST = "Last-Event-ID"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, anonymous=True, heartbeat_s=0.2) as running:
        yield running


class Frames:
    """The events of one response, whole: id, data and retry as they came."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, str]:
        """The next event. Raises EOFError at the end of the stream."""
        event: dict[str, str] = {}
        with anyio.fail_after(5):
            async for line in self._lines:
                name, _, value = line.partition(":")
                if name:
                    event[name] = value.removeprefix(" ")
                elif event:
                    return event
        raise EOFError

    async def comment(self) -> None:
        """Wait for a sign of life: from then on the server watches for its client's hanging up."""
        with anyio.fail_after(5):
            async for line in self._lines:
                if line.startswith(":"):
                    return
        raise EOFError

    async def rest(self) -> list[dict[str, str]]:
        events = []
        while True:
            try:
                events.append(await self.next())
            except EOFError:
                return events


def message_in(event: dict[str, str]) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(event["data"])
    return message


class Caller:
    """One legacy session, spoken to by hand."""

    def __init__(self, http: httpx2.AsyncClient, url: str, session: str) -> None:
        self.http = http
        self.url = url
        self.headers = {"Accept": "application/json, text/event-stream", SESSION: session}

    @asynccontextmanager
    async def calling(
        self, name: str, request_id: Any = 1, /, **arguments: Any
    ) -> AsyncIterator[Frames]:
        params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "p"}}
        body = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        async with self.http.stream("POST", self.url, json=body, headers=self.headers) as response:
            yield Frames(response)

    @asynccontextmanager
    async def resuming(self, event_id: str) -> AsyncIterator[Frames]:
        headers = {**self.headers, LAST: event_id}
        async with self.http.stream("GET", self.url, headers=headers) as response:
            yield Frames(response)

    async def post(self, message: dict[str, Any]) -> int:
        answer = await self.http.post(self.url, json=message, headers=self.headers)
        return answer.status_code


async def begun(
    http: httpx2.AsyncClient, hub: TinyHub, revision: str = "2025-11-25", **capabilities: Any
) -> Caller:
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": info}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await http.post(hub.url, json=body)
    return Caller(http, hub.url, answer.headers[SESSION])


def script(hub: TinyHub, *events: Event, name: str = "hang") -> None:
    """Have ``name`` say these, then wait for the test's ``release``, then answer."""

    async def told(_: Admitted) -> AsyncGenerator[Event]:
        for event in events:
            yield event
        hub.seen.event("waiting").set()
        await hub.seen.event("release").wait()
        yield Progress({"progress": raw(9)})
        yield text_result("at last")

    hub.scripted.scripts[name] = told


async def heard(hub: TinyHub) -> None:
    """Until the server has seen what was done before this: it answers on another connection."""
    assert b" 404 " in await exchanged(hub, "GET", "/no/such/path", {})


STEP = Progress({"progress": raw(1)})


async def test_a_stream_begins_with_an_event_that_only_names_where_to_go_on(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    hub.seen.event("release").set()
    for revision, primed in (("2025-11-25", True), ("2025-06-18", False), ("2025-03-26", False)):
        caller = await begun(http, hub, revision)
        script(hub, STEP)
        async with caller.calling("hang") as frames:
            events = await frames.rest()
        assert (events[0]["data"] == "") is primed
        told = events[1:] if primed else events
        assert [message_in(event).get("method", "answer") for event in told] == [
            "notifications/progress",
            "notifications/progress",
            "answer",
        ]
        ids = [event["id"] for event in events]
        assert len(set(ids)) == len(ids)
    oldest = await begun(http, hub, "2024-11-05")
    script(hub, STEP)
    async with oldest.calling("hang") as frames:
        assert not any("id" in event for event in await frames.rest())


async def test_an_answer_at_once_is_plain_json_and_nothing_is_kept(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    replays = Replays()
    async with tiny_hub(tmp_path, anonymous=True, sessions=Sessions(replays=replays)) as hub:
        caller = await begun(http, hub)
        params = {"name": "echo", "arguments": {"text": "x"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = await http.post(hub.url, json=body, headers=caller.headers)
        assert answer.headers["content-type"] == "application/json"
        assert replays.size_bytes == 0


async def test_a_client_that_names_event_streams_first_gets_one(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    caller.headers["Accept"] = "text/event-stream, application/json"
    async with caller.calling("echo", "mine", text="hello") as frames:
        primer, answer = await frames.rest()
    assert primer["data"] == ""
    assert message_in(answer)["result"]["content"][0]["text"] == "hello"
    async with caller.resuming(primer["id"]) as frames:
        (again,) = await frames.rest()
    assert again == answer


async def test_a_broken_stream_is_taken_up_again_with_what_was_missed_and_then_the_answer(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    script(hub, STEP, Progress({"progress": raw(2)}))
    async with caller.calling("hang", "mine") as frames:
        await frames.next()
        first = await frames.next()
        assert message_in(first)["params"]["progress"] == 1
    async with caller.resuming(first["id"]) as frames:
        assert message_in(await frames.next())["params"]["progress"] == 2
        hub.seen.event("release").set()
        assert message_in(await frames.next())["params"]["progress"] == 9
        answer = await frames.next()
        assert (message_in(answer)["id"], answer["id"]) == ("mine", answer["id"])
        assert message_in(answer)["result"]["content"][0]["text"] == "at last"
        assert await frames.rest() == []
    entry = hub.seen.entries[-1]
    assert (entry.outcome, entry.delivered) == ("ok", "offered")
    async with caller.resuming(first["id"]) as frames:
        assert len(await frames.rest()) == 3  # kept for a while, whoever saw it already


async def test_the_answer_of_a_call_whose_client_left_waits_for_it(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    script(hub, STEP)
    async with caller.calling("hang") as frames:
        primer = await frames.next()
        await frames.comment()
    await heard(hub)
    hub.seen.event("release").set()
    with anyio.fail_after(5):
        while len(hub.seen.entries) < 2:
            await anyio.lowlevel.checkpoint()
    assert (hub.seen.entries[1].outcome, hub.seen.entries[1].delivered) == ("ok", "none")
    async with caller.resuming(primer["id"]) as frames:
        assert "result" in message_in((await frames.rest())[-1])


async def test_a_pause_of_the_upstream_sends_a_client_away_that_knows_how_to_come_back(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    script(hub, Pause(25))
    async with caller.calling("hang") as frames:
        events = await frames.rest()
    assert [event["data"] for event in events] == ["", ""]
    assert events[-1]["retry"] == "25"
    hub.seen.event("release").set()
    async with caller.resuming(events[-1]["id"]) as frames:
        assert "result" in message_in((await frames.rest())[-1])
    assert hub.seen.entries[-1].delivered == "offered"


async def test_a_pause_while_the_stream_was_taken_up_sends_the_client_away_once_more(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    resume = hub.seen.event("resume")

    async def told(_: Admitted) -> AsyncGenerator[Event]:
        yield Pause(None)
        await resume.wait()
        yield Pause(10)
        yield text_result("at last")

    hub.scripted.scripts["hang"] = told
    async with caller.calling("hang") as frames:
        events = await frames.rest()
        assert events[-1]["retry"] == "1000"
    async with caller.resuming(events[-1]["id"]) as frames:
        resume.set()
        (away,) = await frames.rest()
        assert (away["data"], away["retry"]) == ("", "10")
    async with caller.resuming(away["id"]) as frames:
        assert "result" in message_in((await frames.rest())[-1])


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-03-26", "2024-11-05"])
async def test_a_pause_is_nothing_to_older_clients(
    hub: TinyHub, http: httpx2.AsyncClient, revision: str
) -> None:
    caller = await begun(http, hub, revision)
    script(hub, Pause(10), name="hang")
    hub.seen.event("release").set()
    async with caller.calling("hang") as frames:
        assert "result" in message_in((await frames.rest())[-1])


async def test_the_sdk_client_comes_back_by_itself(hub: TinyHub) -> None:
    script(hub, STEP, Pause(10))
    hub.seen.event("release").set()
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with connected(hub.url, "legacy") as client:
        result = await client.call_tool("hang", {}, progress_callback=note)
    assert text_of(result) == "at last"
    assert told == [1, 9]


async def test_a_question_that_came_while_the_client_was_away_is_asked_when_it_is_back(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub, elicitation={})
    answered = anyio.Event()

    async def told(_: Admitted) -> AsyncGenerator[Event]:
        async def take(_answer: Any) -> None:
            answered.set()

        yield Pause(10)
        yield Ask("elicitation/create", raw({"message": "?", "requestedSchema": {}}), take)
        await answered.wait()
        yield text_result("thanks")

    hub.scripted.scripts["hang"] = told
    async with caller.calling("hang") as frames:
        events = await frames.rest()
    async with caller.resuming(events[-1]["id"]) as frames:
        question = message_in(await frames.next())
        assert question["method"] == "elicitation/create"
        result = ElicitResult(action="decline").model_dump(exclude_none=True)
        await caller.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
        assert "result" in message_in(await frames.next())


async def test_a_question_stays_open_while_its_callers_stream_is_broken(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub, elicitation={})
    async with caller.calling("ask") as frames:
        primer = await frames.next()
        assert message_in(await frames.next())["method"] == "elicitation/create"
        await frames.comment()
    await heard(hub)
    async with caller.resuming(primer["id"]) as frames:
        question = message_in(await frames.next())
        result = {"action": "accept", "content": {"colour": "red"}}
        await caller.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
        end = message_in(await frames.next())
    assert end["result"]["content"][0]["text"] == "accept:red"


async def test_whoever_never_comes_back_is_not_waited_for(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub, elicitation={})
    answers: list[Any] = []
    answered = anyio.Event()

    async def told(_: Admitted) -> AsyncGenerator[Event]:
        async def take(answer: Any) -> None:
            answers.append(answer)
            answered.set()

        yield Pause(1)
        yield Ask("elicitation/create", raw({"message": "?", "requestedSchema": {}}), take)
        await answered.wait()
        yield text_result("too late")

    hub.scripted.scripts["hang"] = told
    async with caller.calling("hang") as frames:
        await frames.rest()
    with anyio.fail_after(5):
        while len(hub.seen.entries) < 2:
            await anyio.lowlevel.checkpoint()
    assert isinstance(answers[0], Failure)
    assert hub.seen.entries[-1].delivered == "none"


async def test_a_stream_taken_up_again_ends_the_one_before(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    script(hub, STEP)
    async with caller.calling("hang") as first:
        primer = await first.next()
        await first.next()
        async with caller.resuming(primer["id"]) as second:
            assert await first.rest() == []
            await second.next()
            async with caller.resuming(primer["id"]) as third:
                assert await second.rest() == []
                hub.seen.event("release").set()
                assert "result" in message_in((await third.rest())[-1])


async def test_an_answer_that_is_no_longer_kept_is_an_error_to_its_request(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    script(hub, STEP)
    hub.seen.event("release").set()
    async with caller.calling("hang", "mine") as frames:
        events = await frames.rest()
    restarted = McpSurface(hub.restarted())
    async with serving(restarted) as port:
        caller.url = f"http://127.0.0.1:{port}/mcp"
        async with caller.resuming(events[0]["id"]) as frames:
            (told,) = await frames.rest()
    assert message_in(told)["id"] == "mine"
    assert message_in(told)["error"]["message"] == "The answer is no longer kept."


async def test_event_ids_of_another_session_lead_nowhere(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller, other = await begun(http, hub), await begun(http, hub)
    script(hub, STEP)
    hub.seen.event("release").set()
    async with caller.calling("hang") as frames:
        events = await frames.rest()
    async with other.resuming(events[0]["id"]) as frames:
        (told,) = await frames.rest()
    assert "error" in message_in(told)


async def test_an_event_id_of_nobodys_opens_the_stream_for_server_messages(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = await begun(http, hub)
    for odd in ("7", "a~b~c.1", "a~b~!!.1", "~~.x", "a~1~e30.1"):
        async with caller.resuming(odd) as frames:
            assert frames.status == 200
            assert hub.surface.open_streams == 1
        await hub.until_idle()


async def test_a_deleted_sessions_answers_are_forgotten(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    replays = Replays()
    async with tiny_hub(tmp_path, anonymous=True, sessions=Sessions(replays=replays)) as hub:
        caller = await begun(http, hub)
        script(hub, STEP)
        hub.seen.event("release").set()
        async with caller.calling("hang") as frames:
            events = await frames.rest()
        assert replays.size_bytes > 0
        await http.delete(hub.url, headers=caller.headers)
        assert replays.size_bytes == 0
        async with caller.resuming(events[0]["id"]) as frames:
            assert frames.status == 404


async def test_what_is_kept_is_bounded_by_number_size_and_time() -> None:
    time = [0.0]
    replays = Replays(
        lambda: time[0], max_events=3, max_session_bytes=100, max_bytes=150, kept_s=10
    )

    def said(replay: Any) -> list[bytes]:
        return [message for _, message in replay.after(replay.beginning)]

    one = replays.begin("s", b"1")
    for number in range(5):
        one.keep(b"%d" % number)
    assert said(one) == [b"2", b"3", b"4"]
    one.keep(b"x" * 99)
    assert said(one) == [b"4", b"x" * 99]
    two = replays.begin("t", b"2")
    two.keep(b"y" * 60, last=True)
    assert (said(one), said(two)) == ([], [b"y" * 60])
    too_large = replays.begin("s", b"3")
    last = too_large.keep(b"z" * 101, last=True)
    assert replays.find("s", last) is None
    time[0] = 10.0
    assert replays.find("t", two.beginning) is None
    assert replays.size_bytes == 0
    assert replays.find("s", one.beginning) is one  # its call is still under way
