"""A part of the record that proves itself to someone who has nothing else.

JSON lines. The first says what was asked for. Then, for each chain that holds any of it, a line
``{"chain": {...}}`` and the chain from the first wanted entry to the head of the first checkpoint
that covers the last one: wanted lines as they stand in the record, the others as
``{"n": 8, "digest": "<SHA-256 of the body>"}``, which shows nothing of them. Checkpoints come last.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hub.audit.chain_reader import ChainReader
from hub.audit.lines import Line, decode_entry, genesis, link, parse
from hub.audit.reading import Filters
from hub.audit.segments import CHECKPOINTS, retained_seals, writers
from hub.audit.signatures import Checkpoint, decode_checkpoint, encode_checkpoint, is_authentic

_NEVER = 2**63


class ExportedChain(Struct, frozen=True, kw_only=True):
    """Begins a stretch of one chain."""

    writer: str
    after: str
    """Chain hash before its first line."""
    covered_by: int
    """Number of the checkpoint whose head is its last line; 0: none covers it yet."""


class ExportReport(Struct, frozen=True, kw_only=True):
    """What verifying an export gave."""

    problems: tuple[str, ...]
    entries: int
    uncovered: int
    """Entries that no checkpoint vouches for yet: they only vouch for one another."""

    @property
    def intact(self) -> bool:
        """Nothing was found."""
        return not self.problems


def export(record: Path, filters: Filters) -> Iterator[bytes]:
    """Lines, newlines included, of everything the filters admit, with proofs."""
    yield _line({"export": {"format": 1, "filters": filters}})
    stretches = [
        stretch for writer in writers(record) if (stretch := _wanted(record, writer, filters))
    ]
    covering = _covering(record, stretches)
    for stretch in stretches:
        checkpoint = covering.get(stretch.writer)
        yield from _stretch(record, stretch, checkpoint, filters)
    sent: set[int] = set()
    for checkpoint in covering.values():
        if checkpoint.number not in sent:
            sent.add(checkpoint.number)
            yield encode_checkpoint(checkpoint)


def verify_export(lines: Iterable[bytes], public_keys: Sequence[bytes]) -> ExportReport:
    """Check an export; lines with or without their newlines, keys as 32 bytes."""
    check = _ExportCheck(public_keys)
    for number, line in enumerate(lines, 1):
        check.take(number, line.rstrip(b"\n"))
    return check.report()


class _Stretch(Struct, frozen=True):
    """What is wanted of one chain: from the first wanted line to the last one."""

    writer: str
    first: int
    after: bytes
    last: int


def _wanted(record: Path, writer: str, filters: Filters) -> _Stretch | None:
    first = last = 0
    before = after = b""
    with ChainReader(record, writer) as reader:
        for line in _lines(reader):
            if not before:
                before = _hash_before(record, writer)
            if _is_wanted(line, filters):
                first, after = (first, after) if first else (line.sequence, before)
                last = line.sequence
            before = line.hash
    return _Stretch(writer, first, after, last) if first else None


def _stretch(
    record: Path, stretch: _Stretch, checkpoint: Checkpoint | None, filters: Filters
) -> Iterator[bytes]:
    head = checkpoint.head_of(stretch.writer) if checkpoint is not None else None
    yield _line({
        "chain": ExportedChain(
            writer=stretch.writer,
            after=stretch.after.hex(),
            covered_by=checkpoint.number if checkpoint is not None else 0,
        )
    })
    end = stretch.last if head is None else head.sequence
    with ChainReader(record, stretch.writer, stretch.first - 1) as reader:
        for line in _lines(reader):
            if line.sequence > end:
                return
            if _is_wanted(line, filters):
                yield b'%b,"hash":"%b"}\n' % (line.body, line.hash.hex().encode())
            else:
                yield _line({"n": line.sequence, "digest": sha256(line.body).hexdigest()})


def _covering(record: Path, stretches: Sequence[_Stretch]) -> dict[str, Checkpoint]:
    """For each chain the first checkpoint that names a head at or behind its last wanted line."""
    path = record / CHECKPOINTS
    missing = {stretch.writer: stretch.last for stretch in stretches}
    covering: dict[str, Checkpoint] = {}
    if not path.is_file():
        return covering
    with path.open("rb") as file:
        for text in file:
            if not missing:
                break
            checkpoint = decode_checkpoint(text.rstrip(b"\n"))
            for head in checkpoint.heads if checkpoint is not None else ():
                if checkpoint is not None and head.sequence >= missing.get(head.writer, _NEVER):
                    covering[head.writer] = checkpoint
                    del missing[head.writer]
    return covering


def _lines(reader: ChainReader) -> Iterator[Line]:
    while block := reader.read():
        for each in block:
            line = parse(each.text)
            if line is not None:
                yield line


def _is_wanted(line: Line, filters: Filters) -> bool:
    if line.kind != "entry" or filters.needle() not in line.body:
        return False
    try:
        return filters.admit(decode_entry(line))
    except ValueError:  # written by a newer version
        return False


def _hash_before(record: Path, writer: str) -> bytes:
    """The chain hash before the first line that is still there."""
    kept = retained_seals(record, writer)
    seal = parse(kept[-1]) if kept else None
    return genesis(writer) if seal is None else seal.hash


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


class _Other(Struct):
    """Any line of an export that is not a line of the record."""

    export: msgspec.Raw | UnsetType = UNSET
    chain: ExportedChain | UnsetType = UNSET
    digest: str | UnsetType = UNSET


class _ExportCheck:
    def __init__(self, public_keys: Sequence[bytes]) -> None:
        self._public_keys = public_keys
        self._problems: list[str] = []
        self._entries = 0
        self._uncovered = 0
        self._chain: ExportedChain | None = None
        self._chained = b""
        self._sequence = 0
        self._ends: list[tuple[ExportedChain, str]] = []
        self._checkpoints: dict[int, Checkpoint] = {}

    def take(self, number: int, text: bytes) -> None:
        line = parse(text)
        if line is not None:
            self._take_line(number, line)
            return
        checkpoint = decode_checkpoint(text)
        if checkpoint is not None:
            if is_authentic(checkpoint, self._public_keys):
                self._checkpoints[checkpoint.number] = checkpoint
            else:
                self._problems.append(f"line {number}: not signed by a known key")
            return
        try:
            self._take_other(msgspec.json.decode(text, type=_Other))
        except ValueError:
            self._problems.append(f"line {number}: not readable")

    def report(self) -> ExportReport:
        self._end_chain()
        for chain, chained in self._ends:
            checkpoint = self._checkpoints.get(chain.covered_by)
            if chain.covered_by == 0:
                continue
            head = checkpoint.head_of(chain.writer) if checkpoint is not None else None
            if head is None or head.hash != chained:
                self._problems.append(
                    f"{chain.writer}: does not lead to checkpoint {chain.covered_by}"
                )
        return ExportReport(
            problems=tuple(self._problems), entries=self._entries, uncovered=self._uncovered
        )

    def _take_line(self, number: int, line: Line) -> None:
        chained = link(self._chained, sha256(line.body).digest())
        if self._chain is None or chained != line.hash or line.sequence <= self._sequence:
            self._problems.append(f"line {number}: does not match its hash")
        self._chained, self._sequence = line.hash, line.sequence
        self._entries += 1
        self._uncovered += self._chain is None or self._chain.covered_by == 0

    def _take_other(self, other: _Other) -> None:
        if isinstance(other.chain, ExportedChain):
            self._end_chain()
            self._chain, self._sequence = other.chain, 0
            self._chained = bytes.fromhex(other.chain.after)
        elif isinstance(other.digest, str):
            self._chained = link(self._chained, bytes.fromhex(other.digest))
        elif other.export is UNSET:
            raise ValueError("a line of no known form")

    def _end_chain(self) -> None:
        if self._chain is not None:
            self._ends.append((self._chain, self._chained.hex()))
