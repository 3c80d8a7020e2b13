"""Words and patterns that an administrator does not want to see.

Any number of words costs one pass (Aho-Corasick); a few are one expression of RE2, which is faster still.
Text is searched as people read it (``hub.guard.folding``); patterns are searched in what is written, too.
"""

import re
import unicodedata
from typing import Final

import ahocorasick  # type: ignore[import-not-found]  # a C module without stubs
import re2
from msgspec import Struct

from hub.domain.guarding import Context, Span, Verdict
from hub.errors import ConfigurationError
from hub.guard.content import Content
from hub.guard.folding import Folding
from hub.guard.patterns import Pattern, Patterns, verdict_of
from hub.guard.protocol import Guard
from hub.guard.stream import LOOK_BACK_CHARS, Hit

WORD: Final = "word"
PATTERN: Final = "pattern"

_MAX_PATTERN_CHARS: Final = 512
_FEW_CHARS: Final = 2000
"""So many characters of words make an expression whose worst text costs no more than the one pass."""
_UNMEANT: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[AzC]")
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U000323af]"
)
"""Letters of scripts that write words without spaces, or with endings: whole words are no use there."""


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is not wanted."""

    words: tuple[str, ...] = ()
    """Words and phrases."""
    patterns: tuple[str, ...] = ()
    """RE2, at most 512 characters each; ``^`` and ``$`` are the ends of a line."""
    ignore_case: bool = True
    whole_words: bool = True
    """Whether words count only where no letter, digit or ``_`` stands beside them."""


def guard(options: Options) -> Guard:
    """The guard. Raises ConfigurationError."""
    if not options.words and not options.patterns:
        raise ConfigurationError("it needs words or patterns")
    return _Words(options)


class _Words:
    looks_back_chars: Final = LOOK_BACK_CHARS

    def __init__(self, options: Options) -> None:
        self._folding = Folding(ignore_case=options.ignore_case)
        self._reading = Folding(ignore_case=False)
        self._whole_words = options.whole_words
        words = sorted({self._folded(word) for word in options.words})
        self._longest = max(map(len, words), default=0)
        self._words = _automaton(words)
        self._any = _any_of(words)
        flags = "mi" if options.ignore_case else "m"
        patterns = [Pattern(PATTERN, f"(?{flags}:{_checked(one)})") for one in options.patterns]
        self._patterns = Patterns(patterns, in_strings=True) if patterns else None

    def _folded(self, word: str) -> str:
        folded = self._folding.text(word.strip())
        if not folded:
            raise ConfigurationError(f"{word!r} holds nothing that can be seen")
        return folded

    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`. Raises Unreadable."""
        del context
        return verdict_of(one.span for one in self.hits(content.text))

    def hits(self, text: str, start: int = 0) -> list[Hit]:
        """What is found from ``start`` on; what stands before it is looked at only."""
        found = self._words_in(text, start) if self._longest else []
        if self._patterns is None:
            return found
        found += self._patterns.hits(text, start)
        if text.isascii() or (read := self._reading.text(text)) == text:
            return found
        seen = self._patterns.hits(read, self._reading.places(text).folded(start) if start else 0)
        if not seen:
            return found
        places = self._reading.places(text)
        for reach, span in seen:
            begin, end = places.original(span.start, span.end)
            found.append(Hit(places.original(reach, reach + 1)[0], Span(begin, end, span.label)))
        return found

    def open_from(self, text: str, start: int = 0) -> int:
        """Index, at least ``start``, from which ``text`` may become part of a hit if it goes on."""
        at = self._word_open_from(text, start)
        if self._patterns is None:
            return at
        at = min(at, self._patterns.open_from(text, start))
        read = text if text.isascii() else self._reading.text(text)
        if read != text:
            places = self._reading.places(text)
            index = self._patterns.open_from(read, places.folded(start))
            if index < len(read):
                at = min(at, places.original(index, index + 1)[0])
        return max(at, start)

    def _words_in(self, text: str, start: int) -> list[Hit]:
        folded = self._folding.text(text)
        if self._any is not None and self._any.search(folded) is None:
            return []
        found = list(self._words.iter(folded))
        if not found:
            return []
        places = self._folding.places(text)
        hits: list[Hit] = []
        for last, size in found:
            first = last + 1 - size
            begin, end = places.original(first, last + 1)
            if begin < start:
                continue
            if self._whole_words and not (
                places.folded(begin) == first
                and places.folded(end) == last + 1
                and _is_apart(text, begin)
                and _is_apart(text, end)
            ):
                continue
            hits.append(Hit(begin, Span(begin, end, WORD)))
        return hits

    def _word_open_from(self, text: str, start: int) -> int:
        folded = self._folding.text(text)
        for first in range(max(len(folded) - self._longest, 0), len(folded)):
            if self._words.match(folded[first:]):
                return max(self._folding.places(text).original(first, first + 1)[0], start)
        return len(text)


def _is_apart(text: str, index: int) -> bool:
    """Whether a word may end, or begin, between two characters of ``text``."""
    if not 0 < index < len(text):
        return True
    before, behind = text[index - 1], text[index]
    if unicodedata.combining(behind):
        return False
    return not (_is_of_word(before) and _is_of_word(behind)) or bool(
        _UNSPACED.match(before) or _UNSPACED.match(behind)
    )


def _is_of_word(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.combining(char) > 0


def _automaton(words: list[str]) -> "ahocorasick.Automaton":
    automaton = ahocorasick.Automaton()
    for word in words:
        automaton.add_word(word, len(word))
    automaton.make_automaton()
    return automaton


def _any_of(words: list[str]) -> "re2._Regexp[str] | None":
    """What finds any of few words; None for many."""
    if not words or sum(map(len, words)) > _FEW_CHARS:
        return None
    return re2.compile("|".join(map(re2.escape, words)))


def _checked(pattern: str) -> str:
    """An administrator's pattern. Raises ConfigurationError."""
    if len(pattern) > _MAX_PATTERN_CHARS:
        raise ConfigurationError(f"a pattern may have {_MAX_PATTERN_CHARS} characters, not more")
    if _UNMEANT.search(pattern):
        raise ConfigurationError(f"{pattern!r}: use ^ and $; \\A, \\z and \\C do not work here")
    alone = Patterns([Pattern(PATTERN, pattern)])
    del alone
    if re2.compile(pattern).fullmatch("") is not None:
        raise ConfigurationError(f"{pattern!r} fits everywhere")
    return pattern
