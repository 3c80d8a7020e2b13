"""Text that wants to steer the model that reads it. Heuristics: known phrases, and nothing more.

Whoever knows the phrases can say the same in other words; what talks *about* injections looks like one.
"""

import re
import unicodedata
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from functools import cache
from typing import Final

from msgspec import Struct

from hub.domain.guarding import Context, Span, Verdict
from hub.guard.content import NAME_END, VALUE_END, Content, merged
from hub.guard.patterns import Hit, Pattern, Patterns, verdict_of
from hub.guard.phrases import Sensitivity, phrases
from hub.guard.protocol import Guard

MAX_SENTENCE: Final = 400
"""Characters of a sentence, behind what was recognized, that are cut out with it."""
MAX_ENCODED: Final = 16_384
"""Characters of Base64 that are looked into; longer ones are pictures and archives."""

_SENTENCE_END: Final = re.compile(f"[.!?](?=\\s)|[\\n{NAME_END}{VALUE_END}]")
_ENCODED: Final = Pattern("", r"[A-Za-z0-9+/_-]{40,}={0,2}")
"""What may be Base64, and text then."""
_MIXED: Final = Pattern("", r"[A-Za-z][\x{370}-\x{52f}]|[\x{370}-\x{52f}][A-Za-z]")
"""Two alphabets in one word, as look-alikes make it."""
_LOOK_ALIKE: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u0131\u03bf\u03b1\u03b9\u03bd\u03c1"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406",
    "aeopcyxijsdhioaivpABEKMHOPCTXI",
)


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How little is enough."""

    sensitivity: Sensitivity = "normal"


def guard(options: Options) -> Guard:
    """The guard; those of the same sensitivity share their patterns."""
    return _Injection(_patterns(options.sensitivity))


class _Injection:
    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns

    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`. Raises Unreadable."""
        del context
        return verdict_of(merged(self._found(content.text)))

    def _found(self, text: str) -> Iterator[Span]:
        hits = self._patterns.hits(text)
        yield from self._sentences(text, hits)
        if text.isascii():
            return
        if any(_is_mixed(text[hit.span.start : hit.span.end]) for hit in hits):
            text = text.translate(_LOOK_ALIKE)
        plain = _plain(text)
        hits = self._patterns.hits(plain)
        if hits:
            offsets = [at for at, character in enumerate(text) for _ in _plain(character)]
            for span in self._sentences(plain, hits):
                yield Span(offsets[span.start], offsets[span.end - 1] + 1, span.label)

    def _sentences(self, text: str, hits: list[Hit]) -> Iterator[Span]:
        """What was recognized, with the rest of its sentence."""
        for start, stop, label in ((one.span.start, one.span.end, one.span.label) for one in hits):
            if label:
                end = _SENTENCE_END.search(text, stop, stop + MAX_SENTENCE)
                yield Span(start, stop if end is None else end.start(), label)
            elif inner := self._label_within(text[start:stop]):
                yield Span(start, stop, inner)

    def _label_within(self, encoded: str) -> str:
        """What the text says that stands in Base64; nothing, for most is no text."""
        if len(encoded) > MAX_ENCODED:
            return ""
        letters = encoded.rstrip("=").replace("+", "-").replace("/", "_")
        try:
            inner = urlsafe_b64decode(letters[: len(letters) // 4 * 4]).decode()
        except ValueError:
            return ""
        return next((hit.span.label for hit in self._patterns.hits(inner) if hit.span.label), "")


@cache
def _patterns(sensitivity: Sensitivity) -> Patterns:
    wanted = [Pattern(phrase.label, f"(?i){phrase.pattern}") for phrase in phrases(sensitivity)]
    return Patterns([*wanted, _ENCODED, _MIXED])


def _plain(text: str) -> str:
    """What is left of a text in ASCII: without accents, of any width and style, nothing in between."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _is_mixed(found: str) -> bool:
    return len(found) == 2 and found[0].isascii() != found[1].isascii()
