"""JSON text, and what it says laid out as one text that guards search and cut pieces out of.

Strings, and numbers long enough to be one of a card or a telephone, are found in the text of the JSON itself, names of members and members that stand twice
included. What is cut out is replaced in place and everything else stays byte for byte: no second
parser can see what was not looked at. Laying a text out costs a few passes at the speed of C; where
each piece is, is looked for only when something is cut out.
"""

import binascii
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from hub.domain.guarding import Span

NAME_END: Final = "\x1f"
"""Stands in :attr:`Content.text` behind the name of a member; its value follows."""
VALUE_END: Final = "\x00"
"""Stands behind every other string, and behind a number."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BLANKS: Final = frozenset(" \t\r\n")
_ONE: Final = json.JSONDecoder()
_STRINGS: Final = msgspec.json.Decoder(list[str])
# No JSON holds these characters as they are: they stand for two escapes while strings are split.
_BACKSLASH: Final = "\x01"
_QUOTE: Final = "\x02"

_NUMBER: Final = re.compile(r"[0-9.eE+-]{7,}")
"""Outside of strings, nothing but a number has so many of these characters on end."""
_PIECE: Final = re.compile(f'"|{_NUMBER.pattern}')
_AS_ZERO: Final = bytes(0x30 if byte in b"0123456789.eE+-" else 0x20 for byte in range(256))
_LONG: Final = b"0" * 7
_MOST_ZEROS: Final = 32
"""More of them behind the digits that are written make no number of anything."""

_BASE64_CHARS: Final = 40
"""Longer strings that are all base64 are looked into."""
_BASE64_SHOWN_CHARS: Final = 512
"""How much of such a string is searched as it stands: more than any token; images are larger."""
_UNPRINTED: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Unreadable(Exception):  # noqa: N818 -- the state of the content
    """Content that two readers could understand differently, or that is no JSON."""


class _Strings(NamedTuple):
    all: list[str]
    """As they really are, in order."""
    around: list[str]
    """What stands before the first, between each and the next one, and behind the last."""
    has_halves: bool
    """Whether halves of surrogate pairs are among their characters."""


class _Layout(NamedTuple):
    starts: list[int]
    """Index in the text at which each piece starts."""
    ends: list[int]
    places: list[tuple[int, int]]
    """Where each piece's literal, quotes included, is in the JSON."""


