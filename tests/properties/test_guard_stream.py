"""A text through guardrails piece by piece is what the whole text would have become."""

import json
import re
import time
from itertools import pairwise

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.guarding import Context, Span, Verdict
from hub.domain.rules import GuardAction, Mode
from hub.guard import personal_data, secrets, words
from hub.guard.chain import Guardrail
from hub.guard.content import Content, cut, merged, whole
from hub.guard.protocol import Guard
from hub.guard.stream import Held, Searching, TextStream
from hub.guard.unfinished import Unsupported, unfinished

CONTEXT = Context(direction="response", tenant="default")
PATTERNS = (
    "ca+t",
    r"(?:dog|do|o g)\b",
    r"^\s*x.*y$",
    "k[^;]{0,9};",
    r"\bb.{2,5}?b",
    "[ab]+ [ab]+",
    "é+",
)
GUARDS: dict[str, Guard] = {
    "secrets": secrets.guard(secrets.Options()),
    "personal_data": personal_data.guard(personal_data.Options()),
    "words": words.guard(words.Options(words=("cat", "cat dog", "at d", "bäb", "猫"))),
    "parts of words": words.guard(words.Options(words=("cat", "ab", "b a"), whole_words=False)),
    "patterns": words.guard(words.Options(patterns=PATTERNS)),
}
FRAGMENTS = (
    *(
        "cat",
        "CAT",
        "c\u200bat",
        "сat",
        "catx",
        "dog",
        "do",
        "bäb",
        "ba\u0308b",
        "猫",
        "ab",
        "b",
        "é",
    ),
    *("x", "y", "k", ";", " ", "\n", "\x00", "\x1f", "\ud800", "\u200b", "\u0301", "-", "_", "."),
    *("4111 1111 1111 1111", "378282246310005", "DE89 3704 0044 0532 0130 00", "a.b@c.example.org"),
    *("+49 30 901820", "(212) 555-0147", "030 9018200", "219-12-3456", "203.0.113.7", "2024-05-06"),
    *("2001:db8::8a2e:370:7334", "1.2.3", "ssn: 219123456", "phone", ":", "5550147890", "1", "12"),
    *(
        "AKIAFAKEFAKE12345678",
        "ghp_" + "Fake0123" * 5,
        "sk-fake-0123456789abcdefghij",
        "eyJ",
        "sk-",
    ),
    *(
        "password=",
        "api_key: ",
        "tok3n-f4ke-v4lue",
        "hunter2hunter2",
        "token",
        '"',
        "bearer ",
        "A1b2C3d4" * 3,
    ),
    *(
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "FAKEfakeFAKEfake0123",
        "Version: 1",
    ),
)
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=9).map("".join)


def rail(guard: Guard, action: GuardAction = "redact", mode: Mode = "enforce") -> Guardrail:
    return Guardrail(name="it", on=("response",), action=action, mode=mode, order=0, guard=guard)


def redacted(guards: list[Guard], text: str) -> str:
    content = Content.of_text(text)
    spans: list[Span] = []
    for guard in guards:
        verdict = guard.inspect(content, CONTEXT)
        assert isinstance(verdict, Verdict)
        spans += verdict.spans
    return cut(text, merged(spans))


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(one % (len(text) + 1) for one in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("name", GUARDS)
@given(text=texts, cuts=st.lists(st.integers(0, 500), max_size=20))
def test_pieces_become_what_the_whole_becomes(name: str, text: str, cuts: list[int]) -> None:
    guard = GUARDS[name]
    held = Held([rail(guard)], CONTEXT)
    out = [held.feed(piece) for piece in pieces_of(text, cuts)]
    assert "".join([*out, held.end()]) == redacted([guard], text)
    assert not held.blocked_by


@pytest.mark.parametrize("name", GUARDS)
@given(text=texts)
def test_one_character_at_a_time_is_no_different(name: str, text: str) -> None:
    guard = GUARDS[name]
    held = Held([rail(guard)], CONTEXT)
    assert "".join([*map(held.feed, text), held.end()]) == redacted([guard], text)


@given(text=texts, cuts=st.lists(st.integers(0, 500), max_size=20))
def test_several_guards_are_one_redaction(text: str, cuts: list[int]) -> None:
    held = Held([rail(guard) for guard in GUARDS.values()], CONTEXT)
    out = [held.feed(piece) for piece in pieces_of(text, cuts)]
    assert "".join([*out, held.end()]) == redacted(list(GUARDS.values()), text)


@given(data=st.lists(st.sampled_from([b"cat ", b"\xc3", b"\xa9", b"\xff", b"\xf0\x9f", b"x"])))
def test_bytes_that_nothing_is_found_in_pass_as_they_are(data: list[bytes]) -> None:
    stream = TextStream([rail(GUARDS["secrets"])], CONTEXT)
    assert b"".join([*map(stream.feed, data), stream.end()]) == b"".join(data)


@pytest.mark.parametrize("name", GUARDS)
def test_ordinary_text_is_hardly_held_back(name: str) -> None:
    text = "Your order was shipped on 2024-05-06 and arrives in two days, said the house. " * 20
    held = Held([rail(GUARDS[name])], CONTEXT)
    behind, most, sent = 0, 0, 0
    for index, one in enumerate(text):
        sent += len(held.feed(one))
        behind += index + 1 - sent
        most = max(most, index + 1 - sent)
    assert most <= 80
    assert behind / len(text) <= 16


def test_a_block_lets_nothing_more_out() -> None:
    held = Held([rail(GUARDS["words"], "block")], CONTEXT)
    out = [held.feed("a house, "), held.feed("a cat, "), held.feed("a dog"), held.end()]
    assert "cat" not in "".join(out)
    assert "dog" not in "".join(out)
    assert held.blocked_by == "it"
    assert held.notes == ("it=block",)


def test_a_monitor_changes_nothing_and_tells() -> None:
    held = Held([rail(GUARDS["words"], mode="monitor")], CONTEXT)
    assert held.feed("a cat, ") + held.feed("a dog") + held.end() == "a cat, a dog"
    assert held.notes == ("it=monitor",)


PIECES = st.sampled_from(["a", "b", "[ab]", ".", "\\b", "^", "$", "(?i:A)", "a|b", "\\x62", "[^a]"])
patterns = st.recursive(
    PIECES,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map("|".join).map("(?:{})".format)
        | st.tuples(
            inner.map("({})".format), st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", "{2,}"])
        ).map("".join)
    ),
    max_leaves=8,
)


