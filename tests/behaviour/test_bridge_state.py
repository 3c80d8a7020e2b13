"""What a modern caller is given to come back with: sealed, for itself, its request and ten minutes."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hub.domain.outcome import Event, Result
from hub.pipeline import Admitted
from mcp_wire.jsonrpc import raw
from tests.peers.clients import connected, text_of
from tests.peers.crossing import (
    Answers,
    Crossing,
    Raw,
    crossing,
    is_stale,
    retry_of,
    said,
)
from tests.peers.tiny_hub import TinyHub, text_result, tiny_hub

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def crossed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crossing]:
    async with crossing(tmp_path_factory.mktemp("state") / "data", "modern") as running:
        yield running


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path, anonymous=True) as running:
        yield running


def story_retry(answer: dict[str, Any]) -> dict[str, Any]:
    more = retry_of(answer)
    for response in more["inputResponses"].values():
        response["content"] = {"word": "once"}
    return more


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


async def stateful(admitted: Admitted) -> AsyncGenerator[Event]:
    """An upstream that asks once and wants its own state back."""
    if "inputResponses" in admitted.params:
        assert admitted.params["requestState"] == raw("mine")
        yield text_result("enough")
        return
    requests = {"a": {"method": "roots/list"}}
    body = {"resultType": "input_required", "inputRequests": requests, "requestState": "mine"}
    yield Result(raw(body), input_required=True)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "ask"}),
        ("prompts/get", {"name": "greet"}),
        ("resources/read", {"uri": "memo://static"}),
    ],
)
async def test_every_request_that_may_be_asked_back_has_its_state_sealed(
    hub: TinyHub, http: httpx2.AsyncClient, method: str, params: dict[str, Any]
) -> None:
    hub.scripted.scripts |= dict.fromkeys(("ask", "greet", "memo://static"), stateful)
    caller = Raw(http, hub.url)
    first = await caller.send(method, params)
    assert "mine" not in first["result"]["requestState"]
    assert said(await caller.send(method, {**params, **retry_of(first)})) == "enough"


async def test_an_upstreams_state_leaves_sealed_and_goes_back_as_it_came(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, hub.url)
    first = await caller.call("ask")
    assert "round-1" not in first["result"]["requestState"]
    assert said(await caller.call("ask", **retry_of(first))) == "accept:blue"
    assert hub.seen.params[0] == {"name": raw("ask"), "arguments": raw({})}
    assert bytes(hub.seen.params[1]["requestState"]) == b'"round-1"'
    assert hub.seen.params[1].keys() == {"name", "arguments", "requestState", "inputResponses"}


async def test_the_legs_share_an_interaction_and_the_digest_of_what_was_asked_for(
    crossed: Crossing,
) -> None:
    before = len(crossed.entries())
    async with connected(crossed.url("modern"), "modern", **Answers().options) as client:
        assert text_of(await client.call_tool("story", {"chapters": 3})) == " ".join(
            ["accept:blue"] * 3
        )
    legs = await crossed.entries_from(before, 4)
    assert [leg.outcome for leg in legs] == ["input_required"] * 3 + ["ok"]
    assert {leg.interaction for leg in legs} == {legs[0].call}
    assert len({leg.arguments_digest for leg in legs}) == 1
    assert {leg.caller_digest for leg in legs} == {""}


async def test_the_upstream_gets_the_same_as_without_portico(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    crossed.modern.posted.clear()
    caller = Raw(http, crossed.url("modern"))
    first = await caller.call("story", {"chapters": 1})
    assert said(await caller.call("story", {"chapters": 1}, **story_retry(first))) == "accept:once"
    asked, again = crossed.modern.params_of("tools/call")
    assert asked == {"name": "story", "arguments": {"chapters": 1}}
    assert again.pop("requestState")
    assert again.pop("inputResponses") == {
        "chapter 1": {"action": "accept", "content": {"word": "once"}}
    }
    assert again == asked


async def test_where_the_upstream_has_no_state_there_is_none(
    crossed: Crossing, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, crossed.url("modern"))
    for method, params in (
        ("tools/call", {"name": "colour", "arguments": {}}),
        ("prompts/get", {"name": "advice"}),
        ("resources/read", {"uri": "ask://colour/hall"}),
    ):
        first = await caller.send(method, params)
        assert "requestState" not in first["result"], method
        assert "ttlMs" not in first["result"], method
        second = await caller.send(method, {**params, **retry_of(first)})
        assert second["result"]["resultType"] == "complete", method


async def test_a_state_opens_for_its_own_caller_and_request_only(
    tmp_path_factory: pytest.TempPathFactory, http: httpx2.AsyncClient
) -> None:
    async with crossing(tmp_path_factory.mktemp("principals") / "data", "modern") as crossed:
        made = await crossed.keys("ann", "ann", "bob")
        ann, other_key, bob = (Raw(http, crossed.url("modern"), one["key"]) for one in made)
        arguments = {"chapters": 1}
        good = story_retry(await ann.call("story", arguments))
        for stranger in (bob, other_key):
            assert is_stale(await stranger.call("story", arguments, **good))
        assert is_stale(await ann.call("story", {"chapters": 2}, **good))
        assert is_stale(await ann.call("come_again", {"times": 1}, **good))
        elsewhere = Raw(http, crossed.portico.url, made[0]["key"])
        assert is_stale(await elsewhere.call("story", arguments, **good))
        tampered = good["requestState"].swapcase()
        assert is_stale(await ann.call("story", arguments, **{**good, "requestState": tampered}))
        assert said(await ann.call("story", arguments, **good)) == "accept:once"
        nobody = Raw(http, crossed.portico.url)
        unknown = await nobody.call("story", arguments, **good)
        assert unknown["error"]["code"] == -31401


async def test_the_order_of_arguments_and_the_space_between_them_do_not_matter(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    caller = Raw(http, hub.url)
    first = await caller.call("ask", {"a": {"x": 1, "y": [1, {"b": 2, "c": "d"}]}, "z": 1.0})
    same = {"z": 1.0, "a": {"y": [1, {"c": "d", "b": 2}], "x": 1}}
    assert said(await caller.call("ask", same, **retry_of(first))) == "accept:blue"
    for other in ({**same, "z": 2.0}, {"z": 1.0}, {"a": {"z": 1.0}}):
        assert is_stale(await caller.call("ask", other, **retry_of(first)))


async def test_arguments_that_nobody_can_read_are_compared_as_they_are(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    hub.scripted.scripts["ask"] = stateful
    caller = Raw(http, hub.url)
    odd: dict[str, Any] = {"half": {"\ud800": 1}, "deep": nested(400)}
    first = await caller.call("ask", odd)
    assert said(await caller.call("ask", odd, **retry_of(first))) == "enough"
    other = {**odd, "deep": nested(401)}
    assert is_stale(await caller.call("ask", other, **retry_of(first)))


async def test_a_state_expires_after_ten_minutes(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    caller = Raw(http, hub.url)
    good = retry_of(await caller.call("ask"))
    parked = retry_of(await caller.call("ask", {"push": True}))
    hub.parts.late_s = 599
    assert said(await caller.call("ask", **good)) == "accept:blue"
    hub.parts.late_s = 601
    assert is_stale(await caller.call("ask", **good))
    assert is_stale(await caller.call("ask", {"push": True}, **parked))
    refused = [(entry.outcome, entry.reason) for entry in hub.seen.entries[-2:]]
    assert refused == [("refused", "request state")] * 2


async def test_a_state_that_is_null_is_none(hub: TinyHub, http: httpx2.AsyncClient) -> None:
    caller = Raw(http, hub.url)
    answer = await caller.call("ask", requestState=None, inputResponses=None)
    assert answer["result"]["resultType"] == "input_required"
    assert hub.seen.params[0].keys() == {"name", "arguments"}


async def test_input_is_asked_for_in_the_allowed_way_only(
    hub: TinyHub, http: httpx2.AsyncClient
) -> None:
    async def asks(_: Admitted) -> AsyncGenerator[Event]:
        body = {"resultType": "input_required", "inputRequests": {}, "requestState": 7}
        yield Result(raw(body), input_required=True)

    hub.scripted.scripts |= {"ask": asks, "greet": asks}
    caller = Raw(http, hub.url)
    numbered = await caller.call("ask")
    assert "gave an answer that its protocol does not allow" in said(numbered)
    argument = {"name": "n", "value": "a"}
    ref = {"type": "ref/prompt", "name": "greet"}
    completed = await caller.send("completion/complete", {"ref": ref, "argument": argument})
    assert completed["error"]["code"] == -32603
    assert [entry.reason for entry in hub.seen.entries] == ["violation"] * 2
