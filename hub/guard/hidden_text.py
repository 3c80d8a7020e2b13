"""Characters that models read and people do not see, and that turn text around.

What writing really needs is left alone: joiners in Arabic, Indic and emoji, marks and isolates of
text from right to left, break points in Thai and Khmer, flags, variants of ideographs.
"""

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from hub.domain.guarding import Context, Span, Verdict
from hub.guard.content import NAME_END, VALUE_END, Content, merged
from hub.guard.patterns import Hit, Next, verdict_of
from hub.guard.protocol import Guard

ZERO_WIDTH: Final = "zero_width"
DIRECTION: Final = "bidi"
TAGS: Final = "tags"
VARIATION: Final = "variation_selectors"

_INVISIBLE: Final = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2064\u206a-\u206f\u3164\ufeff"
    "\uffa0"
)
_SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_ANY: Final = re.compile(
    f"[{_INVISIBLE}{_SELECTORS}\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)

_RUN: Final = re.compile(f"[{_INVISIBLE}]{{3,}}")
_BETWEEN: Final = re.compile(
    f"(?:[A-Za-z0-9\u00c0-\u024f\u0370-\u052f][{_INVISIBLE}]{{1,2}}){{3,}}"
)
"""Letters of alphabets that need no joiners, one by one with something in between."""
_ONE_INVISIBLE: Final = re.compile(f"[{_INVISIBLE}]+")

_FLAG: Final = (
    "\U0001f3f4[\U000e0061-\U000e007a]{2}[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,4}"
    "\U000e007f"
)
"""A black flag with the code of a region; longer or other ones are no emoji (UTS 51, ED-14a)."""
_TAGS: Final = re.compile(f"(?P<flag>{_FLAG})|[\U000e0000-\U000e007f]+")

_SELECTOR_RUN: Final = re.compile(
    "[\ufe00-\ufe0f]{3,}|[\ufe00-\ufe0f]*[\U000e0100-\U000e01ef][" + _SELECTORS + "]+"
    "|(?<![\u2e80-\u9fff\uf900-\ufaff\U00020000-\U000323af])[\U000e0100-\U000e01ef]"
)
"""A sequence has one selector (Unicode 23.4); the supplementary ones stand behind ideographs only."""
_SELECTED_LETTERS: Final = re.compile("(?:[A-Za-z ][\ufe00-\ufe0f]){3,}")
_SELECTOR: Final = re.compile("[\ufe00-\ufe0f]+")

_TURNS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TO_THE_RIGHT: Final = "\u202d"
_TO_THE_LEFT: Final = "\u202e"
_TURNING: Final = ("\u202b", _TO_THE_RIGHT, _TO_THE_LEFT, "\u2067")
"""Right-to-left embedding, both overrides, right-to-left isolate."""
_CLOSERS: Final = {"\u202b": "\u202c", "\u202d": "\u202c", "\u202e": "\u202c", "\u2067": "\u2069"}
_PARAGRAPH_END: Final = f"\n\u2029{NAME_END}{VALUE_END}"
_ENDS: Final = {opener: re.compile(f"[{_PARAGRAPH_END}{_CLOSERS[opener]}]") for opener in _TURNING}
_NO_NUMBER: Final = re.compile(r"[^\d\s()+./*#-]")
"""What is none of what address books put between an override to the right and its end: a telephone number."""
_RIGHT_TO_LEFT: Final = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001eeff]"
)


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """There is nothing to choose."""


def guard(options: Options) -> Guard:
    """The guard."""
    del options
    return _HiddenText()


class _HiddenText:
    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`. Raises Unreadable."""
        del context
        return verdict_of(hit.span for hit in self.hits(content.text))

    def hits(self, text: str, start: int = 0) -> list[Hit]:
        """See :meth:`hub.guard.patterns.PatternGuard.hits`."""
        if text.isascii() or _ANY.search(text, start) is None:
            return []
        return [Hit(span.start, span) for span in merged(_found(text)) if span.start >= start]

    def open_from(self, text: str, start: int = 0) -> int:
        """Where what is hidden may still go on: its run, the letter in front, what is not turned back."""
        at = max(len(text) - 1, 0)
        while at > 0 and (_ANY.match(text, at - 1) or (at > 1 and _ANY.match(text, at - 2))):
            at -= 1
        at = max(at - 1, 0)
        ends = {opener: Next(pattern, text) for opener, pattern in _ENDS.items()}
        for turn in _TURNS.finditer(text, start, at):
            if turn[0] in _TURNING and ends[turn[0]].after(turn.end()) >= at:
                return turn.start()
        return max(at, start)


def _found(text: str) -> Iterator[Span]:
    for run in _RUN.finditer(text):
        yield Span(run.start(), run.end(), ZERO_WIDTH)
    yield from _within(text, _BETWEEN, _ONE_INVISIBLE, ZERO_WIDTH)
    for tags in _TAGS.finditer(text):
        if tags["flag"] is None:
            yield Span(tags.start(), tags.end(), TAGS)
    for run in _SELECTOR_RUN.finditer(text):
        if set(run[0]) != {"\ufe0f"} or len(run[0]) > 3:
            yield Span(run.start(), run.end(), VARIATION)
    yield from _within(text, _SELECTED_LETTERS, _SELECTOR, VARIATION)
    yield from _turns(text)


def _within(
    text: str, outer: re.Pattern[str], inner: re.Pattern[str], label: str
) -> Iterator[Span]:
    """The hidden pieces of what was found, without the letters that are seen."""
    for whole in outer.finditer(text):
        for piece in inner.finditer(text, whole.start(), whole.end()):
            yield Span(piece.start(), piece.end(), label)


def _turns(text: str) -> Iterator[Span]:
    """Controls that turn letters around which nobody would write that way.

    An override to the left is always one; what opens a passage from right to left is one if nothing
    in the passage is written so.
    """
    ends = {opener: Next(pattern, text) for opener, pattern in _ENDS.items()}
    no_number, right_to_left = Next(_NO_NUMBER, text), Next(_RIGHT_TO_LEFT, text)
    for turn in _TURNS.finditer(text):
        opener = turn[0]
        if opener not in _TURNING:
            continue
        end = ends[opener].after(turn.end())
        if opener == _TO_THE_RIGHT:
            is_meant = no_number.after(turn.end()) >= end
        else:
            is_meant = opener != _TO_THE_LEFT and right_to_left.after(turn.end()) < end
        if not is_meant:
            yield Span(turn.start(), turn.end(), DIRECTION)
            if text[end : end + 1] == _CLOSERS[opener]:
                yield Span(end, end + 1, DIRECTION)
