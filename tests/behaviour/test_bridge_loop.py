"""Upstreams that ask for input in the modern way, in front of callers of both eras."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from tests.peers.clients import ERAS, Era, connected, text_of
from tests.peers.crossing import (
    ANSWERED,
    MODERN,
    Answers,
    Crossing,
    asked_in_every_way,
    crossing,
    over_sse,
    over_stdio,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def crossed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crossing]:
    async with crossing(tmp_path_factory.mktemp("loop") / "data", *MODERN) as running:
        yield running


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("server", MODERN)
async def test_every_kind_of_question_reaches_the_caller_and_its_answer_the_upstream(
    crossed: Crossing, server: str, era: Era
) -> None:
    answers = Answers()
    async with connected(crossed.url(server), era, **answers.options) as client:
        assert await asked_in_every_way(client) == ANSWERED
    assert [getattr(asked, "message", None) for asked in answers.asked] == [
        "Which colour?",
        None,
        None,
        "Which colour?",
        "Which colour for hall?",
    ]


@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_caller_may_decline_and_cancel(crossed: Crossing, era: Era, action: str) -> None:
    answers = Answers(action)
    async with connected(crossed.url("modern"), era, **answers.options) as client:
        assert text_of(await client.call_tool("colour", {})) == action


@pytest.mark.parametrize("server", MODERN)
async def test_several_questions_are_put_to_a_legacy_caller_at_once(
    crossed: Crossing, server: str
) -> None:
    answers = Answers()
    together = anyio.Event()

    async def wait_for_the_others() -> None:
        if len(answers.asked) == 3:
            together.set()
        await together.wait()

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        answered = await answers.sample(context, params)
        await wait_for_the_others()
        return answered

    async def roots(context: Any) -> types.ListRootsResult:
        answered = await answers.roots(context)
        await wait_for_the_others()
        return answered

    answers.before = wait_for_the_others
    options = {**answers.options, "sampling_callback": sample, "list_roots_callback": roots}
    async with connected(crossed.url(server), "legacy", **options) as client:
        with anyio.fail_after(10):
            answer = await client.call_tool("all_at_once", {})
    assert text_of(answer) == "accept:blue a word file:///home"


@pytest.mark.parametrize("server", MODERN)
async def test_rounds_go_on_inside_one_call_and_the_state_goes_back_as_it_came(
    crossed: Crossing, server: str
) -> None:
    before = len(crossed.entries())
    async with connected(crossed.url(server), "legacy", **Answers().options) as client:
        assert text_of(await client.call_tool("story", {"chapters": 4})) == " ".join(
            ["accept:blue"] * 4
        )
        assert text_of(await client.call_tool("come_again", {"times": 3})) == "3"
    entries = await crossed.entries_from(before, 2)
    assert [(entry.outcome, entry.interaction) for entry in entries] == [("ok", "")] * 2


async def test_the_upstream_gets_what_the_caller_sent_in_every_round(crossed: Crossing) -> None:
    crossed.modern.posted.clear()
    async with connected(crossed.url("modern"), "legacy", **Answers().options) as client:
        await client.call_tool("story", {"chapters": 2})
    first, second, third = crossed.modern.params_of("tools/call")
    assert first == {"name": "story", "arguments": {"chapters": 2}}
    assert {**first, "requestState": second["requestState"]} == {
        key: value for key, value in second.items() if key != "inputResponses"
    }
    assert list(second["inputResponses"]) == ["chapter 1"]
    assert list(third["inputResponses"]) == ["chapter 2"]


async def test_an_upstream_that_never_has_enough_fails_after_ten_rounds(crossed: Crossing) -> None:
    before = len(crossed.entries())
    async with connected(crossed.url("modern"), "legacy", **Answers().options) as client:
        answer = await client.call_tool("story", {"chapters": 11})
        assert text_of(await client.call_tool("plain", {"text": "x"})) == "plain x"
    assert answer.is_error
    assert "it asked for input more than 10 times" in text_of(answer)
    failed, _ = await crossed.entries_from(before, 2)
    assert (failed.outcome, failed.reason) == ("failed", "unsupported")


async def test_the_same_over_the_oldest_http_transport(crossed: Crossing) -> None:
    async with over_sse(crossed, "modern", "legacy", **Answers().options) as client:
        assert text_of(await client.call_tool("story", {})) == " ".join(["accept:blue"] * 3)
        assert (
            text_of(await client.call_tool("all_at_once", {})) == "accept:blue a word file:///home"
        )


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_same_over_standard_streams(crossed: Crossing, mode: str) -> None:
    async with over_stdio(crossed, "modern", mode, **Answers().options) as client:
        assert text_of(await client.call_tool("story", {})) == " ".join(["accept:blue"] * 3)


@pytest.mark.parametrize("era", ERAS)
async def test_progress_increases_over_all_rounds(crossed: Crossing, era: Era) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with connected(crossed.url("modern"), era, **Answers().options) as client:
        answer = await client.call_tool("progressing", {}, progress_callback=note)
    assert text_of(answer) == "accept:blue"
    assert told == [1, 2, 3]


async def test_a_caller_is_sent_to_an_address_where_it_can_be(crossed: Crossing) -> None:
    answers = Answers()
    async with connected(crossed.url("modern"), "legacy", **answers.options) as client:
        assert text_of(await client.call_tool("visit", {})) == "accept"
    (asked,) = answers.asked
    assert (asked.mode, asked.url) == ("url", "https://accounts.example/sign-in")
    assert asked.elicitation_id


async def test_a_caller_that_answers_with_an_error_ends_the_call(crossed: Crossing) -> None:
    async def refuse(context: Any, params: Any) -> types.ErrorData:
        return types.ErrorData(code=-32000, message="not today")

    options = {**Answers().options, "elicitation_callback": refuse}
    async with connected(crossed.url("modern"), "legacy", **options) as client:
        answer = await client.call_tool("all_at_once", {})
    assert answer.is_error
    assert "its question was not answered: not today" in text_of(answer)


async def test_what_a_caller_did_not_declare_is_not_asked_upstream(crossed: Crossing) -> None:
    crossed.modern.posted.clear()
    async with connected(crossed.url("modern"), "legacy") as client:
        answer = await client.call_tool("colour", {})
    assert answer.is_error
    (message,) = [one for one in crossed.modern.posted if one["method"] == "tools/call"]
    declared = message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    assert declared == {}


async def test_a_call_that_asks_can_be_cancelled_by_its_caller(
    crossed: Crossing, tmp_path: Path
) -> None:
    before = len(crossed.entries())
    answers = Answers()
    asked = anyio.Event()

    async def never() -> None:
        asked.set()
        await anyio.sleep_forever()

    answers.before = never
    async with connected(crossed.url("modern"), "legacy", **answers.options) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "colour", {})
            with anyio.fail_after(10):
                await asked.wait()
            tasks.cancel_scope.cancel()
        (entry,) = await crossed.entries_from(before, 1)
    assert entry.outcome == "cancelled"


async def test_an_error_of_the_upstream_between_rounds_is_the_end(crossed: Crossing) -> None:
    async with connected(crossed.url("modern"), "legacy", **Answers().options) as client:
        with pytest.raises(MCPError) as refused:
            await client.get_prompt("nothing", {})
    assert refused.value.error.code == -32602
