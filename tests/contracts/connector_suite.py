"""What every connector promises, written once.

A transport's test module subclasses :class:`ConnectorSuite` (any upstream that offers the tools of
``tests.peers.offerings``: echo, add, fail, big, hang, await_started, await_cancelled) and, when it
speaks MCP, :class:`McpSuite`; it brings two fixtures: ``harness``, a connector in front of such an
upstream, and ``verbatim``, which opens one in front of an upstream that answers every tool call with
given bytes as the result.
"""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import anyio
import msgspec
import psutil
import pytest
from msgspec import Raw

from connectors.errors import ConnectorError
from connectors.outcome import Ask, Event, Failure, Log, Progress, Result
from connectors.protocol import Change, Connector, Credential, Request
from mcp_wire.jsonrpc import raw, string_of

WAIT_S = 5.0

RESULTS = [
    b'{"content":[]}',
    b'{"content":[{"type":"text","text":"a"}],"structuredContent":null,"isError":false}',
    b'{"content":[{"type":"x-unheard-of","payload":{"a":null}}],"x-vendor":{"z":[1,{},""]}}',
    b'{ "content" : [ ],\t"id":1152921504606846977, "much":1e400, "exact":1.10, "neg":-0 }',
    b'{"content":[],"_meta":{"example.com/k":[true]},"text":"\\u00e9\xc3\xa9 \\/ \\n"}',
]


class Changes:
    """What a connector announced, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[Change] = []
        self._news = anyio.Event()

    def __call__(self, change: Change) -> None:
        self.seen.append(change)
        self._news.set()
        self._news = anyio.Event()

    async def until(self, change: Change, count: int = 1) -> None:
        with anyio.fail_after(WAIT_S):
            while self.seen.count(change) < count:
                await self._news.wait()


@dataclass
class Harness:
    """A connector under test."""

    connector: Connector
    changes: Changes
    revision: str = "2025-11-25"
    """The revision that callers speak."""
    credential: Credential = field(default_factory=Credential)
    answers: dict[str, Any] = field(default_factory=dict)
    """What callers answer when they are asked, by method."""

    def tool(self, name: str, arguments: Any = None, **options: Any) -> Request:
        """A request that calls a tool."""
        params = {"name": raw(name), "arguments": raw(arguments or {})}
        return self.request("tools/call", params, name=name, **options)

    def request(self, method: str, params: dict[str, Raw], **options: Any) -> Request:
        settings = {"revision": self.revision, "timeout_s": 10.0, **options}
        return Request(method=method, params=params, **settings)

    async def events(self, request: Request) -> list[Event]:
        """All events, every question answered."""
        events: list[Event] = []
        with anyio.fail_after(WAIT_S * 4):
            async for event in self.connector.invoke(request, self.credential):
                events.append(event)
                if isinstance(event, Ask):
                    await event.answer(raw(self.answers[event.method]))
        return events

    async def end(self, request: Request) -> Result | Failure:
        end = (await self.events(request))[-1]
        assert isinstance(end, Result | Failure)
        return end

    async def text(self, name: str, arguments: Any = None, **options: Any) -> str:
        """The text of a tool's result."""
        return text_of(await self.end(self.tool(name, arguments, **options)))


Verbatim = Callable[[bytes], AbstractAsyncContextManager[Harness]]


def text_of(end: Result | Failure) -> str:
    assert isinstance(end, Result), end
    text = json.loads(bytes(end.body))["content"][0]["text"]
    assert isinstance(text, str)
    return text


def client_sockets() -> set[int]:
    """Descriptors of this process's sockets, without those of servers that run in it."""
    sockets = psutil.Process().net_connections("all")
    served = {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN}
    return {one.fd for one in sockets if not one.raddr or one.laddr.port not in served}


