"""Where chains lie on disk, and reading what is there.

::

    record/
      checkpoints.jsonl            signed checkpoints, all writers
      retention.jsonl              signed notes of what retention removed
  20261121T093000120034Z-5f0c91aa/   one writer: the chain of one process start
        000001.jsonl               segments; the newest may be followed by zeros, room kept ahead
        000002.torn                what a crash left of a line
        seals.jsonl                seals of segments that retention removed

A writer holds a lock (``flock``) on its own directory as long as it lives; nobody else writes there.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hub.audit.lines import Line, Opening, Seal, decode_opening, decode_seal, parse

CHECKPOINTS: Final = "checkpoints.jsonl"
SEALS: Final = "seals.jsonl"
_WRITER: Final = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{8}")
_SEGMENT: Final = re.compile(r"(\d{6,})\.jsonl")
_BLOCK_BYTES: Final = 64 * 1024


def new_writer(now: datetime) -> str:
    """A name for the chain of this process start; sorts by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def writers(record: Path) -> list[str]:
    """Names of all chains, oldest first."""
    if not record.is_dir():
        return []
    return sorted(path.name for path in record.iterdir() if _WRITER.fullmatch(path.name))


def segment_path(record: Path, writer: str, number: int) -> Path:
    """Where a segment lies."""
    return record / writer / f"{number:06}.jsonl"


def segments(record: Path, writer: str) -> list[tuple[int, Path]]:
    """Numbers and files of a chain's segments that are still there, in order."""
    folder = record / writer
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [(int(match[1]), path) for path in paths if (match := _SEGMENT.fullmatch(path.name))]
    return sorted(found)


def locked(folder: Path, *, wait: bool) -> int | None:
    """Lock a writer's directory; the descriptor keeps it until closed. None: another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """A file descriptor that is closed at the end of the block."""
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make names in a directory survive power loss."""
    with opened(folder, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def data_end(descriptor: int) -> int:
    """How many bytes of a segment are written; the rest is room kept ahead, all zeros.

    Lines hold no zero byte, so the border is found by halving.
    """
    low, high = 0, os.fstat(descriptor).st_size
    if high and os.pread(descriptor, 1, high - 1) not in (b"\0", b""):
        return high
    while low < high:
        middle = (low + high) // 2
        if os.pread(descriptor, 1, middle) in (b"\0", b""):
            high = middle
        else:
            low = middle + 1
    return low


def written(path: Path) -> bytes:
    """The content of a segment without the room kept ahead."""
    return path.read_bytes().rstrip(b"\0")


def lines_backwards(path: Path) -> Iterator[bytes]:
    """Whole lines of a file without their newlines, last one first; an unfinished tail is left out."""
    with opened(path, os.O_RDONLY) as descriptor:
        position = data_end(descriptor)
        held: bytes | None = None  # None: nothing seen yet but, perhaps, an unfinished tail
        while position:
            start = max(0, position - _BLOCK_BYTES)
            block = os.pread(descriptor, position - start, start)
            position = start
            if held is None:
                cut = block.rfind(b"\n")
                if cut < 0:
                    continue
                block, held = block[:cut], b""
            pieces = (block + held).split(b"\n")
            held = pieces[0]
            yield from reversed(pieces[1:])
        if held is not None:
            yield held


def last_line(record: Path, writer: str) -> Line | None:
    """The last whole line of a chain; None where nothing was written, or nothing that can be read."""
    for _, path in reversed(segments(record, writer)):
        for text in lines_backwards(path):
            return parse(text)
    kept = retained_seals(record, writer)
    return parse(kept[-1]) if kept else None


def opening_of(record: Path, writer: str) -> Opening | None:
    """What the first line of a chain says, or what the seal of a removed first segment repeats."""
    present = segments(record, writer)
    if present and present[0][0] == 1:
        with present[0][1].open("rb") as file:
            line = parse(file.readline().rstrip(b"\n"))
        return decode_opening(line) if line is not None else None
    kept = retained_seals(record, writer)
    line = parse(kept[0]) if kept else None
    seal = decode_seal(line) if line is not None else None
    if seal is None:
        return None
    return Opening(writer=writer, at=seal.began, previous=seal.previous)


def retained_seals(record: Path, writer: str) -> list[bytes]:
    """Seals of removed segments, as they stood in them, oldest first."""
    path = record / writer / SEALS
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def retained_number(seal: bytes) -> int:
    """Which segment a retained seal speaks for; 0 when it cannot be read."""
    line = parse(seal)
    content = decode_seal(line) if line is not None else None
    return 0 if content is None else content.segment


def seal_of(path: Path) -> tuple[bytes, Seal] | None:
    """The seal that ends a segment, as written and as read; None when it is not sealed."""
    for text in lines_backwards(path):
        line = parse(text)
        seal = decode_seal(line) if line is not None else None
        return None if seal is None else (text, seal)
    return None
