"""Guardrails together: a block wins, redactions compose, monitors only tell, more of them let no more through."""

import json
from collections.abc import Awaitable, Sequence
from itertools import pairwise
from typing import Literal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from hub.domain.guarding import ALLOW, Context, Span, Verdict
from hub.guard.chain import Guardrail, Passed, inspected
from hub.guard.content import Content, Unreadable
from hub.guard.protocol import Guard

CONTEXT = Context(direction="request", tenant="default")
MEMBERS = {"name": "abcabc", "list": ["cab", 12, None, "bbb"], "ca": "c"}
BODY = json.dumps(MEMBERS).encode()


class Letter(Struct, frozen=True):
    """A guard that points at one letter, or cannot point."""

    letter: str
    outcome: Literal["redact", "block", "require_approval"] = "redact"
    asks: bool = False

    def inspect(self, content: Content, context: Context) -> Verdict | Awaitable[Verdict]:
        del context
        spans = tuple(
            Span(index, index + 1, self.letter.upper())
            for index, one in enumerate(content.text)
            if one == self.letter
        )
        found = (
            Verdict(self.outcome, spans if self.outcome == "redact" else (), "found")
            if spans
            else ALLOW
        )
        return self._later(found) if self.asks else found

    async def _later(self, found: Verdict) -> Verdict:
        await anyio.lowlevel.checkpoint()
        return found


class Illiterate:
    def inspect(self, content: Content, context: Context) -> Verdict:
        del content, context
        raise Unreadable("no")


Outcome = Literal["redact", "block", "require_approval"]
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from((
    "redact",
    "redact",
    "redact",
    "block",
    "require_approval",
))


@st.composite
def rails(draw: st.DrawFn) -> list[Guardrail]:
    made = []
    for index in range(draw(st.integers(0, 5))):
        asks = draw(st.booleans())
        outcome = draw(OUTCOMES)
        made.append(
            Guardrail(
                name=f"{draw(st.sampled_from('xyz'))}{index}",
                on=("request",),
                action=draw(st.sampled_from(["redact", "redact", "block", "require_approval"])),
                mode=draw(st.sampled_from(["enforce", "enforce", "monitor"])),
                order=draw(st.integers(0, 2)),
                guard=Letter(draw(st.sampled_from("abcdeq")), outcome, asks),
                waits=asks,
            )
        )
    return made


def passed(guardrails: Sequence[Guardrail], body: bytes = BODY) -> Passed:
    found = inspected(guardrails, body, CONTEXT)
    if isinstance(found, Passed):
        return found

    async def ask() -> Passed:
        return await found

    return anyio.run(ask)


def rail(name: str, guard: Guard, **changes: object) -> Guardrail:
    given = {"on": ("request",), "action": "redact", "mode": "enforce", "order": 0, **changes}
    return Guardrail(name=name, guard=guard, **given)  # type: ignore[arg-type]  # a test's short form


@given(guardrails=rails())
def test_a_block_wins_and_the_first_by_order_and_name_is_named(guardrails: list[Guardrail]) -> None:
    result = passed(guardrails)
    blocking = [note.removesuffix("=block") for note in result.notes if note.endswith("=block")]
    order = {one.name: (one.order, one.name) for one in guardrails}
    assert result.blocked_by == min(blocking, key=order.__getitem__, default="")
    notes = [order[note.partition("=")[0]] for note in result.notes]
    waits = {one.name for one in guardrails if one.waits}
    local = [one for one in notes if one[1] not in waits]
    assert local == sorted(local)
    assert all(first < second for first, second in pairwise(notes[len(local) :]))
    assert notes[: len(local)] == local


@given(guardrails=rails())
def test_what_passes_is_the_body_without_what_was_redacted(guardrails: list[Guardrail]) -> None:
    result = passed(guardrails)
    if result.blocked_by:
        return
    letters = {
        one.guard.letter
        for one in guardrails
        if isinstance(one.guard, Letter) and f"{one.name}=redact" in result.notes
    }
    left = Content(BODY).text
    for letter in letters:
        left = left.replace(letter, f"[{letter.upper()}]")
    assert Content(result.body).text == left
    if not letters:
        assert result.body == BODY


