"""JSON text, and the strings in it laid out as one text that guards search and cut pieces out of.

Strings are found in the bytes themselves, names of members and members that stand twice included. What
is cut out is replaced in place and everything else stays byte for byte: no second parser can see
what was not looked at.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final

import msgspec

from hub.domain.guarding import Span

NAME_END: Final = "\x1f"
"""Stands in :attr:`Content.text` behind the name of a member; its value follows."""
VALUE_END: Final = "\x00"
"""Stands behind every other string."""

_STRING: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Unreadable(Exception):  # noqa: N818 -- the state of the content
    """Content that two readers could understand differently, or that is no JSON."""


class Content:
    """One JSON text to look at. Nothing is computed before it is asked for."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    @cached_property
    def text(self) -> str:
        """All strings in order, each followed by :data:`NAME_END` or :data:`VALUE_END`.

        Halves of surrogate pairs appear as U+FFFD. Raises Unreadable.
        """
        return "".join(self._pieces[0])

    @cached_property
    def value(self) -> Any:
        """The content as plain values. Raises Unreadable, for members that stand twice as well."""
        try:
            value = msgspec.json.decode(self.body)
            strings = sum(1 for _ in _STRING.finditer(msgspec.json.encode(value)))
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise Unreadable("it cannot be read as JSON") from error
        if strings != len(self._pieces[0]):
            raise Unreadable("a member stands twice")
        return value

    def without(self, spans: Iterable[Span]) -> "Content":
        """The same with ``[label]`` in place of each span of :attr:`text`; they may overlap.

        A span over several strings is cut out of each of them.
        """
        wanted = _merged(spans)
        if not wanted:
            return self
        _, starts, places = self._pieces
        by_string: dict[int, list[Span]] = {}
        for span in wanted:
            index = bisect_right(starts, span.start) - 1
            while index < len(starts) and starts[index] < span.end:
                by_string.setdefault(index, []).append(span)
                index += 1
        out, done = [], 0
        for index, cuts in sorted(by_string.items()):
            start, end = places[index]
            out.append(self.body[done:start])
            out.append(_quoted(_cut(self._string(index), starts[index], cuts)))
            done = end
        out.append(self.body[done:])
        return Content(b"".join(out))

    def _string(self, index: int) -> str:
        """A string as it really is, halves of surrogate pairs included."""
        start, end = self._pieces[2][index]
        return _unquoted(self.body[start:end])

    @cached_property
    def _pieces(self) -> tuple[list[str], list[int], list[tuple[int, int]]]:
        """The pieces of the text, where each starts in it, and where its string is in the body."""
        pieces: list[str] = []
        starts: list[int] = []
        places: list[tuple[int, int]] = []
        position = 0
        for found in _STRING.finditer(self.body):
            piece = _unquoted(found[0][: found.end(1) - found.start() + 1])
            piece = _SURROGATE.sub("\ufffd", piece) + (NAME_END if found[2] else VALUE_END)
            pieces.append(piece)
            starts.append(position)
            places.append((found.start(), found.end(1) + 1))
            position += len(piece)
        return pieces, starts, places


def _unquoted(literal: bytes) -> str:
    try:
        if b"\\" not in literal:
            return literal[1:-1].decode()
        text: str = json.loads(literal.decode(), strict=False)
    except ValueError as error:
        raise Unreadable("it holds a string that is no text") from error
    return text


def _quoted(text: str) -> bytes:
    is_whole = _SURROGATE.search(text) is None
    return json.dumps(text, ensure_ascii=not is_whole).encode()


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, overlapping ones joined under the label of the first."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if span.end <= span.start:
            continue
        if merged and span.start < merged[-1].end:
            if span.end > merged[-1].end:
                merged[-1] = Span(merged[-1].start, span.end, merged[-1].label)
            continue
        merged.append(span)
    return merged


def _cut(text: str, offset: int, cuts: Iterable[Span]) -> str:
    out: list[str] = []
    done = 0
    for start, end, label in _within(text, offset, cuts):
        out.append(text[done:start])
        out.append(f"[{label}]")
        done = end
    out.append(text[done:])
    return "".join(out)


def _within(text: str, offset: int, cuts: Iterable[Span]) -> Iterator[tuple[int, int, str]]:
    for cut in cuts:
        start, end = max(cut.start - offset, 0), min(cut.end - offset, len(text))
        if start < end:
            yield start, end, cut.label
