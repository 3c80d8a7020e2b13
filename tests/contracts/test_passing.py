"""What a call says on its way: nothing of it goes past its guardrails, and nothing else is changed."""

import json
from collections.abc import Mapping

import pytest
from msgspec import Raw

from hub.domain.guarding import Context
from hub.domain.outcome import Ask, Failure, Log, Refusal, Result
from hub.domain.rules import Attach, CheckName, GuardAction, GuardrailSpec, Mode
from hub.guard.callouts import Callouts
from hub.guard.chain import Guardrail
from hub.guard.checks import made
from hub.guard.passing import Passing

TOKEN = "ghp_" + "Fake0123" * 5
CUT = "[github_token]"
SCHEMA = Raw(b'{"type":"object","required":["a"]}')


def rail(
    check: CheckName = "secrets",
    action: GuardAction = "redact",
    mode: Mode = "enforce",
    **options: object,
) -> Guardrail:
    spec = GuardrailSpec(
        name=f"{mode}-{check}",
        check=check,
        on=("request", "response"),
        action=action,
        mode=mode,
        attach=Attach(tenant="default"),
        options=Raw(json.dumps(options).encode()),
    )
    return made(spec, Callouts(secret=str))


def passing(
    *rails: Guardrail, target: str = "find", meta: Mapping[str, object] | None = None
) -> Passing:
    def context(direction: str) -> Context:
        return Context(
            direction="request" if direction == "request" else "response",
            tenant="default",
            target=target,
            schema=SCHEMA,
        )

    return Passing(rails, rails, context("request"), context("response"), raws(meta or {}))


def raws(members: Mapping[str, object]) -> dict[str, Raw]:
    return {name: Raw(json.dumps(value).encode()) for name, value in members.items()}


def plain(members: Mapping[str, Raw]) -> dict[str, object]:
    return {name: json.loads(bytes(value)) for name, value in members.items()}


def test_names_of_parameters_are_cut_as_well() -> None:
    given = raws({"name": "find", TOKEN: 1, "arguments": {"a": TOKEN}})
    went = plain(passing(rail()).params(given))
    assert went == {"name": "find", CUT: 1, "arguments": {"a": CUT}}


def test_the_name_of_what_is_called_is_not_looked_at_and_another_name_is() -> None:
    one = passing(rail("words", words=["find", "lost"]))
    assert plain(one.params(raws({"name": "find"}))) == {"name": "find"}
    assert plain(one.params(raws({"name": "lost"}))) == {"name": "[word]"}


@pytest.mark.parametrize("more", [{"uri": TOKEN}, {"ref": {"name": "find", "title": TOKEN}}])
def test_what_was_decided_by_then_goes_as_it_came_or_not_at_all(more: dict[str, object]) -> None:
    watching = rail("size", "block", "monitor", max_bytes=1)
    with pytest.raises(Refusal, match="enforce-secrets"):
        passing(watching, rail()).params(raws({**more, "b": TOKEN}))


def test_a_reference_that_says_nothing_else_goes_on() -> None:
    given = raws({"ref": {"type": "ref/prompt", "name": "find"}, "argument": {"value": TOKEN}})
    went = plain(passing(rail()).params(given))
    assert went["ref"] == {"type": "ref/prompt", "name": "find"}
    assert went["argument"] == {"value": CUT}


def test_what_goes_beside_the_parameters_is_looked_at() -> None:
    with pytest.raises(Refusal):
        passing(rail(), meta={"com.example/note": TOKEN}).params(raws({"arguments": {}}))
    clean = passing(rail(), meta={"com.example/note": "x"})
    assert plain(clean.params(raws({"a": TOKEN}))) == {"a": CUT}


def test_an_answer_in_which_nothing_is_found_is_the_same_one() -> None:
    result = Result(Raw(b'{"structuredContent":{"a":1}}'), members={})
    assert passing(rail()).result(result) is result


@pytest.mark.parametrize("kind", ["error", "status"])
async def test_an_upstreams_words_about_a_failure_are_looked_at(kind: str) -> None:
    failure = Failure("error" if kind == "error" else "status", f"bad {TOKEN}", data=Raw(b'["x"]'))
    (told,) = await passing(rail()).event(failure)
    assert isinstance(told, Failure)
    assert told.message == f"bad {CUT}"
    assert told.data is not None
    assert bytes(told.data) == b'["x"]'


async def test_words_of_a_failure_that_are_banned_are_cut_out_of_it() -> None:
    one = passing(rail("words", words=["message", "data"]))
    (told,) = await one.event(Failure("error", "the message", data=Raw(b'"data"')))
    assert isinstance(told, Failure)
    assert (told.message, told.data) == ("the [word]", Raw(b'"[word]"'))


async def test_what_is_said_in_between_has_no_schema() -> None:
    one = passing(rail("json_schema", "block"))
    log = Log(raws({"level": "info", "content": "x"}))
    assert await one.event(log) == (log,)
    assert plain(await one.answers(raws({"requestState": "s"}))) == {"requestState": "s"}


async def test_answers_and_refusals_to_answer_are_looked_at() -> None:
    said: list[Raw | Failure] = []

    async def take(answer: Raw | Failure) -> None:
        said.append(answer)

    one = passing(rail(), rail("words", "block", words=["swordfish"]))
    (asked,) = await one.event(Ask("elicitation/create", Raw(b'{"message":"who?"}'), take))
    assert isinstance(asked, Ask)
    await asked.answer(Raw(json.dumps({"content": {"a": TOKEN}}).encode()))
    await asked.answer(Failure("error", "no", data=Raw(json.dumps(TOKEN).encode())))
    await asked.answer(Failure("error", "swordfish"))
    first, second, third = said
    assert isinstance(first, Raw)
    assert json.loads(bytes(first)) == {"content": {"a": CUT}}
    assert isinstance(second, Failure)
    assert second.data == Raw(json.dumps(CUT).encode())
    assert isinstance(third, Failure)
    assert "swordfish" not in third.message
