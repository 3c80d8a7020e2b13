"""Text that comes in pieces, through guardrails: what goes out is what the whole text would have become.

Only what may still turn into something is held back, for an ordinary text a few characters, however the
pieces are cut. A guard that cannot say so (it has no ``open_from``) makes the stream wait for its end.
"""

import codecs
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from hub.domain.guarding import ALLOW, Context, Span, Verdict
from hub.guard.chain import Guardrail, effect_of
from hub.guard.content import VALUE_END, Content, Unreadable, cut, merged, whole

LOOK_BACK_CHARS: Final = 32
"""How many characters before a hit may decide whether it is one."""


class Hit(NamedTuple):
    """Something found."""

    reach: int
    """Index of the first character that made it a match; not behind ``span.start``."""
    span: Span


@runtime_checkable
class Searching(Protocol):
    """A guard that looks at a text as it grows, and can leave alone what has gone out.

    If nothing counts for it but :data:`LOOK_BACK_CHARS` characters before, it says so as
    ``looks_back_chars``; else it is shown the whole line.
    """

    def hits(self, text: str, start: int = 0) -> list[Hit]:
        """What is found from ``start`` on; what stands before it is looked at only."""
        ...

    def open_from(self, text: str, start: int = 0) -> int:
        """Index, at least ``start``, from which ``text`` may become part of a hit if it goes on.

        What is found before it does not depend on what follows, nor on lines before its own.
        """
        ...


class Held:
    """One text through its guardrails, piece by piece. Nobody is asked: what waits blocks at the end."""

    def __init__(self, guardrails: Sequence[Guardrail], context: Context) -> None:
        self._guardrails = sorted(guardrails, key=lambda one: (one.order, one.name))
        self._context = context
        self._waits_for_end = not all(isinstance(one.guard, Searching) for one in guardrails)
        looks_back = (getattr(one.guard, "looks_back_chars", None) for one in guardrails)
        self._needs_lines = not all(one == LOOK_BACK_CHARS for one in looks_back)
        self._text = ""
        self._more: list[str] = []
        self._size = 0
        """How much has not gone out; what of it is in ``_more`` was not searched yet."""
        self._start = 0
        """What is before it in ``_text`` has gone out."""
        self._due = 1
        self._effects: dict[str, str] = {}
        self.blocked_by = ""
        """Name of the guardrail that blocks; nothing goes out from then on."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What acted so far, as in ``hub.guard.chain.Passed``."""
        names = (one.name for one in self._guardrails)
        return tuple(f"{name}={self._effects[name]}" for name in names if name in self._effects)

    def feed(self, piece: str) -> str:
        """Takes what came, and gives what may go out now."""
        if self.blocked_by:
            return ""
        self._more.append(piece)
        self._size += len(piece)
        if self._waits_for_end or self._size < self._due:
            return ""
        return self._released(is_end=False)

    def end(self) -> str:
        """Gives the rest."""
        return "" if self.blocked_by else self._released(is_end=True)

    def _released(self, *, is_end: bool) -> str:
        self._text = "".join((self._text, *self._more))
        self._more.clear()
        text = whole(self._text) + (VALUE_END if is_end else "")
        found = [(one, *self._found(one, text)) for one in self._guardrails]
        until = len(self._text)
        if not is_end:
            until = self._settled(text, [hit for _, _, hits in found for hit in hits])
        spans: list[Span] = []
        for guardrail, verdict, hits in found:
            settled = [hit.span for hit in hits if hit.reach < until]
            if verdict.outcome == "allow" or (hits and not settled):
                continue
            effect = effect_of(guardrail, verdict, can_cut=bool(settled))
            self._effects[guardrail.name] = effect
            if effect == "block":
                self.blocked_by = self.blocked_by or guardrail.name
            elif effect == "redact":
                spans.extend(settled)
        if self.blocked_by:
            self._text = ""
            return ""
        out = cut(self._text[self._start : until], merged(spans), self._start)
        self._keep(until)
        return out

    def _found(self, guardrail: Guardrail, text: str) -> tuple[Verdict, Sequence[Hit]]:
        """What a guard says of what has not gone out, and where it points at."""
        guard = guardrail.guard
        if guardrail.waits:
            return Verdict("block", reason="nothing can be asked about a stream"), ()
        if isinstance(guard, Searching):
            hits = guard.hits(text, self._start)
            return Verdict("redact") if hits else ALLOW, hits
        try:
            verdict = guard.inspect(Content.of_text(self._text), self._context)
        except Unreadable:
            verdict = Verdict("block")
        if not isinstance(verdict, Verdict):
            raise TypeError(f"guardrail {guardrail.name!r} waits and does not say so")
        return verdict, [Hit(one.start, one) for one in verdict.spans]

    def _settled(self, text: str, hits: Sequence[Hit]) -> int:
        """Index up to which nothing that follows can change what is found; it is inside of no hit."""
        until = len(text)
        for guardrail in self._guardrails:
            if isinstance(guardrail.guard, Searching):
                until = min(until, guardrail.guard.open_from(text, self._start))
        for hit in sorted(hits, key=lambda one: one.reach, reverse=True):
            if hit.reach < until < hit.span.end:
                until = hit.reach
        return until

    def _keep(self, until: int) -> None:
        """Forgets what no guard needs any more of what has gone out."""
        first = max(until - LOOK_BACK_CHARS, 0)
        if self._needs_lines:
            first = self._text.rfind("\n", 0, first) + 1
        self._text = self._text[first:]
        self._start = until - first
        # What is searched again grows with what is searched: long waits cost no more than short ones.
        self._size = len(self._text) - self._start
        self._due = self._size + 1 + len(self._text) // 64


class TextStream:
    """The same for UTF-8 as it comes from a connection, cut anywhere. Other bytes pass as they are."""

    def __init__(self, guardrails: Sequence[Guardrail], context: Context) -> None:
        self._held = Held(guardrails, context)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    @property
    def blocked_by(self) -> str:
        """Name of the guardrail that blocks; nothing goes out from then on. Empty: none."""
        return self._held.blocked_by

    @property
    def notes(self) -> tuple[str, ...]:
        """What acted so far, as in ``hub.guard.chain.Passed``."""
        return self._held.notes

    def feed(self, data: bytes) -> bytes:
        """Takes what came, and gives what may go out now."""
        return self._held.feed(self._decoder.decode(data)).encode(errors="surrogateescape")

    def end(self) -> bytes:
        """Gives the rest."""
        last = self._held.feed(self._decoder.decode(b"", final=True)) + self._held.end()
        return last.encode(errors="surrogateescape")
