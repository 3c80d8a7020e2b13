"""Offline verification: was anything in a record directory altered, moved, removed or added?

Chains vouch for themselves; checkpoints and the openings of later chains vouch for how far each of
them had come. What is newer than the last checkpoint that left the machine, and whatever the holder
of the signing key forges, cannot be told.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from hub.audit.lines import Head, Opening, decode_seal, parse
from hub.audit.proofs import ChainProof, Finding, FindingKind, Segment
from hub.audit.retention_notes import (
    NO_NOTE,
    RETENTION,
    Retired,
    decode_note,
    is_authentic_note,
    signed_for,
)
from hub.audit.segments import (
    CHECKPOINTS,
    SEALS,
    opening_of,
    retained_number,
    retained_seals,
    segments,
    writers,
    written,
)
from hub.audit.signatures import NO_CHECKPOINT, Checkpoint, decode_checkpoint, is_authentic

__all__ = ["Finding", "FindingKind", "Report", "WriterReport", "verify"]


class WriterReport(Struct, frozen=True, kw_only=True):
    """What was found of one chain."""

    writer: str
    state: Literal["closed", "open", "empty"]
    """``open``: still being written, or ended by a crash that no later start has brought in order."""
    head: Head
    entries: int
    """Calls in segments that are there; ``retired_lines``: lines that only seals speak for."""
    retired_lines: int
    retired_segments: int
    """Segments that retention removed and signed for."""
    segments: int
    uncovered_lines: int
    """Lines newer than any checkpoint."""
    unfinished_bytes: int
    """What follows the last whole line: a write under way, or what a crash left of one."""


class Report(Struct, frozen=True, kw_only=True):
    """The result of a verification."""

    findings: tuple[Finding, ...]
    writers: tuple[WriterReport, ...]
    checkpoints: int
    last_checkpoint: Checkpoint | None
    uncovered_lines: int
    """Lines newer than the last checkpoint: removing those would leave no trace here."""
    retained_since: str = ""
    """What retention removed was sealed before this moment, RFC 3339; empty: it removed nothing."""

    @property
    def intact(self) -> bool:
        """Nothing was found."""
        return not self.findings


class _Commitments:
    """What others say of one chain."""

    def __init__(self) -> None:
        self.hashes: dict[int, tuple[str, str]] = {}
        """Sequence -> its chain hash, and who says so; the first one counts."""
        self.contradictions: list[tuple[int, str]] = []
        self.ended: tuple[int, str] | None = None
        """The last sequence there can be, and who says so."""
        self.covered = 0
        """How far checkpoints reach."""

    def add(self, head: Head, by: str) -> None:
        known = self.hashes.setdefault(head.sequence, (head.hash, by))
        if known[0] != head.hash:
            self.contradictions.append((head.sequence, by))


def verify(
    record: Path, *, public_keys: Sequence[bytes], against: Checkpoint | None = None
) -> Report:
    """Check a record directory (``<data>/record``), in use or not.

    ``public_keys``: Ed25519 keys, 32 bytes each, of all signing keys that were ever current.
    ``against``: a checkpoint kept elsewhere; everything it covers must still be there. Raises OSError.
    """
    return _Verification(record, public_keys, against).report()


class _Verification:
    def __init__(
        self, record: Path, public_keys: Sequence[bytes], against: Checkpoint | None
    ) -> None:
        self._record = record
        self._public_keys = public_keys
        self._against = against
        self._findings: list[Finding] = []
        self._checkpoints = 0
        self._last_checkpoint: Checkpoint | None = None
        self._same_number: Checkpoint | None = None
        """The one in the directory that has the number of the one held against."""
        self._openings: dict[str, Opening] = {}
        self._retired: set[Retired] = set()
        """What retention signed for."""
        self._retained_since = ""
        self._commitments: defaultdict[str, _Commitments] = defaultdict(_Commitments)

    def report(self) -> Report:
        self._read_checkpoints()  # before the chains: those may grow meanwhile
        self._hold_against()
        self._read_retention()
        present = writers(self._record)
        for writer in present:
            self._read_opening(writer)
        self._cover_what_openings_name()
        reports = [self._prove(writer, self._commitments[writer]) for writer in present]
        for writer in sorted(self._commitments.keys() - set(present)):
            _, by = max(self._commitments[writer].hashes.items())[1]
            self._find("missing_writer", writer, 0, f"{by} names it")
        return Report(
            findings=tuple(self._findings),
            writers=tuple(reports),
            checkpoints=self._checkpoints,
            last_checkpoint=self._last_checkpoint,
            uncovered_lines=sum(report.uncovered_lines for report in reports),
            retained_since=self._retained_since,
        )

    def _read_retention(self) -> None:
        path = self._record / RETENTION
        previous, number = NO_NOTE, 0
        for line, text in enumerate(
            path.read_bytes().splitlines(True) if path.is_file() else (), 1
        ):
            note = decode_note(text[:-1]) if text.endswith(b"\n") else None
            if note is None:
                if text.endswith(b"\n"):  # else it is being written, or was left by a crash
                    self._find_in(RETENTION, "altered", line, "not readable as a note")
                previous, number = "", number + 1
                continue
            if note.number != number + 1 or previous not in ("", note.previous):
                detail = f"note {note.number} does not follow note {number}"
                self._find_in(RETENTION, "checkpoint", line, detail)
            previous, number = note.digest, note.number
            if not is_authentic_note(note, self._public_keys):
                self._find_in(RETENTION, "signature", line, "not signed by a known key")
                continue
            self._retired |= set(note.segments)
            self._retained_since = max(self._retained_since, note.before)

    def _read_checkpoints(self) -> None:
        path = self._record / CHECKPOINTS
        if not path.is_file():
            return
        previous, number = NO_CHECKPOINT, 0
        with path.open("rb") as file:
            for line, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    break  # being written, or left by a crash
                checkpoint = decode_checkpoint(text[:-1])
                if checkpoint is None:
                    self._find_checkpoint("altered", line, "not readable as a checkpoint")
                    previous, number = "", number + 1
                    continue
                if checkpoint.number != number + 1 or previous not in ("", checkpoint.previous):
                    detail = f"checkpoint {checkpoint.number} does not follow checkpoint {number}"
                    self._find_checkpoint("checkpoint", line, detail)
                previous, number = checkpoint.digest, checkpoint.number
                self._take_checkpoint(line, checkpoint)

    def _take_checkpoint(self, line: int, checkpoint: Checkpoint) -> None:
        if not is_authentic(checkpoint, self._public_keys):
            self._find_checkpoint("signature", line, "not signed by a known key")
            return
        self._checkpoints += 1
        self._last_checkpoint = checkpoint
        self._commit(checkpoint)
        if self._against is not None and checkpoint.number == self._against.number:
            self._same_number = checkpoint

    def _hold_against(self) -> None:
        against = self._against
        if against is None:
            return
        if not is_authentic(against, self._public_keys):
            self._find_checkpoint("signature", 0, "the one held against: not signed by a known key")
            return
        if self._same_number is None:
            self._find_checkpoint("checkpoint", 0, f"checkpoint {against.number} is not there")
        elif self._same_number.digest != against.digest:
            self._find_checkpoint("checkpoint", 0, f"checkpoint {against.number} is another one")
        self._commit(against)

    def _commit(self, checkpoint: Checkpoint) -> None:
        for head in checkpoint.heads:
            known = self._commitments[head.writer]
            known.add(head, f"checkpoint {checkpoint.number}")
            known.covered = max(known.covered, head.sequence)

    def _read_opening(self, writer: str) -> None:
        opening = opening_of(self._record, writer)
        if opening is None:
            return
        self._openings[writer] = opening
        by = f"the opening of {writer}"
        for head in (*opening.previous, *opening.beside):
            self._commitments[head.writer].add(head, by)
        for head in opening.previous:
            self._commitments[head.writer].ended = (head.sequence, by)

    def _cover_what_openings_name(self) -> None:
        """A checkpoint that reaches into a chain covers what its opening says of others."""
        reached = [writer for writer, known in self._commitments.items() if known.covered]
        while reached:
            opening = self._openings.get(reached.pop())
            for head in (*opening.previous, *opening.beside) if opening is not None else ():
                known = self._commitments[head.writer]
                if known.covered == 0:
                    reached.append(head.writer)
                known.covered = max(known.covered, head.sequence)

    def _prove(self, writer: str, known: _Commitments) -> WriterReport:
        proof = ChainProof(writer, known.hashes)
        present = segments(self._record, writer)
        while len(present) > 1 and not written(present[-1][1]):
            present.pop()  # begun before the one in front of it was sealed
        numbers = {number for number, _ in present}
        retired = 0
        for at_line, text in enumerate(retained_seals(self._record, writer), 1):
            if retained_number(text) not in numbers:
                proof.take_retained_seal(text, f"{writer}/{SEALS}", at_line)
                retired += self._is_signed_for(proof, text)
        try:
            for segment in self._read_segments(writer, present):
                proof.take(segment, newest=segment.number == present[-1][0])
        except FileNotFoundError:  # retention took it just now
            return self._prove(writer, known)
        self._findings += proof.findings
        self._hold_to(proof, known)
        return WriterReport(
            writer=writer,
            state="closed" if proof.final else "open" if proof.last else "empty",
            head=proof.head,
            entries=proof.entries,
            retired_lines=sum(last - first + 1 for first, last in proof.skipped),
            retired_segments=retired,
            segments=len(present),
            uncovered_lines=max(0, proof.last - known.covered),
            unfinished_bytes=proof.unfinished_bytes,
        )

    def _is_signed_for(self, proof: ChainProof, text: bytes) -> bool:
        """Whether retention removed the segment of a seal; a seal alone can be put there by anyone."""
        line = parse(text)
        seal = decode_seal(line) if line is not None else None
        if line is None or seal is None:
            return False
        retired = Retired(proof.writer, seal.segment, seal.first, line.sequence, line.hash.hex())
        if retired not in self._retired:  # unless it was removed just now
            self._retired |= signed_for(self._record, self._public_keys)
        if retired in self._retired:
            return True
        detail = f"segment {seal.segment} was removed, and retention did not sign for that"
        proof.findings.append(
            Finding(
                kind="missing_segment",
                file=RETENTION,
                writer=proof.writer,
                sequence=seal.first,
                detail=detail,
            )
        )
        return False

    @staticmethod
    def _read_segments(writer: str, present: list[tuple[int, Path]]) -> Iterator[Segment]:
        for number, path in present:
            yield Segment(number, f"{writer}/{path.name}", written(path))

    def _hold_to(self, proof: ChainProof, known: _Commitments) -> None:
        """Compare a chain with what others say of it; each kind of contradiction is told once."""
        furthest = max(known.hashes, default=0)
        if furthest > proof.last:
            by = known.hashes[furthest][1]
            detail = f"{by} knows {furthest} lines, {proof.last} are there"
            self._find("removed", proof.writer, proof.last + 1, detail)
        others = [
            (sequence, known.hashes[sequence][1])
            for sequence, hash_here in proof.hashes.items()
            if known.hashes[sequence][0] != hash_here
        ]
        for sequence, by in sorted(others + known.contradictions)[:1]:
            self._find("altered", proof.writer, sequence, f"{by} knows another line {sequence}")
        if known.ended is not None and known.ended[0] < proof.last:
            last, by = known.ended
            self._find("added", proof.writer, last + 1, f"{by} knows line {last} as the last one")

    def _find_checkpoint(self, kind: FindingKind, line: int, detail: str) -> None:
        self._find_in(CHECKPOINTS, kind, line, detail)

    def _find_in(self, file: str, kind: FindingKind, line: int, detail: str) -> None:
        self._findings.append(Finding(kind=kind, file=file, line=line, detail=detail))

    def _find(self, kind: FindingKind, writer: str, sequence: int, detail: str) -> None:
        self._findings.append(
            Finding(kind=kind, file=writer, writer=writer, sequence=sequence, detail=detail)
        )