class ConnectorSuite:
    """Of every connector."""

    async def test_opening_again_tells_the_same(self, harness: Harness) -> None:
        assert await harness.connector.open() == await harness.connector.open()

    async def test_opening_many_times_at_once_opens_once(self, harness: Harness) -> None:
        identities = []

        async def open_it() -> None:
            identities.append(await harness.connector.open())

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(open_it)
        assert len(identities) == 5
        assert all(identity == identities[0] for identity in identities)

    async def test_the_list_is_complete_and_repeats_nothing(self, harness: Harness) -> None:
        listing = await harness.connector.list()
        names = [msgspec.json.decode(tool)["name"] for tool in listing.tools]
        assert {"echo", "add", "fail", "big", "hang"} <= set(names)
        assert len(names) == len(set(names))

    async def test_a_call_without_opening_first_works(self, harness: Harness) -> None:
        assert await harness.text("echo", {"text": "hi"}) == "hi"

    async def test_a_call_ends_with_its_result_and_nothing_follows(self, harness: Harness) -> None:
        await harness.connector.open()
        outcome = harness.connector.invoke(
            harness.tool("add", {"a": 2, "b": 3}), harness.credential
        )
        events = [event async for event in outcome]
        assert isinstance(events[-1], Result)
        assert not any(isinstance(event, Result | Failure) for event in events[:-1])
        assert text_of(events[-1]) == "5"
        with pytest.raises(StopAsyncIteration):
            await outcome.__anext__()

    async def test_nothing_is_sent_before_the_first_event_is_awaited(
        self, harness: Harness
    ) -> None:
        outcome = harness.connector.invoke(
            harness.tool("hang", {"name": "never"}), harness.credential
        )
        await outcome.aclose()
        with anyio.move_on_after(0.2) as waited:
            await harness.text("await_started", {"name": "never"})
        assert waited.cancelled_caught

    async def test_a_tool_that_fails_is_a_result(self, harness: Harness) -> None:
        end = await harness.end(harness.tool("fail", {"reason": "no paper"}))
        assert isinstance(end, Result)
        assert json.loads(bytes(end.body))["isError"] is True
        assert "no paper" in text_of(end)

    async def test_many_calls_at_once_each_get_their_own_answer(self, harness: Harness) -> None:
        answers: dict[int, str] = {}

        async def call(number: int) -> None:
            answers[number] = await harness.text("echo", {"text": f"call {number}"})

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(call, number)
        assert answers == {number: f"call {number}" for number in range(40)}

    async def test_silence_ends_in_a_timeout_and_the_upstream_is_told(
        self, harness: Harness
    ) -> None:
        await harness.connector.open()
        end = await harness.end(harness.tool("hang", {"name": "late"}, timeout_s=0.3))
        assert isinstance(end, Failure)
        assert end.kind == "timeout"
        assert await harness.text("await_cancelled", {"name": "late"}) == "cancelled"

    async def test_giving_up_is_told_upstream(self, harness: Harness) -> None:
        async def give_up_once_started() -> None:
            assert await harness.text("await_started", {"name": "early"}) == "started"
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(give_up_once_started)
            request = harness.tool("hang", {"name": "early"})
            outcome = harness.connector.invoke(request, harness.credential)
            try:
                await outcome.__anext__()
            finally:
                await outcome.aclose()
        assert await harness.text("await_cancelled", {"name": "early"}) == "cancelled"

    async def test_after_a_timeout_the_next_call_works(self, harness: Harness) -> None:
        await harness.end(harness.tool("hang", {"name": "once"}, timeout_s=0.2))
        assert await harness.text("echo", {"text": "still here"}) == "still here"

    async def test_a_large_result_passes(self, harness: Harness) -> None:
        text = await harness.text("big", {"size_bytes": 3_000_000})
        assert len(text) == 3_000_000

    @pytest.mark.parametrize("result", RESULTS)
    async def test_a_result_passes_byte_for_byte(self, verbatim: Verbatim, result: bytes) -> None:
        async with verbatim(result) as harness:
            end = await harness.end(harness.tool("any"))
            assert isinstance(end, Result)
            assert bytes(end.body) == result

    async def test_a_result_of_eight_megabytes_passes_byte_for_byte(
        self, verbatim: Verbatim
    ) -> None:
        result = b'{"content":[{"type":"text","text":"%b"}]}' % (b"x" * 8_000_000)
        async with verbatim(result) as harness:
            end = await harness.end(harness.tool("any", timeout_s=30.0))
            assert isinstance(end, Result)
            assert bytes(end.body) == result

    async def test_closing_leaves_no_socket_and_fails_what_comes_later(
        self, closing: "Callable[[], AbstractAsyncContextManager[Harness]]"
    ) -> None:
        before = client_sockets()
        async with closing() as harness:
            await harness.connector.open()
            assert await harness.text("echo", {"text": "hi"}) == "hi"
            with anyio.fail_after(WAIT_S):
                await harness.connector.close()
                await harness.connector.close()
            end = await harness.end(harness.tool("echo", {"text": "hi"}))
            assert isinstance(end, Failure)
            with pytest.raises(ConnectorError):
                await harness.connector.open()
            assert client_sockets() <= before


