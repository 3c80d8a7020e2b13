"""Which lines of a segment were altered, moved, removed or added. Pure; slow, and only run when needed.

A line vouches for its own number, because its hash covers it, and for the line before it. So a line
whose predecessor is at hand is either *linked* to it or *broken*; one whose predecessor is missing
is *open*, and believed when nothing speaks against it.
"""

from bisect import bisect_left
from collections.abc import Collection
from hashlib import sha256
from itertools import islice
from typing import Final, Literal

from msgspec import Struct

from hub.audit.lines import Line, link, parse

FindingKind = Literal[
    "altered",
    "reordered",
    "removed",
    "added",
    "missing_segment",
    "missing_writer",
    "seal",
    "checkpoint",
    "signature",
]

Verdict = Literal["linked", "broken", "open"]


_RANK: Final[dict[Verdict, int]] = {"linked": 0, "open": 1, "broken": 2}
_GUESSES: Final = 4


class Fault(Struct, frozen=True):
    """What is wrong with the line at this index."""

    kind: FindingKind
    index: int
    sequence: int
    detail: str


class Diagnosis(Struct, frozen=True):
    """What is wrong with a segment, and where its chain goes on behind it."""

    faults: tuple[Fault, ...]
    lines: tuple[Line, ...]
    """Lines that can be believed, in order of their numbers."""
    last: int
    chained: frozenset[bytes]
    """What the next line may be linked to; empty: not known."""


def diagnose(texts: list[bytes], first: int, before: frozenset[bytes]) -> Diagnosis:
    """Lines (without newlines) that should begin with number ``first``, linked to one of ``before``.

    An empty ``before`` means that what came before is not known.
    """
    return _Examination(texts, first, before).result()


class _Examination:
    def __init__(self, texts: list[bytes], first: int, before: frozenset[bytes]) -> None:
        self._first = first
        self._before = before
        self._faults: list[Fault] = []
        self._faulty: set[int] = set()
        self._lines: dict[int, Line] = {}
        """By index, numbers put right where the line proves that they were altered."""
        self._unreadable: list[int] = []
        self._placed: dict[int, int] = {}
        """Number of a line -> index of the line that has this place."""
        self._candidates: dict[int, frozenset[bytes]] = {}
        """Number of a line -> what the next one may be linked to."""
        for index, text in enumerate(texts):
            line = parse(text)
            if line is None:
                self._unreadable.append(index)
                self._fault("altered", index, 0, "not readable as a line of the record")
            else:
                self._lines[index] = self._renumbered(index, line)

    def result(self) -> Diagnosis:
        self._place_lines()
        self._find_moved()
        self._find_gaps()
        if not self._faults:
            self._fault("altered", 0, self._first, "does not follow from what is before it")
        last = max(self._placed, default=self._first - 1)
        behind = bisect_left(self._unreadable, self._placed.get(last, -1))
        unreadable_behind = len(self._unreadable) - behind
        return Diagnosis(
            faults=tuple(sorted(self._faults, key=lambda fault: fault.index)),
            lines=tuple(
                self._lines[index]
                for _, index in sorted(self._placed.items())
                if index not in self._faulty
            ),
            last=last + unreadable_behind,
            chained=frozenset() if unreadable_behind else self._candidates.get(last, self._before),
        )

    def _renumbered(self, index: int, line: Line) -> Line:
        """The line with the number it was written with, where only that was altered."""
        before = self._lines.get(index - 1)
        expected = self._first if index == 0 else before.sequence + 1 if before is not None else 0
        candidates = self._before if index == 0 else {before.hash} if before is not None else ()
        if line.sequence == expected:
            return line
        body = b'{"n":%d%b' % (expected, line.body[line.body.index(b",") :])
        digest = sha256(body).digest()
        if all(link(candidate, digest) != line.hash for candidate in candidates):
            return line
        self._fault("altered", index, expected, f"its number was made {line.sequence}")
        self._faulty.add(index)
        return Line(expected, line.kind, line.content, body, line.hash)

    def _place_lines(self) -> None:
        by_number: dict[int, list[int]] = {}
        for index, line in self._lines.items():
            by_number.setdefault(line.sequence, []).append(index)
        for number, indexes in sorted(by_number.items()):
            before = self._before if number == self._first else self._candidates.get(number - 1)
            verdicts = {index: self._verdict(index, before or ()) for index in indexes}
            chosen = min(indexes, key=lambda index: _RANK[verdicts[index]])
            self._placed[number] = chosen
            self._candidates[number] = self._followers(chosen, verdicts[chosen], before or ())
            if verdicts[chosen] == "broken":
                self._fault("altered", chosen, number, "does not match its hash")
                self._faulty.add(chosen)
            for index in indexes:
                if index != chosen:
                    self._fault("added", index, number, "another line has this number")

    def _verdict(self, index: int, candidates: Collection[bytes]) -> Verdict:
        if not candidates:
            return "open"
        line = self._lines[index]
        digest = sha256(line.body).digest()
        fits = any(link(candidate, digest) == line.hash for candidate in candidates)
        return "linked" if fits else "broken"

    def _followers(
        self, index: int, verdict: Verdict, candidates: Collection[bytes]
    ) -> frozenset[bytes]:
        line = self._lines[index]
        if verdict != "broken":
            return frozenset({line.hash})
        # Either its text or its hash was altered: the next line tells which hash was the true one.
        digest = sha256(line.body).digest()
        computed = [link(candidate, digest) for candidate in islice(candidates, _GUESSES)]
        return frozenset({line.hash, *computed})

    def _find_moved(self) -> None:
        highest, run = 0, False
        for number, index in sorted(self._placed.items(), key=lambda item: item[1]):
            moved = number < highest
            if moved and not run:
                self._fault("reordered", index, number, f"stands behind line {highest}")
            highest, run = max(highest, number), moved

    def _find_gaps(self) -> None:
        before, index_before = self._first - 1, -1
        for number, index in sorted(self._placed.items()):
            between = bisect_left(self._unreadable, index) - bisect_left(
                self._unreadable, index_before
            )
            missing = number - before - 1 - max(between, 0)
            if missing > 0:
                which = f"{missing} of the lines {before + 1} to {number - 1} are not there"
                self._fault("removed", index, before + 1, which)
            before, index_before = number, index

    def _fault(self, kind: FindingKind, index: int, sequence: int, detail: str) -> None:
        self._faults.append(Fault(kind, index, sequence, detail))