@given(pattern=patterns, before=st.text("ab \n", max_size=8), after=st.text("ab \n", max_size=4))
def test_what_becomes_a_match_was_seen_coming(pattern: str, before: str, after: str) -> None:
    """Whatever starts in a text and ends behind it starts where its unfinished match is found or later."""
    found = re2.compile(rf"(?m:{unfinished(pattern)})\z").search(before)
    assert found is not None
    for match in re2.compile(f"(?m:{pattern})").finditer(before + after):
        assert not match.start() < found.start() < len(before) <= match.end()
        assert match.end() < len(before) or match.start() >= found.start()


def test_every_pattern_of_ours_is_taken_apart() -> None:
    for guard in GUARDS.values():
        assert isinstance(guard, Searching)
        assert guard.open_from("nothing at all. ") == len("nothing at all. ")


@pytest.mark.parametrize("pattern", ["a\\Cb", "\\Q\\E+"])
def test_what_is_not_taken_apart_says_so(pattern: str) -> None:
    with pytest.raises(Unsupported):
        unfinished(pattern)


HOSTILE = (
    *(
        "sk-",
        "glpat-",
        "sk-ant-api03-",
        "xoxb-",
        "eyJ-",
        "pwd=",
        "token:",
        "://:",
        "bearer ",
        "AKIA/",
    ),
    *(
        "a.",
        "a@",
        "a@b.",
        "1 ",
        "4111 ",
        "+1",
        "0",
        "00-",
        "12:",
        "203.",
        "DE89",
        "phone:",
        "20ab:",
    ),
    *(
        "-----BEGIN PRIVATE KEY-----",
        "x",
        " x",
        "k",
        "a b",
        "b\x00",
        "k\x1f",
        "ab",
        "\u0301",
        "\u200b",
        "cat dog",
    ),
)


@pytest.mark.parametrize("name", GUARDS)
def test_hostile_text_takes_no_longer_than_its_length(name: str) -> None:
    guard = GUARDS[name]
    began = time.monotonic()
    for piece in HOSTILE:
        body = json.dumps(f"{piece * (100_000 // len(piece))}@x.png 1").encode()
        guard.inspect(Content(body), CONTEXT)
    assert time.monotonic() - began < 60


def test_values_made_of_words_take_no_longer_than_their_length() -> None:
    body = json.dumps("api_key: " + "aa." * 5000 + "aa1").encode()
    began = time.monotonic()
    GUARDS["secrets"].inspect(Content(body), CONTEXT)
    assert time.monotonic() - began < 5


def test_waiting_for_the_end_takes_no_longer_than_the_text() -> None:
    class Whole:
        def inspect(self, content: Content, context: Context) -> Verdict:
            del context
            return Verdict("allow" if "z" not in content.text else "block")

    held = Held([rail(Whole())], CONTEXT)
    began = time.monotonic()
    for _ in range(150_000):
        held.feed("twelve chars")
    assert len(held.end()) == 12 * 150_000
    assert time.monotonic() - began < 5


def test_what_cannot_be_foreseen_waits_for_the_end() -> None:
    assert re.search("\ud800", whole("a\ud800")) is None
    assert whole("a\ud800") == "a\ufffd"
