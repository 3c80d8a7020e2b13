"""JSON text, and the strings in it laid out as one text that guards search and cut pieces out of.

Strings are found in the text of the JSON itself, names of members and members that stand twice
included. What is cut out is replaced in place and everything else stays byte for byte: no second
parser can see what was not looked at. Laying a text out costs a few passes at the speed of C; where
each string is, is looked for only when something is cut out.
"""

import binascii
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from hub.domain.guarding import Span

NAME_END: Final = "\x1f"
"""Stands in :attr:`Content.text` behind the name of a member; its value follows."""
VALUE_END: Final = "\x00"
"""Stands behind every other string."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BLANKS: Final = frozenset(" \t\r\n")
_ONE: Final = json.JSONDecoder()
_STRINGS: Final = msgspec.json.Decoder(list[str])
# No JSON holds these characters as they are: they stand for two escapes while strings are split.
_BACKSLASH: Final = "\x01"
_QUOTE: Final = "\x02"

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
    between: list[str]
    """What stands between each and the next one."""
    has_halves: bool
    """Whether halves of surrogate pairs are among their characters."""


class _Layout(NamedTuple):
    starts: list[int]
    """Index in the text at which each string starts."""
    ends: list[int]
    places: list[tuple[int, int]]
    """Where each string's literal, quotes included, is in the JSON."""


class Content:
    """One JSON text to look at. Nothing is computed before it is asked for."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    @classmethod
    def of_text(cls, text: str) -> "Content":
        """Plain text as content: one string, searched as it stands."""
        content = cls(_quoted(text).encode())
        content._strings = _Strings([text], [""], has_halves=False)
        content._pieces = [whole(text) + VALUE_END]
        return content

    @cached_property
    def text(self) -> str:
        """All strings in order, each followed by :data:`NAME_END` or :data:`VALUE_END`.

        Halves of surrogate pairs appear as U+FFFD. Of a long string that is all base64, what it
        hides appears as well if that is text, and only the beginning if it is not; a span in such a
        string means all of it. Raises Unreadable.
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

        A span over several strings is cut out of each of them.
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
        string = self._strings.all[index]
        if self._pieces[index][:-1] != whole(string):
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
            return _Strings(parts[1::2], parts[2::2], has_halves=False)
        held = source.replace("\\\\", _BACKSLASH).replace('\\"', _QUOTE)
        parts = held.split('"')
        literals = '["' + '","'.join(parts[1::2]) + '"]'
        literals = literals.replace(_BACKSLASH, "\\\\").replace(_QUOTE, '\\"')
        try:
            return _Strings(_STRINGS.decode(literals), parts[2::2], has_halves=False)
        except (msgspec.MsgspecError, ValueError):  # halves of surrogate pairs are no strings to it
            strings = [json.loads(source[start:end]) for start, end in _places(source)]
            return _Strings(strings, parts[2::2], has_halves=True)

    @cached_property
    def _pieces(self) -> list[str]:
        """What the text is made of, one for each string."""
        strings, between, has_halves = self._strings
        if max(map(len, strings), default=0) > _BASE64_CHARS:
            strings = [_shown(one) if len(one) > _BASE64_CHARS else one for one in strings]
        pieces = [
            one
            + (
                NAME_END
                if after[:1] == ":" or (after[:1] in _BLANKS and after.lstrip()[:1] == ":")
                else VALUE_END
            )
            for one, after in zip(strings, between, strict=True)
        ]
        return list(map(whole, pieces)) if has_halves else pieces

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


def _places(source: str) -> Iterator[tuple[int, int]]:
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
    if " " in coded:
        return string
    coded = "".join(coded.split()).replace("-", "+").replace("_", "/").rstrip("=")
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
