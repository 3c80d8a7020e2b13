"""Modern callers of upstreams that ask while a call runs: the call waits until they come back."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import mcp_types as types
import pytest

from tests.peers.clients import ERAS, Era, connected, text_of
from tests.peers.crossing import (
    ANSWERED,
    LEGACY,
    Answers,
    Crossing,
    Raw,
    asked_in_every_way,
    crossing,
    is_stale,
    over_sse,
    over_stdio,
    retry_of,
    said,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def crossed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crossing]:
    async with crossing(tmp_path_factory.mktemp("parked") / "data", *LEGACY) as running:
        yield running


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("server", LEGACY)
async def test_every_kind_of_question_reaches_the_caller_and_its_answer_the_upstream(
    crossed: Crossing, server: str, era: Era
) -> None:
    answers = Answers()
    async with connected(crossed.url(server), era, **answers.options) as client:
        assert await asked_in_every_way(client) == ANSWERED
    assert len(answers.asked) == 5


@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("server", LEGACY)
async def test_a_caller_may_decline_and_cancel(crossed: Crossing, server: str, action: str) -> None:
    answers = Answers(action)
    async with connected(crossed.url(server), "modern", **answers.options) as client:
        assert text_of(await client.call_tool("colour", {})) == action


@pytest.mark.parametrize("server", LEGACY)
async def test_each_further_question_is_a_further_leg_of_one_interaction(
    crossed: Crossing, server: str
) -> None:
    before = len(crossed.entries())
    async with connected(crossed.url(server), "modern", **Answers().options) as client:
        assert text_of(await client.call_tool("story", {"chapters": 3})) == " ".join(
            ["accept:blue"] * 3
        )
        assert (
            text_of(await client.call_tool("all_at_once", {})) == "accept:blue a word file:///home"
        )
    entries = await crossed.entries_from(before, 8)
    story, at_once = entries[:4], entries[4:]
    for legs in (story, at_once):
        assert [leg.outcome for leg in legs] == ["input_required"] * 3 + ["ok"]
        assert {leg.interaction for leg in legs} == {legs[0].call}
        assert len({leg.call for leg in legs}) == 4
        assert len({leg.arguments_digest for leg in legs}) == 1
        assert {leg.caller_digest for leg in legs} == {""}


async def test_the_upstream_gets_one_request_and_nothing_of_the_retries(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    crossed.legacy.posted.clear()
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("colour", {"question": "Which one?"})
    (question,) = first["result"]["inputRequests"].values()
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "Which one?"
    assert first["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "portico"
    assert "ttlMs" not in first["result"]
    second = await caller.call("colour", {"question": "Which one?"}, **retry_of(first))
    assert said(second) == "accept:blue"
    assert crossed.legacy.params_of("tools/call") == [
        {"name": "colour", "arguments": {"question": "Which one?"}}
    ]


async def test_an_address_to_visit_has_no_id_in_the_modern_era(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("visit")
    ((key, question),) = first["result"]["inputRequests"].items()
    assert question["params"] == {
        "mode": "url",
        "url": "https://accounts.example/sign-in",
        "message": "Sign in.",
    }
    more = {
        "inputResponses": {key: {"action": "accept", "resultType": "complete"}},
        "requestState": first["result"]["requestState"],
    }
    assert said(await caller.call("visit", **more)) == "accept"


async def test_an_upstream_that_wants_addresses_visited_first_is_called_again_after_that(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    crossed.legacy.posted.clear()
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("visited_first", {"name": "ann"})
    ((key, question),) = first["result"]["inputRequests"].items()
    assert question["method"] == "elicitation/create"
    assert question["params"]["url"] == "https://accounts.example/sign-in/ann"
    assert "elicitationId" not in question["params"]
    assert "requestState" not in first["result"]
    await caller.call("note_visit", {"name": "ann"})
    answered = {key: {"action": "accept"}}
    second = await caller.call("visited_first", {"name": "ann"}, inputResponses=answered)
    assert said(second) == "welcome ann"
    assert [set(params) for params in crossed.legacy.params_of("tools/call")] == [
        {"name", "arguments"}
    ] * 3

    forms: dict[str, Any] = {"elicitation": {"form": {}}}
    refused = (await caller.call("visited_first", {"name": "bob"}, forms))["error"]
    assert refused["code"] == -32021
    assert refused["data"]["requiredCapabilities"] == {"elicitation": {"url": {}}}


async def test_who_declares_nothing_is_not_asked(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("legacy"))
    unable: list[dict[str, Any]] = [{}, {"elicitation": {"url": {}}}, {"sampling": {}}]
    for capabilities in unable:
        answer = await caller.call("colour", {}, capabilities)
        assert answer["result"]["isError"], capabilities


async def test_what_was_left_unanswered_is_asked_again(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("colour")
    state = first["result"]["requestState"]
    second = await caller.call("colour", requestState=state, inputResponses={"other": {}})
    asked = second["result"]["inputRequests"]
    assert [*asked.values()] == [*first["result"]["inputRequests"].values()]
    assert is_stale(await caller.call("colour", requestState=state))
    assert said(await caller.call("colour", **retry_of(second))) == "accept:blue"


async def test_answers_that_are_none_are_refused_and_the_call_goes_on_waiting(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("colour")
    good = retry_of(first)
    bad_answers: list[Any] = [7, [], dict.fromkeys(good["inputResponses"], "blue")]
    for bad in bad_answers:
        refused = await caller.call("colour", **{**good, "inputResponses": bad})
        assert refused["error"]["code"] == -32602
        assert not is_stale(refused)
    assert said(await caller.call("colour", **good)) == "accept:blue"


async def test_a_state_opens_once_and_for_its_own_request_only(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("legacy"))
    arguments = {"question": "Mine?"}
    first = await caller.call("colour", arguments)
    good = retry_of(first)
    state = good["requestState"]
    wrong: list[dict[str, Any]] = [
        {"requestState": state[:-2] + ("AA" if state[-2:] != "AA" else "BB")},
        {"requestState": "made up"},
        {"requestState": ""},
        {"requestState": 7},
    ]
    for changed in wrong:
        assert is_stale(await caller.call("colour", arguments, **{**good, **changed})), changed
    assert is_stale(await caller.call("colour", {"question": "Another?"}, **good))
    assert is_stale(await caller.call("model", {"prompt": "x"}, **good))
    assert is_stale(await caller.send("prompts/get", {"name": "advice", **good}))
    elsewhere = Raw(http, crossed.url("legacy-io"))
    assert is_stale(await elsewhere.call("colour", arguments, **good))
    assert said(await caller.call("colour", arguments, **good)) == "accept:blue"
    assert is_stale(await caller.call("colour", arguments, **good))


async def test_an_upstream_that_ends_meanwhile_gives_the_retry_its_real_end(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("impatient", {"name": "early"})
    await caller.call("tell", {"what": "enough", "name": "early"})
    second = await caller.call("impatient", {"name": "early"}, **retry_of(first))
    assert said(second) == "without you"


async def test_a_client_that_hangs_up_on_a_resumed_leg_cancels_upstream(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    before = len(crossed.entries())
    caller = Raw(http, crossed.url("legacy"))
    first = await caller.call("then_hang", {"name": "left"})
    async with anyio.create_task_group() as tasks:

        async def resume() -> None:
            await caller.call("then_hang", {"name": "left"}, **retry_of(first))

        tasks.start_soon(resume)
        await caller.call("hear", {"what": "answered", "name": "left"})
        tasks.cancel_scope.cancel()
    await caller.call("hear", {"what": "cancelled", "name": "left"})
    entries = await crossed.entries_from(before, 4)
    legs = [entry for entry in entries if entry.target == "then_hang"]
    assert [leg.outcome for leg in legs] == ["input_required", "cancelled"]
    assert len({leg.interaction for leg in legs}) == 1


@pytest.mark.parametrize("server", LEGACY)
async def test_callers_at_the_same_time_get_their_own_questions_and_answers(
    crossed: Crossing, http: httpx2.AsyncClient, server: str
) -> None:
    got: dict[int, str] = {}

    async def converse(number: int) -> None:
        caller = Raw(http, crossed.url(server))
        arguments = {"question": f"Question {number}?"}
        first = await caller.call("colour", arguments)
        (asked,) = first["result"]["inputRequests"].values()
        assert asked["params"]["message"] == f"Question {number}?"
        second = await caller.call("colour", arguments, **retry_of(first, f"colour {number}"))
        got[number] = said(second)

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(converse, number)
    assert got == {number: f"accept:colour {number}" for number in range(12)}


@pytest.mark.parametrize("over", [over_sse, over_stdio])
async def test_the_same_on_a_channel_of_messages(crossed: Crossing, over: Any) -> None:
    async with over(crossed, "legacy", "2026-07-28", **Answers().options) as client:
        assert text_of(await client.call_tool("story", {})) == " ".join(["accept:blue"] * 3)


async def test_progress_goes_on_under_the_retrys_own_token(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with connected(crossed.url("legacy"), "modern", **Answers().options) as client:
        answer = await client.call_tool("progressing", {}, progress_callback=note)
    assert text_of(answer) == "accept:blue"
    assert told == [1, 2, 3]


async def test_nobody_else_can_resume_and_a_revoked_key_ends_what_it_parked(
    tmp_path_factory: pytest.TempPathFactory, http: httpx2.AsyncClient
) -> None:
    async with crossing(tmp_path_factory.mktemp("keys") / "data", "legacy") as crossed:
        made = await crossed.keys("ann", "ann", "bob")
        ann, other_key, bob = (Raw(http, crossed.url("legacy"), one["key"]) for one in made)
        first = await ann.call("watched", {"name": "revoked"})
        good = retry_of(first)
        for stranger in (bob, other_key):
            assert is_stale(await stranger.call("watched", {"name": "revoked"}, **good))
        admin = {"Authorization": f"Bearer {crossed.portico.admin_key}"}
        gone = await http.delete(
            f"{crossed.portico.origin}/api/keys/{made[0]['id']}", headers=admin
        )
        assert gone.status_code == 200
        with anyio.fail_after(1):
            await other_key.call("hear", {"what": "cancelled", "name": "revoked"})
        again = await ann.call("watched", {"name": "revoked"}, **good)
        assert again["error"]["code"] == -31401
        entries = [one for one in crossed.entries() if one.target == "watched"]
        assert [(one.outcome, one.reason) for one in entries] == [
            ("input_required", ""),
            ("refused", "request state"),
            ("refused", "request state"),
            ("abandoned", "revoked"),
        ]
        assert entries[3].interaction == entries[0].interaction == entries[0].call
        assert entries[3].principal == "ann"
        assert entries[3].call != entries[0].call


async def test_a_grant_that_is_withdrawn_ends_what_it_allowed(
    tmp_path_factory: pytest.TempPathFactory, http: httpx2.AsyncClient
) -> None:
    async with crossing(tmp_path_factory.mktemp("grants") / "data", "legacy") as crossed:
        (key,) = await crossed.keys("carl")
        admin = {"Authorization": f"Bearer {crossed.portico.admin_key}"}
        grant = {"principal": "carl", "virtual_server": "legacy"}
        given = await http.post(f"{crossed.portico.origin}/api/grants", json=grant, headers=admin)
        assert given.status_code in (200, 201), given.text
        carl = Raw(http, crossed.url("legacy"), key["key"])
        first = await carl.call("watched", {"name": "ungranted"})
        assert "requestState" in first["result"]
        name = given.json()["name"]
        gone = await http.delete(
            f"{crossed.portico.origin}/api/grants", params={"name": name}, headers=admin
        )
        assert gone.status_code == 204, gone.text
        (entry,) = [one for one in await crossed.entries_from(1, 1) if one.outcome != "ok"]
        assert (entry.outcome, entry.reason) == ("abandoned", "revoked")


async def test_stopping_tells_the_upstream_and_the_record(
    tmp_path_factory: pytest.TempPathFactory, http: httpx2.AsyncClient
) -> None:
    async with crossing(
        tmp_path_factory.mktemp("drain") / "data", "legacy", "legacy-io"
    ) as crossed:
        for server in ("legacy", "legacy-io"):
            first = await Raw(http, crossed.url(server)).call("watched", {"name": server})
            assert "requestState" in first["result"]
        assert await crossed.portico.stop() == 0
        assert "notifications/cancelled" in crossed.legacy.methods()
        entries = crossed.entries()
        assert [(one.outcome, one.reason) for one in entries] == [
            ("input_required", ""),
            ("input_required", ""),
            ("abandoned", "draining"),
            ("abandoned", "draining"),
        ]
        assert {one.interaction for one in entries[:2]} == {one.interaction for one in entries[2:]}


async def test_the_end_of_standard_input_tells_the_upstream_and_the_record(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with crossing(tmp_path_factory.mktemp("stdin") / "data", "legacy") as crossed:
        assert await crossed.portico.stop() == 0
        async with over_stdio(crossed, "legacy", "2026-07-28", **Answers().options) as client:
            first = await client.session.call_tool(
                "watched", {"name": "stdin"}, allow_input_required=True
            )
            assert isinstance(first, types.InputRequiredResult)
        entries = await crossed.entries_from(0, 2)
        assert [(one.outcome, one.reason) for one in entries] == [
            ("input_required", ""),
            ("abandoned", "draining"),
        ]
        assert "notifications/cancelled" in crossed.legacy.methods()


async def test_while_a_call_is_parked_silence_does_not_count_and_the_cap_does(
    tmp_path_factory: pytest.TempPathFactory, http: httpx2.AsyncClient
) -> None:
    data = tmp_path_factory.mktemp("cap") / "data"
    async with crossing(data, "legacy", timeout_s=0.5, timeout_cap_s=2.0) as crossed:
        caller = Raw(http, crossed.url("legacy"))
        began = anyio.current_time()
        first = await caller.call("watched", {"name": "capped"})
        with anyio.fail_after(10):
            while "notifications/cancelled" not in crossed.legacy.methods():
                await anyio.lowlevel.checkpoint()
        assert anyio.current_time() - began >= 2.0
        second = await caller.call("watched", {"name": "capped"}, **retry_of(first))
        assert "did not answer in time" in said(second)
        entries = [entry for entry in crossed.entries() if entry.target == "watched"]
        assert [entry.outcome for entry in entries] == ["input_required", "failed"]
