"""What retention signs for: a chain of notes, each naming the segments that it removed.

A segment that is gone without a note was not removed by retention, whatever is kept of its seal.
"""

import fcntl
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hub.audit.segments import lines_backwards, opened, sync_folder
from hub.audit.signatures import Signer, is_signed, key_id

RETENTION: Final = "retention.jsonl"
"""Beside the checkpoints; one note a line."""
NO_NOTE: Final = "0" * 64
"""What the first note follows."""


class Retired(Struct, frozen=True):
    """A segment that is removed; the seal that is kept of it."""

    writer: str
    segment: int
    first: int
    last: int
    """Number of the seal's line; ``first``: of the segment's first one."""
    hash: str
    """Chain hash of the seal's line, hexadecimal."""


class RetentionNote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signed statement; ``key`` and ``signature`` are hexadecimal."""

    number: int
    at: str
    before: str
    """All that is removed was sealed before this moment."""
    previous: str
    segments: tuple[Retired, ...]
    key: str
    signature: str

    @property
    def text(self) -> bytes:
        """What is signed."""
        lines = ["portico retention v1", str(self.number), self.at, self.before, self.previous]
        lines += [
            f"{each.writer} {each.segment} {each.first} {each.last} {each.hash}"
            for each in self.segments
        ]
        return ("\n".join(lines) + "\n").encode()

    @property
    def digest(self) -> str:
        """What the next note names."""
        return sha256(self.text).hexdigest()


_note: Final = msgspec.json.Decoder(RetentionNote)


def is_authentic_note(note: RetentionNote, public_keys: Sequence[bytes]) -> bool:
    """Whether one of these Ed25519 public keys (32 bytes each) signed it."""
    return is_signed(note.text, note.key, note.signature, public_keys)


def decode_note(line: bytes) -> RetentionNote | None:
    """Read a line (without its newline); None for anything but the exact form it is written in."""
    try:
        note = _note.decode(line)
    except ValueError:
        return None
    return note if msgspec.json.encode(note) == line else None


def add_note(
    record: Path, segments: Sequence[Retired], before: datetime, *, signer: Signer, at: datetime
) -> None:
    """Sign for segments that are about to be removed; on the disk when it returns. Raises OSError."""
    path = record / RETENTION
    is_new = not path.exists()
    with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        last = _last(path)
        unsigned = RetentionNote(
            number=1 if last is None else last.number + 1,
            at=_moment(at),
            before=_moment(before),
            previous=NO_NOTE if last is None else last.digest,
            segments=tuple(segments),
            key=key_id(signer.public_key),
            signature="",
        )
        signed = msgspec.structs.replace(unsigned, signature=signer.sign(unsigned.text).hex())
        line = msgspec.json.encode(signed) + b"\n"
        end = _whole_bytes(descriptor)
        os.ftruncate(descriptor, end)
        if os.pwrite(descriptor, line, end) < len(line):
            os.ftruncate(descriptor, end)
            raise OSError(f"{path} took only a part of a note")
        os.fsync(descriptor)
    if is_new:
        sync_folder(record)


def noted(record: Path) -> set[Retired]:
    """What notes name, authentic or not: these need no other note."""
    return {each for note in _notes(record) for each in note.segments}


def signed_for(record: Path, public_keys: Sequence[bytes]) -> set[Retired]:
    """What authentic notes name."""
    authentic = (note for note in _notes(record) if is_authentic_note(note, public_keys))
    return {each for note in authentic for each in note.segments}


def _notes(record: Path) -> list[RetentionNote]:
    path = record / RETENTION
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [note for note in map(decode_note, lines) if note is not None]


def _last(path: Path) -> RetentionNote | None:
    text = next(lines_backwards(path), None)
    return decode_note(text) if text is not None else None


def _whole_bytes(descriptor: int) -> int:
    """Where the next line goes: behind the last whole one."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return content.rfind(b"\n") + 1


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
