"""What a process finds when it starts: chains that ended, that go on, or that a crash cut short.

A chain cut short is brought in order once: what is left of a line is moved aside, and the chain is
sealed by the one that found it. Nothing is cut that a checkpoint had covered: a chain that is
broken there was not broken by a crash, and stays as it is for the verifier to see.
"""

import errno
import hashlib
import logging
import os
from datetime import datetime
from itertools import count
from pathlib import Path

from msgspec import Struct

from hub.audit.frontier import Frontier
from hub.audit.lines import (
    Head,
    Line,
    Opening,
    Seal,
    Torn,
    arrival,
    decode_opening,
    decode_seal,
    encode_content,
    frame,
    genesis,
    head_of,
    link,
    parse,
)
from hub.audit.segments import (
    CHECKPOINTS,
    last_line,
    lines_backwards,
    locked,
    opened,
    retained_seals,
    segment_path,
    segments,
    sync_folder,
    written,
)
from hub.audit.signatures import Checkpoint, decode_checkpoint

_logger = logging.getLogger(__name__)


class Found(Struct, frozen=True):
    """What a new chain says of those before it."""

    previous: tuple[Head, ...]
    beside: tuple[Head, ...]
    torn: tuple[Torn, ...]


class _Remains(Struct, kw_only=True):
    """The newest segment of a chain whose writer is gone: what holds together of it, and the rest."""

    number: int
    path: Path
    first: int
    """Sequence of its first line; ``after`` is the chain hash before that."""
    after: bytes
    last: Line | None = None
    opening: Opening | None = None
    began: datetime | None = None
    whole_bytes: int = 0
    rest: bytes = b""


def recover(record: Path, by: str, now: datetime) -> Found:
    """Look at every chain that nobody has named yet, and bring those in order that have no writer.

    Raises OSError when the directory cannot be read or written.
    """
    frontier = Frontier(record)
    checkpoint = last_checkpoint(record)
    previous, beside, torn = [], [], []
    for writer in frontier.writers():
        lock = locked(record / writer, wait=False)
        if lock is None:
            head = frontier.head(writer)
            beside += [] if head is None else [head]
            continue
        try:
            covered = checkpoint.head_of(writer) if checkpoint is not None else None
            ended, tail = _bring_in_order(record, writer, by, now, covered)
        finally:
            os.close(lock)
        previous += [] if ended is None else [ended]
        torn += [] if tail is None else [tail]
    return Found(tuple(previous), tuple(beside), tuple(torn))


def last_checkpoint(record: Path) -> Checkpoint | None:
    """The newest checkpoint in the directory; None when there is none that can be read."""
    path = record / CHECKPOINTS
    if not path.is_file():
        return None
    for text in lines_backwards(path):
        return decode_checkpoint(text)
    return None


def _bring_in_order(
    record: Path, writer: str, by: str, now: datetime, covered: Head | None
) -> tuple[Head | None, Torn | None]:
    remains = _remains(record, writer)
    if remains is None:  # only seals are left, or nothing was ever written
        line = last_line(record, writer)
        return (None if line is None else head_of(writer, line)), None
    last = remains.last
    reached = remains.first - 1 if last is None else last.sequence
    if remains.rest and covered is not None and covered.sequence > reached:
        _logger.error("the record of %s is broken where a checkpoint covers it", writer)
        return None, None
    torn = _set_aside(record, writer, remains) if remains.rest else None
    if last is None:
        remains.path.unlink()
        sync_folder(record / writer)
        if not any((record / writer).iterdir()):
            (record / writer).rmdir()
            return None, None
        line = last_line(record, writer)
        return (None if line is None else head_of(writer, line)), torn
    sealed = decode_seal(last)
    if sealed is not None and sealed.final:
        return head_of(writer, last), torn
    return _seal(record, writer, by, now, remains, last), torn


def _remains(record: Path, writer: str) -> _Remains | None:
    present = segments(record, writer)
    while len(present) > 1 and not written(present[-1][1]):
        present.pop()[1].unlink()  # begun, and nothing written to it yet
    if not present:
        return None
    number, path = present[-1]
    after, first = _start(record, writer, present)
    remains = _Remains(number=number, path=path, first=first, after=after)
    content, chained = written(path), after
    for text in content.split(b"\n")[:-1]:
        line = parse(text)
        if line is None or line.sequence != first:
            break
        if link(chained, hashlib.sha256(line.body).digest()) != line.hash:
            break
        _take(remains, line, len(text) + 1)
        chained, first = line.hash, first + 1
    remains.rest = content[remains.whole_bytes :]
    return remains


def _take(remains: _Remains, line: Line, size_bytes: int) -> None:
    remains.last = line
    remains.whole_bytes += size_bytes
    if line.kind == "open":
        remains.opening = decode_opening(line)
    elif line.kind == "entry":
        arrived = arrival(line)
        if arrived is not None and (remains.began is None or arrived < remains.began):
            remains.began = arrived


def _start(record: Path, writer: str, present: list[tuple[int, Path]]) -> tuple[bytes, int]:
    """Chain hash before the newest segment, and the sequence of its first line."""
    seal: bytes | None = None
    if len(present) > 1:
        seal = next(lines_backwards(present[-2][1]), None)
    elif kept := retained_seals(record, writer):
        seal = kept[-1]
    line = parse(seal) if seal is not None else None
    return (genesis(writer), 1) if line is None else (line.hash, line.sequence + 1)


def _set_aside(record: Path, writer: str, remains: _Remains) -> Torn:
    folder = record / writer
    for attempt in count(1):
        kept = f"{remains.number:06}{'' if attempt == 1 else f'.{attempt}'}.torn"
        if not (folder / kept).exists():
            break
    with opened(folder / kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(remains.rest)
        os.fsync(descriptor)
    sync_folder(folder)
    os.truncate(remains.path, remains.whole_bytes)
    return Torn(
        writer=writer,
        segment=remains.number,
        offset=remains.whole_bytes,
        size_bytes=len(remains.rest),
        sha256=hashlib.sha256(remains.rest).hexdigest(),
        kept=kept,
    )


def _seal(record: Path, writer: str, by: str, now: datetime, remains: _Remains, last: Line) -> Head:
    number, first, after = remains.number, remains.first, remains.after
    offset, opening = remains.whole_bytes, remains.opening
    if last.kind == "seal":  # the next segment was lost with the power: it held nothing durable
        number, first, after = number + 1, last.sequence + 1, last.hash
        offset, opening = 0, None
    seal = Seal(
        segment=number,
        first=first,
        last=last.sequence,
        after=after.hex(),
        head=last.hash.hex(),
        began=remains.began or (opening.at if opening is not None else now),
        ended=now,
        final=True,
        sealed_by=by,
        previous=opening.previous if opening is not None else (),
    )
    text, chained = frame(last.sequence + 1, "seal", encode_content(seal), last.hash)
    path = segment_path(record, writer, number)
    with opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
        os.ftruncate(descriptor, offset)
        if os.pwrite(descriptor, text, offset) < len(text):
            os.ftruncate(descriptor, offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    sync_folder(record / writer)
    return Head(writer, last.sequence + 1, chained.hex())