class McpSuite(ConnectorSuite):
    """Of connectors that reach MCP upstreams."""

    upstream_chooses_logs = False
    """Whether who asked for no level hears what the upstream sends all the same: within the legacy era."""

    async def test_what_opening_tells_is_the_upstreams_own_words(self, harness: Harness) -> None:
        identity = await harness.connector.open()
        assert identity.revisions
        assert identity.version == "1.2.3"
        assert identity.instructions == "Ask me anything."
        assert {"tools", "resources", "prompts"} <= set(
            msgspec.json.decode(identity.protocol_capabilities)
        )

    async def test_every_kind_is_listed(self, harness: Harness) -> None:
        listing = await harness.connector.list()
        uris = {msgspec.json.decode(item)["uri"] for item in listing.resources}
        assert uris == {"memo://static", "memo://watched", "memo://bytes"}
        templates = [msgspec.json.decode(item)["uriTemplate"] for item in listing.templates]
        assert templates == ["memo://note/{id}"]
        prompts = {msgspec.json.decode(item)["name"] for item in listing.prompts}
        assert prompts == {"greet", "plain"}

    async def test_resources_prompts_and_completions_answer(self, harness: Harness) -> None:
        uri = "memo://note/7"
        read = await harness.end(harness.request("resources/read", {"uri": raw(uri)}, name=uri))
        assert isinstance(read, Result)
        assert msgspec.json.decode(read.body)["contents"][0]["text"] == "note 7"
        params = {"name": raw("greet"), "arguments": raw({"name": "Ada"})}
        prompt = await harness.end(harness.request("prompts/get", params, name="greet"))
        assert isinstance(prompt, Result)
        message = msgspec.json.decode(prompt.body)["messages"][0]
        assert message["content"]["text"] == "Say hello to Ada."
        completion = await harness.end(
            harness.request(
                "completion/complete",
                {
                    "ref": raw({"type": "ref/prompt", "name": "greet"}),
                    "argument": raw({"name": "name", "value": "al"}),
                },
            )
        )
        assert isinstance(completion, Result)
        values = msgspec.json.decode(completion.body)["completion"]["values"]
        assert values == ["alice", "albert"]

    async def test_an_error_of_the_protocol_keeps_its_words(self, harness: Harness) -> None:
        end = await harness.end(harness.tool("refuse", {"code": -32050}))
        assert isinstance(end, Failure)
        assert (end.kind, end.code, end.message) == ("error", -32050, "refused as asked")
        assert end.data is not None
        assert msgspec.json.decode(end.data) == {"asked": True}

    async def test_progress_comes_in_order_and_without_a_token(self, harness: Harness) -> None:
        events = await harness.events(harness.tool("slow", {"steps": 3}, wants_progress=True))
        progress = [event.params for event in events if isinstance(event, Progress)]
        assert [int(bytes(params["progress"])) for params in progress] == [1, 2, 3]
        assert [string_of(params["message"]) for params in progress] == [
            "step 1",
            "step 2",
            "step 3",
        ]
        assert not any("progressToken" in params for params in progress)
        assert text_of(_end_of(events)) == "3 steps"

    async def test_progress_is_not_shown_to_who_did_not_ask(self, harness: Harness) -> None:
        events = await harness.events(harness.tool("slow", {"steps": 3}))
        assert [type(event) for event in events] == [Result]

    async def test_progress_keeps_a_slow_call_alive(self, harness: Harness) -> None:
        await harness.connector.open()
        arguments = {"steps": 6, "pause_s": 0.2}
        request = harness.tool("slow", arguments, wants_progress=True, timeout_s=0.7)
        assert text_of(await harness.end(request)) == "6 steps"

    async def test_log_messages_reach_who_asked_for_them(self, harness: Harness) -> None:
        loud = harness.tool("log", {"message": "hot", "level": "warning"}, log_level="info")
        logs = [event.params for event in await harness.events(loud) if isinstance(event, Log)]
        assert [(string_of(log["level"]), string_of(log["data"])) for log in logs] == [
            ("warning", "hot")
        ]
        quiet = harness.tool("log", {"message": "hot", "level": "info"}, log_level="error")
        assert [type(event) for event in await harness.events(quiet)] == [Result]
        unasked = harness.tool("log", {"message": "hot", "level": "error"})
        heard = [Log, Result] if self.upstream_chooses_logs else [Result]
        assert [type(event) for event in await harness.events(unasked)] == heard

    async def test_vendor_meta_and_capabilities_arrive(self, harness: Harness) -> None:
        seen = await harness.text("meta", meta={"example.com/trace": raw({"a": [1]})})
        assert json.loads(seen)["example.com/trace"] == {"a": [1]}
        declared = Raw(b'{"elicitation":{"form":{}}}')
        seen = await harness.text("capabilities", client_capabilities=declared)
        assert json.loads(seen)["elicitation"] == {"form": {}}

    async def test_callers_with_the_same_progress_do_not_meet(self, harness: Harness) -> None:
        seen: dict[int, list[int]] = {}

        async def call(steps: int) -> None:
            arguments = {"steps": steps, "pause_s": 0.01}
            request = harness.tool("slow", arguments, wants_progress=True)
            seen[steps] = [
                int(bytes(event.params["total"]))
                for event in await harness.events(request)
                if isinstance(event, Progress)
            ]

        async with anyio.create_task_group() as group:
            for steps in (2, 3, 4, 5):
                group.start_soon(call, steps)
        assert seen == {steps: [steps] * steps for steps in (2, 3, 4, 5)}

    async def test_a_changed_list_is_announced(self, harness: Harness) -> None:
        await harness.connector.open()
        await harness.text("add_tool", {"name": "brand_new"})
        await harness.changes.until(Change("tools"))
        listing = await harness.connector.list()
        assert b"brand_new" in b"".join(bytes(tool) for tool in listing.tools)
        await harness.text("remove_tool", {"name": "brand_new"})
        await harness.changes.until(Change("tools"), count=2)
        await harness.text("announce_prompts")
        await harness.changes.until(Change("prompts"))
        await harness.text("announce_resources")
        await harness.changes.until(Change("resources"))

    async def test_updates_of_watched_resources_are_announced(self, harness: Harness) -> None:
        watched, other = "memo://watched", "memo://static"
        assert await harness.connector.watch(frozenset({watched})) == {watched}
        await harness.text("touch", {"uri": other})
        await harness.text("touch", {"uri": watched})
        await harness.changes.until(Change("resource", watched))
        assert Change("resource", other) not in harness.changes.seen
        assert await harness.connector.watch(frozenset({other})) == {other}
        await harness.text("touch", {"uri": other})
        await harness.changes.until(Change("resource", other))
        assert await harness.connector.watch(frozenset()) == frozenset()


