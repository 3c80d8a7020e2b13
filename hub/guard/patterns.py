"""Patterns that guards search for: RE2, so that no text can make a search slow.

One pass over a text says which of the patterns are in it at all, and almost always that is none; only
those that are get searched for one by one.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Final, cast

import re2
from msgspec import Struct

from hub.domain.guarding import ALLOW, Context, Span, Verdict
from hub.errors import ConfigurationError
from hub.guard.content import NAME_END, VALUE_END, Content
from hub.guard.stream import LOOK_BACK_CHARS, Hit
from hub.guard.unfinished import Unsupported, unfinished

__all__ = ["Accepts", "Hit", "Next", "Pattern", "PatternGuard", "Patterns", "verdict_of"]

_LEAST_MEMORY_BYTES: Final = 8 << 20
_MEMORY_PER_INSTRUCTION_BYTES: Final = 2048
"""Enough for the states of a search over all patterns, many times over."""
_STRING_END: Final = re.compile(f"[{VALUE_END}{NAME_END}]".encode())
_CHAR_BYTES: Final = (*[1] * 12, 2, 2, 3, 4)
"""How long a character is in UTF-8, by the first four bits of its first byte (RFC 3629 section 3)."""

Accepts = Callable[[str, int, int], bool]
"""Whether what a pattern found counts: the text, where the found piece starts, and where it ends.

It may look at :data:`LOOK_BACK_CHARS` before the piece and at one character behind the match.
"""


class Pattern(Struct, frozen=True):
    """What to search for."""

    label: str
    regex: str
    """RE2. Its first group is what is found, if it has one and it takes part; else all of it."""
    accepts: Accepts | None = None


class Patterns:
    """Patterns made ready to be searched for together.

    The order of ``patterns`` counts: a hit that is all within one of an earlier pattern is left out.
    ``in_strings``: each string is a text of its own with its own lines, and no hit leaves it.
    Raises ConfigurationError for what is no RE2 pattern.
    """

    def __init__(self, patterns: Sequence[Pattern], *, in_strings: bool = False) -> None:
        self._patterns = tuple(patterns)
        self._in_strings = in_strings
        self._searches = [_compiled(one.regex) for one in patterns]
        instructions = sum(one.programsize for one in self._searches)
        self._set = re2.Set.SearchSet(_options(instructions))
        for one in patterns:
            self._set.Add(one.regex)
        try:
            self._set.Compile()
        except re2.error as error:
            raise ConfigurationError("together they are too large") from error

    @cached_property
    def _open(self) -> "re2._Regexp[str] | None":
        """Made when a stream comes: it takes longer than all the rest."""
        return _unfinished_of([one.regex for one in self._patterns])

    def hits(self, text: str, start: int = 0) -> list[Hit]:
        """What is found from ``start`` on, in order; what stands before it is looked at only."""
        data = self._encoded(text)
        which = cast(list[int] | None, self._set.Match(data))  # its stub is wrong
        if not which:
            return []
        kept: list[Hit] = []
        for index in sorted(which):
            starts = [one.span.start for one in kept]
            ends = list(accumulate((one.span.end for one in kept), max))
            found = self._found(index, text, data, start)
            kept += [one for one in found if not _is_within(one.span, starts, ends)]
            kept.sort(key=_place)
        return kept

    def open_from(self, text: str, start: int = 0) -> int:
        """Index, at least ``start``, from which ``text`` may become part of a hit if it goes on.

        Whatever is found before it stays so, whatever follows.
        """
        if self._open is None:
            return start
        data = self._encoded(text)
        found = self._open.search(data, _bytes(text, data, start))
        return len(text) if found is None else _chars(text, data, 0, found.start())

    def _found(self, index: int, text: str, data: bytes, start: int) -> Iterator[Hit]:
        pattern, search = self._patterns[index], self._searches[index]
        at = seen = _bytes(text, data, start)
        reach = start
        for stop in self._stops(text, at):
            while (found := search.search(data, at, stop)) is not None:
                first = found.start()
                group = 1 if search.groups and found.start(1) >= 0 else 0
                reach += _chars(text, data, seen, first)
                seen = first
                begin = reach + _chars(text, data, first, found.start(group))
                end = begin + _chars(text, data, found.start(group), found.end(group))
                if begin < end and (pattern.accepts is None or pattern.accepts(text, begin, end)):
                    yield Hit(reach, Span(begin, end, pattern.label))
                    at = found.end(group)
                elif first < stop:
                    at = first + _CHAR_BYTES[data[first] >> 4]
                else:
                    break
            at = stop + 1

    def _stops(self, text: str, at: int) -> Iterator[int]:
        """Where in the encoded text the pieces end that hits do not leave, from ``at`` on."""
        data = text.encode(errors="replace")
        if self._in_strings:
            yield from (end.start() for end in _STRING_END.finditer(data, at))
        yield len(data)

    def _encoded(self, text: str) -> bytes:
        data = text.encode(errors="replace")
        if self._in_strings:
            return data.replace(VALUE_END.encode(), b"\n").replace(NAME_END.encode(), b"\n")
        return data


class PatternGuard:
    """A guard that points at what its patterns find."""

    looks_back_chars: Final = LOOK_BACK_CHARS

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = Patterns(patterns)

    def inspect(self, content: Content, context: Context) -> Verdict:
        """Kinds and counts of what was found, and where it is."""
        del context
        return verdict_of(one.span for one in self._patterns.hits(content.text))

    def hits(self, text: str, start: int = 0) -> list[Hit]:
        """What is found in a text that is no JSON; see ``hub.guard.stream``."""
        return self._patterns.hits(text, start)

    def open_from(self, text: str, start: int = 0) -> int:
        """Index from which ``text`` may become part of a hit if it goes on."""
        return self._patterns.open_from(text, start)


class Next:
    """Where a pattern is found next. Asked in order, it reads its text once, whatever is asked."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self._pattern = pattern
        self._text = text
        self._at = -1

    def after(self, index: int) -> int:
        """Where from ``index`` on; the length of the text for nowhere."""
        if self._at < index:
            found = self._pattern.search(self._text, index)
            self._at = len(self._text) if found is None else found.start()
        return self._at


