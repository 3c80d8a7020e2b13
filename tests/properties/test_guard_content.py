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


class _Number(str):
    """A number as it is written, and what is shown of it."""

    shown: str

    def __new__(cls, written: str, shown: str) -> "_Number":
        number = super().__new__(cls, written)
        number.shown = shown
        return number


NUMBERS = st.sampled_from((
    _Number("4111111111111111", "4111111111111111"),
    _Number("-2125550147.0", "-2125550147"),
    _Number("4.111111111111111E+15", "4111111111111111"),
    _Number("41111111111111110e-1", "4111111111111111"),
    _Number("0.87654321", "0.87654321"),
    _Number("1234567e999999999999999999999", "1234567e999999999999999999999"),
    _Number("1234567e-9999", "1234567e-9999"),
    _Number("123456", ""),
))


class _Members(list[tuple[str, Any]]):
    """Members of an object in order; names may stand twice."""


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99999, 99999) | st.just(0.5) | NUMBERS | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(st.tuples(STRINGS, inner), max_size=4).map(_Members)
    ),
    max_leaves=16,
)


def written(value: object, draw: Any) -> str:
    """JSON, with white space and escapes as they come."""
    blank = draw(st.sampled_from(["", " ", "\n\t", "\r\n "]))
    if isinstance(value, _Number):
        return value
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=draw(st.booleans()) or whole(value) != value)
    if isinstance(value, _Members):
        members = (f"{written(n, draw)}{blank}:{blank}{written(v, draw)}" for n, v in value)
        return f"{{{blank}{f'{blank},{blank}'.join(members)}{blank}}}"
    if isinstance(value, list):
        return f"[{blank}{','.join(written(one, draw) for one in value)}{blank}]"
    return json.dumps(value)


def strings_of(value: object) -> list[tuple[str, str]]:
    """Each string and long number with what stands behind it."""
    if isinstance(value, _Number):
        return [(value, VALUE_END)] if value.shown else []
    if isinstance(value, str):
        return [(value, VALUE_END)]
    if isinstance(value, _Members):
        return [one for n, v in value for one in ((n, NAME_END), *strings_of(v))]
    return [one for inner in value for one in strings_of(inner)] if isinstance(value, list) else []


@given(data=st.data(), value=VALUES)
def test_the_text_is_every_string_and_long_number_in_order(
    data: st.DataObject, value: object
) -> None:
    content = Content(written(value, data.draw).encode())
    assert content.text == "".join(shown(one) + end for one, end in strings_of(value))


def shown(one: str) -> str:
    return one.shown if isinstance(one, _Number) else whole(one)


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
    left = json.loads(
        after.body, object_pairs_hook=_Members, parse_int=read_number, parse_float=read_number
    )
    now = [one for one, _ in strings_of(left)]
    at, changed = 0, False
    for (string, _), became in zip(strings_of(value), now, strict=True):
        places = range(at, at + len(shown(string)))
        at += len(places) + 1
        if isinstance(string, _Number):
            is_cut = not cut.isdisjoint(places)
            changed |= is_cut
            assert became == ("[x]" if is_cut else string)
            continue
        kept = "".join(
            re.escape(one) if i not in cut else CUT for i, one in zip(places, string, strict=True)
        )
        changed |= CUT in kept
        assert re.fullmatch(f"(?:{CUT})+".join(runs(kept)), became, re.DOTALL)
    assert (after is not content) == changed
    assert content.holds(spans) == changed


def read_number(written: str) -> _Number:
    return _Number(written, written if len(written) > 6 else "")


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
    start = sum(len(shown(one)) + 1 for one, _ in strings[:index])
    end = start + len(shown(strings[index][0]))
    after = content.without([Span(start, end, "gone")]).body.decode()
    literals = list(re.finditer(r'"(?:[^"\\]|\\.)*"|[0-9.eE+-]{7,}', body, re.DOTALL))
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


@pytest.mark.parametrize("more", range(4))
def test_lines_of_words_are_no_base64(more: int) -> None:
    text = "x" * more + "\n".join(["alpha/beta", "gamma", "delta1"] * 60) + "\nswordfish"
    assert Content(json.dumps(text).encode()).text == text + VALUE_END


@pytest.mark.parametrize("more", range(4))
def test_two_alphabets_of_base64_are_none(more: int) -> None:
    text = "x" * more + "A1b2" * 200 + "/ghp_" + "Fake0123" * 5
    assert Content(json.dumps(text).encode()).text == text + VALUE_END
