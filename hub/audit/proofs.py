"""Does a chain hold together? Pure: bytes in, findings out.

A segment is walked line by line. Where it does not hold, :mod:`hub.audit.diagnosis` says which lines
were altered, moved, removed or added, and the walk goes on behind them, so that one change gives one
finding and not one for every line that follows.
"""

from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from hub.audit.diagnosis import FindingKind, diagnose
from hub.audit.lines import Head, decode_seal, genesis, link, parse

_LABEL_BYTES = 32
_BEHIND_SEAL = "stands behind the seal of its segment"

__all__ = ["ChainProof", "Finding", "FindingKind", "Segment"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is not as it was written."""

    kind: FindingKind
    file: str
    """Path below the record directory."""
    line: int = 0
    """Counted from 1; 0 where the whole file is meant."""
    writer: str = ""
    sequence: int = 0
    detail: str


class Segment(Struct, frozen=True):
    """One segment to prove: its number, the name it goes by in findings, what is written in it."""

    number: int
    file: str
    content: bytes


class ChainProof:
    """Walks one chain, segment after segment, in order of their numbers."""

    def __init__(self, writer: str, committed: Iterable[int] = ()) -> None:
        """``committed``: sequences whose chain hashes somebody has vouched for; they are collected."""
        self.writer = writer
        self.findings: list[Finding] = []
        self.entries = 0
        self.last = 0
        """Sequence of the last line that was seen."""
        self.skipped: list[tuple[int, int]] = []
        """First and last sequence of every stretch that only a seal speaks for."""
        self.hashes: dict[int, str] = {}
        """Chain hashes of committed sequences."""
        self.final = False
        self.unfinished_bytes = 0
        """What follows the last whole line of the newest segment."""
        self._committed = frozenset(committed)
        self._chained = frozenset({genesis(writer)})
        """Hashes the next line may be linked to: more than one behind a line that was altered, none
        behind what is missing: then the next line is believed, unless someone vouched otherwise."""
        self._number = 0

    @property
    def head(self) -> Head:
        """How far the chain was followed."""
        return Head(self.writer, self.last, min(self._chained, default=b"").hex())

    def take_retained_seal(self, text: bytes, file: str, at_line: int) -> None:
        """A segment that retention removed: its seal must follow from what is before it."""
        line = parse(text)
        seal = decode_seal(line) if line is not None else None
        if line is None or seal is None:
            self._find("altered", file, at_line, self.last + 1, "not readable as a seal")
            return
        chained = link(_unhex(seal.head), sha256(line.body).digest())
        if chained != line.hash or line.sequence != seal.last + 1:
            self._find("altered", file, at_line, line.sequence, "does not match its hash")
        self._expect(seal.segment, file, seal.first)
        if seal.first != self.last + 1 or not self._goes_on_from(self._chained, seal.after):
            self._find("seal", file, at_line, line.sequence, "does not follow from the one before")
        self.skipped.append((seal.first, seal.last))
        self.last, self._chained = line.sequence, frozenset({line.hash, chained})
        if line.sequence in self._committed:
            self.hashes[line.sequence] = line.hash.hex()
        self.final = seal.final

    def take(self, segment: Segment, *, newest: bool) -> None:
        """A segment that is there; ``newest``: it may end without a seal, even within a line."""
        texts = segment.content.split(b"\n")
        tail = texts.pop()
        opener = parse(texts[0]) if texts else None
        self._expect(segment.number, segment.file, 0 if opener is None else opener.sequence)
        if self.final:
            self._find("added", segment.file, 0, self.last, "follows the final seal of its chain")
        if tail and newest:
            self.unfinished_bytes = len(tail)
        elif tail:
            self._find("altered", segment.file, len(texts) + 1, 0, "the last line does not end")
        first, before = self.last + 1, self._chained
        if not self._walk(texts):
            self._resume(segment.file, texts)
        self._check_seal(segment, texts, first, before, newest=newest)

    def _walk(self, texts: list[bytes]) -> bool:
        """Follow the lines; False, and nothing followed, when they do not all hold together."""
        expected, candidates = self.last + 1, self._chained
        entries = 0
        for text in texts:
            line = parse(text)
            if line is None or line.sequence != expected:
                return False
            digest = sha256(line.body).digest()
            if candidates and all(link(before, digest) != line.hash for before in candidates):
                return False
            candidates = frozenset({line.hash})
            if expected in self._committed:
                self.hashes[expected] = line.hash.hex()
            entries += line.kind == "entry"
            expected += 1
        self.last, self._chained = expected - 1, candidates
        self.entries += entries
        return True

    def _resume(self, file: str, texts: list[bytes]) -> None:
        found = diagnose(texts, self.last + 1, self._chained)
        for fault in found.faults:
            self._find(fault.kind, file, fault.index + 1, fault.sequence, fault.detail)
        for line in found.lines:
            if line.sequence in self._committed:
                self.hashes[line.sequence] = line.hash.hex()
        self.entries += sum(line.kind == "entry" for line in found.lines)
        self.last, self._chained = found.last, found.chained

    def _check_seal(
        self,
        segment: Segment,
        texts: list[bytes],
        first: int,
        before: frozenset[bytes],
        *,
        newest: bool,
    ) -> None:
        for at_line, text in enumerate(texts[:-1], 1):
            early = parse(text) if b'"seal":{' in text[:_LABEL_BYTES] else None
            if early is not None and early.kind == "seal":
                self._find("added", segment.file, at_line + 1, early.sequence + 1, _BEHIND_SEAL)
        line = parse(texts[-1]) if texts else None
        seal = decode_seal(line) if line is not None else None
        if line is None or seal is None:
            if not newest:
                self._find("seal", segment.file, len(texts), self.last, "ends without a seal")
            return
        self.final = seal.final
        if self.final and self.unfinished_bytes:
            self._find("added", segment.file, len(texts) + 1, self.last + 1, _BEHIND_SEAL)
        held = parse(texts[-2]) if len(texts) > 1 else None
        if (
            (seal.segment, seal.first, seal.last) != (segment.number, first, line.sequence - 1)
            or not self._goes_on_from(before, seal.after)
            or seal.head != (seal.after if held is None else held.hash.hex())
        ):
            self._find("seal", segment.file, len(texts), line.sequence, "belies its segment")

    @staticmethod
    def _goes_on_from(before: frozenset[bytes], after: str) -> bool:
        return not before or _unhex(after) in before

    def _expect(self, number: int, file: str, first: int) -> None:
        """Segments come in order of their numbers; behind a gap the next line is taken as it is."""
        missing = range(self._number + 1, number)
        if missing:
            which = f"{missing[0]}" if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
            self._find("missing_segment", file, 0, self.last + 1, f"segment {which} is not there")
            self._chained = frozenset()
            self.last = max(self.last, first - 1)
        self._number = number

    def _find(self, kind: FindingKind, file: str, line: int, sequence: int, detail: str) -> None:
        self.findings.append(
            Finding(
                kind=kind,
                file=file,
                line=line,
                writer=self.writer,
                sequence=sequence,
                detail=detail,
            )
        )


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