ASKABLE = Raw(b'{"elicitation":{"form":{}},"sampling":{},"roots":{"listChanged":true}}')


class AskingSuite(McpSuite):
    """Of connectors to legacy upstreams, which ask while the request waits."""

    upstream_chooses_logs = True

    @pytest.fixture(autouse=True)
    def _answers(self, harness: Harness) -> None:
        harness.answers = {
            "elicitation/create": {"action": "accept", "content": {"colour": "red"}},
            "sampling/createMessage": {
                "role": "assistant",
                "content": {"type": "text", "text": "dreamt"},
                "model": "any",
            },
            "roots/list": {"roots": [{"uri": "file:///here"}]},
        }

    @pytest.mark.parametrize(
        ("tool", "arguments", "method", "text"),
        [
            ("elicit", {"question": "Which?"}, "elicitation/create", "accept:red"),
            ("sample", {"prompt": "sheep"}, "sampling/createMessage", "dreamt"),
            ("roots", {}, "roots/list", "file:///here"),
        ],
    )
    async def test_a_question_reaches_its_caller_and_the_answer_goes_back(
        self, harness: Harness, tool: str, arguments: Any, method: str, text: str
    ) -> None:
        request = harness.tool(tool, arguments, client_capabilities=ASKABLE)
        events = await harness.events(request)
        assert [event.method for event in events if isinstance(event, Ask)] == [method]
        assert text_of(_end_of(events)) == text

    async def test_a_question_is_declined_once_and_in_the_callers_words(
        self, harness: Harness
    ) -> None:
        request = harness.tool("elicit", {}, client_capabilities=ASKABLE)
        events: list[Event] = []
        async for event in harness.connector.invoke(request, harness.credential):
            events.append(event)
            if isinstance(event, Ask):
                await event.answer(Failure("unsupported", "Nobody is there."))
                await event.answer(raw({"action": "accept", "content": {"colour": "red"}}))
        end = _end_of(events)
        assert isinstance(end, Failure)
        assert (end.kind, end.message) == ("error", "Nobody is there.")

    async def test_questions_of_several_calls_reach_their_own_callers(
        self, harness: Harness
    ) -> None:
        seen: dict[int, str] = {}

        async def call(number: int) -> None:
            request = harness.tool(
                "elicit", {"question": f"Question {number}?"}, client_capabilities=ASKABLE
            )
            async for event in harness.connector.invoke(request, harness.credential):
                if isinstance(event, Ask):
                    assert msgspec.json.decode(event.params)["message"] == f"Question {number}?"
                    content = {"colour": f"colour {number}"}
                    await event.answer(raw({"action": "accept", "content": content}))
                elif isinstance(event, Result | Failure):
                    seen[number] = text_of(event)

        with anyio.fail_after(WAIT_S * 2):
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(call, number)
        assert seen == {number: f"accept:colour {number}" for number in range(4)}

    async def test_a_call_given_up_while_it_asks_ends_upstream(self, harness: Harness) -> None:
        request = harness.tool("elicit", {}, client_capabilities=ASKABLE)
        outcome = harness.connector.invoke(request, harness.credential)
        with anyio.fail_after(WAIT_S):
            event = await outcome.__anext__()
            assert isinstance(event, Ask)
            await outcome.aclose()
            await event.answer(raw({"action": "decline"}))
        assert await harness.text("echo", {"text": "on"}) == "on"


def _end_of(events: list[Event]) -> Result | Failure:
    end = events[-1]
    assert isinstance(end, Result | Failure)
    return end