class Content:
    """One JSON text to look at. Nothing is computed before it is asked for."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    @classmethod
    def of_text(cls, text: str) -> "Content":
        """Plain text as content: one string, searched as it stands."""
        content = cls(_quoted(text).encode())
        content._strings = _Strings([text], ["", ""], has_halves=False)
        content._pieces = [whole(text) + VALUE_END]
        return content

    @cached_property
    def text(self) -> str:
        """All pieces in order, each followed by :data:`NAME_END` or :data:`VALUE_END`.

        Pieces are the strings, and the numbers of seven characters or more: whole ones in plain
        digits, however they are written. Halves of surrogate pairs appear as U+FFFD. Of a long string that is
        all base64, what it hides appears as well if that is text, and only the beginning if it is
        not; a span in such a string, or in a number, means all of it. Raises Unreadable.
        """
        return "".join(self._pieces)

    @cached_property
    def value(self) -> Any:
        """The content as plain values. Raises Unreadable, for members that stand twice as well."""
        try:
            value = msgspec.json.decode(self.body)
            again = msgspec.json.encode(value)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise Unreadable("it cannot be read as JSON") from error
        quotes = again.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
        if quotes != 2 * len(self._strings.all):
            raise Unreadable("a member stands twice")
        return value

    def holds(self, spans: Iterable[Span]) -> bool:
        """Whether cutting ``spans`` out would cut anything out."""
        ends = self._layout.ends
        starts = self._layout.starts
        return any(_overlapped(starts, ends, span) for span in spans)

    def without(self, spans: Iterable[Span]) -> "Content":
        """The same with ``[label]`` in place of each span of :attr:`text`; they may overlap.

        A span over several pieces is cut out of each of them; a number becomes a string.
        """
        cuts: dict[int, list[Span]] = {}
        for span in merged(spans):
            for index in _overlapped(self._layout.starts, self._layout.ends, span):
                cuts.setdefault(index, []).append(span)
        if not cuts:
            return self
        source = self._source
        out, done = [], 0
        for index in sorted(cuts):
            start, end = self._layout.places[index]
            out.append(source[done:start])
            out.append(_quoted(self._cut(index, cuts[index])))
            done = end
        out.append(source[done:])
        return Content("".join(out).encode())

    def _cut(self, index: int, spans: list[Span]) -> str:
        start, end = self._layout.places[index]
        string = _ONE.decode(self._source[start:end]) if self._source[start] == '"' else None
        if string is None or self._pieces[index][:-1] != whole(string):
            return f"[{spans[0].label}]"
        return cut(string, spans, self._layout.starts[index])

    @cached_property
    def _source(self) -> str:
        try:
            return self.body.decode()
        except ValueError as error:
            raise Unreadable("it is no text") from error

    @cached_property
    def _strings(self) -> _Strings:
        _check(self.body)
        source = self._source
        if "\\" not in source:
            parts = source.split('"')
            return _Strings(parts[1::2], parts[::2], has_halves=False)
        held = source.replace("\\\\", _BACKSLASH).replace('\\"', _QUOTE)
        parts = held.split('"')
        literals = '["' + '","'.join(parts[1::2]) + '"]'
        literals = literals.replace(_BACKSLASH, "\\\\").replace(_QUOTE, '\\"')
        try:
            return _Strings(_STRINGS.decode(literals), parts[::2], has_halves=False)
        except (msgspec.MsgspecError, ValueError):  # halves of surrogate pairs are no strings to it
            strings = [_ONE.decode(source[start:end]) for start, end in _literals(source)]
            return _Strings(strings, parts[::2], has_halves=True)

    @cached_property
    def _pieces(self) -> list[str]:
        """What the text is made of, each with its end."""
        strings, around, has_halves = self._strings
        if max(map(len, strings), default=0) > _BASE64_CHARS:
            strings = [_shown(one) if len(one) > _BASE64_CHARS else one for one in strings]
        pieces = [
            one
            + (
                NAME_END
                if after[:1] == ":" or (after[:1] in _BLANKS and after.lstrip()[:1] == ":")
                else VALUE_END
            )
            for one, after in zip(strings, around[1:], strict=True)
        ]
        if has_halves:
            pieces = list(map(whole, pieces))
        rest = '"'.join(around)
        if _LONG not in rest.encode().translate(_AS_ZERO):
            return pieces
        left = iter(pieces)
        return [
            next(left) if found == '"' else _digits(found) + VALUE_END
            for found in _PIECE.findall(rest)
        ]

    @cached_property
    def _layout(self) -> _Layout:
        starts, ends, position = [], [], 0
        for piece in self._pieces:
            starts.append(position)
            position += len(piece)
            ends.append(position - 1)
        return _Layout(starts, ends, list(_places(self._source)))


def whole(text: str) -> str:
    """``text`` with U+FFFD in place of halves of surrogate pairs."""
    return _SURROGATE.sub("\ufffd", text)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, overlapping ones joined under the label of the first."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if span.end <= span.start:
            continue
        if joined and span.start < joined[-1].end:
            if span.end > joined[-1].end:
                joined[-1] = Span(joined[-1].start, span.end, joined[-1].label)
            continue
        joined.append(span)
    return joined


def cut(text: str, spans: Iterable[Span], offset: int = 0) -> str:
    """``text`` with ``[label]`` in place of each of ``spans``, which are :func:`merged`.

    ``offset`` is the index that spans have for the first character of ``text``.
    """
    out: list[str] = []
    done = 0
    for span in spans:
        start, end = max(span.start - offset, 0), min(span.end - offset, len(text))
        if start < end:
            out.append(text[done:start])
            out.append(f"[{span.label}]")
            done = end
    out.append(text[done:])
    return "".join(out)


def _overlapped(starts: list[int], ends: list[int], span: Span) -> list[int]:
    """Which strings have a character in ``span``."""
    index = max(bisect_right(starts, span.start) - 1, 0)
    found: list[int] = []
    while index < len(starts) and starts[index] < span.end:
        if max(starts[index], span.start) < min(ends[index], span.end):
            found.append(index)
        index += 1
    return found


def _check(body: bytes) -> None:
    """Raises Unreadable for what is no JSON. Halves of surrogate pairs are not msgspec's, but ours."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        try:
            json.loads(body.decode(), parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise Unreadable("it cannot be read as JSON") from error


def _refused(constant: str) -> None:
    raise ValueError(constant)


def _digits(number: str) -> str:
    """A number as it is written, or without point and exponent if it is a whole one."""
    whole_part, _, fraction = number.partition(".")
    if "e" not in number and "E" not in number:
        return number if fraction.strip("0") else whole_part
    try:
        value = Decimal(number)
    except ArithmeticError:  # an exponent beyond all measure
        return number
    is_near = -len(number) <= value.adjusted() < len(number) + _MOST_ZEROS
    return f"{value:.0f}" if is_near and value == value.to_integral_value() else number


def _places(source: str) -> Iterator[tuple[int, int]]:
    """Where the literals of all pieces are in ``source``, which is JSON."""
    done = 0
    for start, end in _literals(source):
        yield from (number.span() for number in _NUMBER.finditer(source, done, start))
        yield start, end
        done = end
    yield from (number.span() for number in _NUMBER.finditer(source, done))


def _literals(source: str) -> Iterator[tuple[int, int]]:
    """Where the literals of all strings are in ``source``, which is JSON."""
    start = source.find('"')
    while start >= 0:
        end = _ONE.raw_decode(source, start)[1]
        yield start, end
        start = source.find('"', end)


def _quoted(text: str) -> str:
    is_whole = _SURROGATE.search(text) is None
    return json.dumps(text, ensure_ascii=not is_whole)


def _shown(string: str) -> str:
    """What is searched of a long string: itself, unless it is base64."""
    head, mark, coded = string.rpartition(";base64,") if string[:5] == "data:" else ("", "", string)
    if " " in coded or not _is_in_lines(lines := coded.split()):
        return string
    coded = "".join(lines)
    if ("+" in coded or "/" in coded) and ("-" in coded or "_" in coded):
        return string
    coded = coded.replace("-", "+").replace("_", "/").rstrip("=")
    if len(coded) <= _BASE64_CHARS or len(coded) % 4 == 1:
        return string
    try:
        hidden = binascii.a2b_base64(coded + "=" * (-len(coded) % 4), strict_mode=True)
    except ValueError:
        return string
    try:
        text = hidden.decode()
        is_text = _UNPRINTED.search(text) is None
    except ValueError:
        is_text = False
    if is_text:
        return f"{string[: len(head) + len(mark) + _BASE64_SHOWN_CHARS]} {text}"
    return string[: len(head) + len(mark) + _BASE64_SHOWN_CHARS]


def _is_in_lines(lines: list[str]) -> bool:
    """Whether all but the last, which may be shorter, are of one length, as encoders write them."""
    return bool(lines) and {len(one) for one in lines[:-1]} <= {max(map(len, lines))}