def verdict_of(spans: Iterable[Span]) -> Verdict:
    """What a guard says that found ``spans``: they are to go, and how many of which kind there are."""
    found = tuple(spans)
    if not found:
        return ALLOW
    counts: dict[str, int] = {}
    for one in found:
        counts[one.label] = counts.get(one.label, 0) + 1
    reason = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
    return Verdict("redact", found, reason)


def _is_within(span: Span, starts: list[int], ends: list[int]) -> bool:
    """Whether one of those that start at ``starts``, and until then reach to ``ends``, has all of it."""
    index = bisect_right(starts, span.start) - 1
    return index >= 0 and ends[index] >= span.end


def _place(hit: Hit) -> tuple[int, int]:
    return hit.span.start, hit.span.end


def _bytes(text: str, data: bytes, chars: int) -> int:
    """Index in ``data``, which is ``text`` encoded, of a character."""
    return chars if len(text) == len(data) else len(text[:chars].encode(errors="replace"))


def _chars(text: str, data: bytes, start: int, end: int) -> int:
    """How many characters are between two indexes in ``data``."""
    return end - start if len(text) == len(data) else len(data[start:end].decode(errors="replace"))


def _options(instructions: int) -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = max(_LEAST_MEMORY_BYTES, instructions * _MEMORY_PER_INSTRUCTION_BYTES)
    return options


def _compiled(regex: str) -> "re2._Regexp[str]":
    try:
        return re2.compile(regex, _options(0))
    except re2.error as error:
        raise ConfigurationError(f"{regex!r} is no pattern: {_text_of(error)}") from error


def _text_of(error: re2.error) -> str:
    """What RE2 says, which it says in bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _unfinished_of(regexes: Sequence[str]) -> "re2._Regexp[str] | None":
    """What finds the beginning of an unfinished match of any; None if that cannot be made."""
    try:
        parts = [unfinished(one) for one in regexes]
        return re2.compile(f"(?:{'|'.join(parts)})\\z", _options(4 * sum(map(len, parts))))
    except (Unsupported, re2.error):
        return None
