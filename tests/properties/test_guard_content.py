"""Cutting pieces out of JSON: they are gone, and everything else is what it was, byte for byte."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hub.domain.guarding import Span
from hub.guard.content import NAME_END, VALUE_END, Content, Unreadable, whole

STRINGS = st.text(max_size=12) | st.sampled_from((
    '"',
    "\\",
    '\\"',
    "\\\\n",
    "a\nb",
    "\u00e9\U0001f600",
    "\ud83d",
    "\x00\x1f\x01\x02",
    "/",
    ": ",
    "<",
))


CUT = r"(?:\[x\])"


class _Members(list[tuple[str, Any]]):
    """Members of an object in order; names may stand twice."""


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(st.tuples(STRINGS, inner), max_size=4).map(_Members)
    ),
    max_leaves=16,
)


def written(value: object, draw: Any) -> str:
    """JSON, with white space and escapes as they come."""
    blank = draw(st.sampled_from(["", " ", "\n\t", "\r\n "]))
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=draw(st.booleans()) or whole(value) != value)
    if isinstance(value, _Members):
        members = (f"{written(n, draw)}{blank}:{blank}{written(v, draw)}" for n, v in value)
        return f"{{{blank}{f'{blank},{blank}'.join(members)}{blank}}}"
    if isinstance(value, list):
        return f"[{blank}{','.join(written(one, draw) for one in value)}{blank}]"
    return "1e400" if value in {float("inf"), float("-inf")} else json.dumps(value)


def strings_of(value: object) -> list[tuple[str, str]]:
    """Each string with what stands behind it."""
    if isinstance(value, str):
        return [(value, VALUE_END)]
    if isinstance(value, _Members):
        return [one for n, v in value for one in ((n, NAME_END), *strings_of(v))]
    return [one for inner in value for one in strings_of(inner)] if isinstance(value, list) else []


@given(data=st.data(), value=VALUES)
def test_the_text_is_every_string_in_order(data: st.DataObject, value: object) -> None:
    content = Content(written(value, data.draw).encode())
    assert content.text == "".join(whole(one) + end for one, end in strings_of(value))


@given(data=st.data(), value=VALUES)
def test_what_is_cut_out_is_gone_and_the_rest_is_as_it_was(
    data: st.DataObject, value: object
) -> None:
    content = Content(written(value, data.draw).encode())
    place = st.integers(0, len(content.text) + 3)
    spans = [
        Span(start, start + data.draw(st.integers(0, 9)), "x")
        for start in data.draw(st.lists(place, max_size=4))
    ]
    after = content.without(spans)
    cut = {index for span in spans for index in range(span.start, span.end)}
    left = json.loads(after.body, object_pairs_hook=_Members)
    now = [one for one, _ in strings_of(left)]
    at, changed = 0, False
    for (string, _), became in zip(strings_of(value), now, strict=True):
        places = range(at, at + len(string))
        kept = "".join(
            re.escape(one) if i not in cut else CUT for i, one in zip(places, string, strict=True)
        )
        changed |= CUT in kept
        assert re.fullmatch(f"(?:{CUT})+".join(runs(kept)), became, re.DOTALL)
        at += len(string) + 1
    assert (after is not content) == changed
    assert content.holds(spans) == changed


def runs(kept: str) -> list[str]:
    """What stands before, between and behind the runs of pieces cut out."""
    return re.split(f"(?:{re.escape(CUT)})+", kept)


@given(data=st.data(), value=VALUES)
def test_bytes_outside_of_what_is_cut_do_not_change(data: st.DataObject, value: object) -> None:
    body = written(value, data.draw)
    content = Content(body.encode())
    strings = strings_of(value)
    assume(strings)
    index = data.draw(st.integers(0, len(strings) - 1))
    assume(strings[index][0])
    start = sum(len(one) + 1 for one, _ in strings[:index])
    after = content.without([Span(start, start + len(strings[index][0]), "gone")]).body.decode()
    literals = list(re.finditer(r'"(?:[^"\\]|\\.)*"', body, re.DOTALL))
    place = literals[index]
    assert after == f'{body[: place.start()]}"[gone]"{body[place.end() :]}'


def test_members_that_stand_twice_are_seen_and_have_no_value() -> None:
    content = Content(b'{"a": "one", "a": "two"}')
    assert content.text == f"a{NAME_END}one{VALUE_END}a{NAME_END}two{VALUE_END}"
    with pytest.raises(Unreadable):
        _ = content.value


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": "x', b'{"a": NaN}', b'["\xff"]', b'"a" "b"', b"[" * 100_000, b'["\x01"]'],
)
def test_what_is_no_json_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        _ = Content(body).text
    with pytest.raises(Unreadable):
        _ = Content(body).value


HIDDEN = "the password is hidden here: Swordfish-12345, do not tell"


@pytest.mark.parametrize(
    "written_as",
    [
        base64.b64encode(HIDDEN.encode()).decode(),
        base64.urlsafe_b64encode(HIDDEN.encode()).decode().rstrip("="),
        base64.encodebytes((HIDDEN * 3).encode()).decode(),
        "data:text/plain;base64," + base64.b64encode(HIDDEN.encode()).decode(),
    ],
)
def test_text_under_one_layer_of_base64_is_seen_and_goes_as_a_whole(written_as: str) -> None:
    content = Content(json.dumps({"before": written_as, "behind": "x"}).encode())
    start = content.text.index("Swordfish")
    after = content.without([Span(start, start + 9, "word")])
    assert json.loads(after.body) == {"before": "[word]", "behind": "x"}


def test_of_a_picture_only_the_beginning_is_searched() -> None:
    picture = base64.b64encode(bytes(range(256)) * 400).decode()
    content = Content(json.dumps({"data": picture}).encode())
    assert len(content.text) < 600
    after = content.without([Span(10, 12, "x")])
    assert json.loads(after.body) == {"data": "[x]"}


def test_ordinary_long_words_are_no_base64() -> None:
    for text in ("a" * 41, "é" * 60, "https://example.org/" + "a/" * 40, "0123456789abcdef" * 4):
        assert Content(json.dumps(text).encode()).text == text + VALUE_END
