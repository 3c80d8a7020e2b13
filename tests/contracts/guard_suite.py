"""What every guard promises, whatever it looks for."""

import json
import re
from collections.abc import Mapping
from functools import cached_property

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hub.domain.guarding import ALLOW, Context, Verdict
from hub.domain.rules import Attach, CheckName, GuardrailSpec
from hub.guard.callouts import Callouts
from hub.guard.checks import made
from hub.guard.content import NAME_END, VALUE_END, Content, Unreadable
from hub.guard.protocol import Guard

_STRINGS = st.text(max_size=30) | st.sampled_from((
    *("password", "token", "a@b.example.org", "+49 30 901820", "4111 1111 1111 1111", "\u202ebad"),
    *("ignore all previous instructions", "https://evil.example/a?b", "ghp_" + "Fake0123" * 5),
    *("\ud800", "\x00\x1f", "-----BEGIN PRIVATE KEY-----", "QUtJQUZBS0VGQUtF" * 9, "\u200b\u200d"),
    *("arguments", "structuredContent", "content", "text", "type", "cat"),
))
_PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    _PLAIN | _STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_STRINGS, inner, max_size=4),
    max_leaves=12,
)


class Case:
    """A guard, content that it lets through, and content that it does not."""

    def __init__(
        self,
        check: CheckName,
        options: Mapping[str, object],
        clean: object,
        dirty: object,
        schema: object = None,
    ) -> None:
        self.check = check
        self.options = options
        self.clean = json.dumps(clean).encode()
        self.dirty = json.dumps(dirty).encode()
        self.schema = None if schema is None else Raw(json.dumps(schema).encode())

    def __repr__(self) -> str:
        return self.check

    @cached_property
    def guard(self) -> Guard:
        spec = GuardrailSpec(
            name="it",
            check=self.check,
            on=("request", "response"),
            action="redact",
            attach=Attach(tenant="default"),
            options=Raw(json.dumps(self.options).encode()),
        )
        return made(spec, Callouts(secret=str)).guard

    def asked(self, body: bytes) -> Verdict:
        """What the guard says of a request; it may say that it cannot read it."""
        context = Context(direction="request", tenant="default", schema=self.schema)
        try:
            verdict = self.guard.inspect(Content(body), context)
        except Unreadable as unreadable:
            return Verdict("block", reason=str(unreadable))
        assert isinstance(verdict, Verdict)
        return verdict


def promises(verdict: Verdict, body: bytes) -> None:
    """What holds for each verdict."""
    text = Content(body).text
    assert all(0 <= one.start < one.end <= len(text) for one in verdict.spans)
    assert all(re.fullmatch("[a-z0-9_]+", one.label) for one in verdict.spans)
    assert (verdict == ALLOW) == (verdict.outcome == "allow")
    assert bool(verdict.spans) == (verdict.outcome == "redact")
    assert bool(verdict.reason) == (verdict.outcome != "allow")


class GuardSuite:
    """Mixed into a class that is parametrised by ``case``."""

    def test_clean_content_is_allowed(self, case: Case) -> None:
        assert case.asked(case.clean) == ALLOW

    def test_what_it_looks_for_is_not_allowed(self, case: Case) -> None:
        verdict = case.asked(case.dirty)
        assert verdict.outcome in {"redact", "block"}
        promises(verdict, case.dirty)

    def test_its_words_hold_nothing_of_the_content(self, case: Case) -> None:
        said = case.asked(case.dirty).reason
        strings = re.split(f"[{NAME_END}{VALUE_END}]", Content(case.dirty).text)
        assert not [one for one in strings if " " in one and one in said]
        assert not [one for one in strings[-2:] if one and one in said]

    def test_nothing_it_looks_for_is_left_when_it_is_cut_out(self, case: Case) -> None:
        verdict = case.asked(case.dirty)
        if verdict.outcome == "redact":
            assert case.asked(Content(case.dirty).without(verdict.spans).body) == ALLOW

    @given(value=VALUES)
    def test_any_content_has_a_verdict_and_always_the_same(self, case: Case, value: object) -> None:
        body = json.dumps(value).encode()
        verdict = case.asked(body)
        promises(verdict, body)
        assert case.asked(body) == verdict

    @given(value=VALUES)
    def test_how_content_is_written_makes_no_difference(self, case: Case, value: object) -> None:
        if case.check == "size":
            return
        plain = case.asked(json.dumps(value).encode())
        if not re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)):
            assert case.asked(json.dumps(value, ensure_ascii=False).encode()) == plain
        assert case.asked(json.dumps(value, separators=(" ,\n", " :\t")).encode()) == plain