@given(guardrails=rails(), data=st.data())
def test_the_order_of_the_list_makes_no_difference(
    guardrails: list[Guardrail], data: st.DataObject
) -> None:
    assert passed(data.draw(st.permutations(guardrails))) == passed(guardrails)


@given(guardrails=rails())
def test_monitors_change_nothing(guardrails: list[Guardrail]) -> None:
    with_them = passed(guardrails)
    without = passed([one for one in guardrails if one.mode == "enforce"])
    assert (with_them.body, with_them.blocked_by) == (without.body, without.blocked_by)
    assert [note for note in with_them.notes if not note.endswith("=monitor")] == list(
        without.notes
    )


@given(guardrails=rails(), more=rails())
def test_more_guardrails_let_no_more_through(
    guardrails: list[Guardrail], more: list[Guardrail]
) -> None:
    """Guards that ask others see what is left by then; so these here are asked at once."""
    fewer = [one for one in guardrails if not one.waits]
    added = [one for one in more if not one.waits]
    before, after = passed(fewer), passed([*fewer, *added])
    if before.blocked_by:
        assert after.blocked_by
    elif not after.blocked_by:
        letters = set("abc")
        gone = {one for one in letters if one not in Content(before.body).text}
        assert gone <= {one for one in letters if one not in Content(after.body).text}


def test_guards_that_ask_see_what_the_others_let_through() -> None:
    result = passed([
        rail("asks", Letter("a", "block", asks=True), waits=True),
        rail("cuts", Letter("a")),
    ])
    assert result.blocked_by == ""
    assert result.notes == ("cuts=redact",)
    assert json.loads(result.body)["n[A]me"] == "[A]bc[A]bc"


def test_nobody_is_asked_about_what_is_blocked() -> None:
    guardrails = [
        rail("asks", Letter("a", asks=True), waits=True),
        rail("stops", Letter("a", "block")),
    ]
    result = inspected(guardrails, BODY, CONTEXT)
    assert result == Passed(BODY, ("stops=block",), "stops")


def test_those_that_ask_do_so_side_by_side() -> None:
    class Meets:
        def __init__(self) -> None:
            self.met = 0
            self.all_here = anyio.Event()

        async def inspect(self, content: Content, context: Context) -> Verdict:
            del content, context
            self.met += 1
            if self.met == 2:
                self.all_here.set()
            with anyio.fail_after(5):
                await self.all_here.wait()
            return ALLOW

    async def meet() -> Passed:
        guard = Meets()
        found = inspected([rail(name, guard, waits=True) for name in "ab"], BODY, CONTEXT)
        assert not isinstance(found, Passed)
        return await found

    assert anyio.run(meet) == Passed(BODY)


def test_what_cannot_be_read_is_blocked_by_who_needs_it() -> None:
    needs = rail("needs", Illiterate(), order=1)
    assert passed([rail("watches", Illiterate(), mode="monitor"), needs]).blocked_by == "needs"
    assert passed([rail("watches", Illiterate(), mode="monitor")]) == Passed(
        BODY, ("watches=monitor",)
    )
    assert passed([rail("reads", Letter("q"))], b"{").blocked_by == "reads"


def test_a_redaction_that_cuts_nothing_out_blocks() -> None:
    class Nowhere:
        def inspect(self, content: Content, context: Context) -> Verdict:
            del content, context
            return Verdict("redact", (Span(4, 5, "end_of_a_name"), Span(900, 901, "outside")))

    assert passed([rail("nowhere", Nowhere())]).blocked_by == "nowhere"


def test_a_guard_that_waits_has_to_say_so() -> None:
    asked: Awaitable[Verdict] = Letter("q", asks=True)._later(ALLOW)

    class Sleepy:
        def inspect(self, content: Content, context: Context) -> Verdict | Awaitable[Verdict]:
            del content, context
            return asked

    with pytest.raises(TypeError, match="sleepy"):
        passed([rail("sleepy", Sleepy())])

    async def end() -> None:
        await asked

    anyio.run(end)
