"""Making checkpoints: over all chains of the directory, one after the other, and on to the sinks.

Processes that share a directory take turns by a lock on the file. Whatever a checkpoint covers has
reached the disk before it is signed, so that lost power never looks like removal.
"""

import fcntl
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from anyio import to_thread

from hub.audit.frontier import Frontier
from hub.audit.lines import Head
from hub.audit.segments import CHECKPOINTS, opened, segments, sync_folder
from hub.audit.signatures import Checkpoint, Signer, decode_checkpoint, encode_checkpoint, sign

_TAIL_BYTES = 1024 * 1024


class CheckpointSink(Protocol):
    """Takes checkpoints out of reach of whoever can change the record."""

    async def take(self, checkpoint: Checkpoint) -> None:
        """Keep it. Raises OSError; the next checkpoint stands for this one as well."""
        ...


class FileSink:
    """Appends checkpoints to a file elsewhere: another disk, a mounted share."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def take(self, checkpoint: Checkpoint) -> None:
        """Written and synced when this returns. Raises OSError."""
        await to_thread.run_sync(self._append, encode_checkpoint(checkpoint))

    def _append(self, line: bytes) -> None:
        with opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
            os.write(descriptor, line)
            os.fsync(descriptor)


class CheckpointMaker:
    """Makes the checkpoints of one process; calls must not overlap."""

    def __init__(self, record: Path, signer: Signer, now: Callable[[], datetime]) -> None:
        self._record = record
        self._signer = signer
        self._now = now
        self._frontier = Frontier(record)
        self.last: Checkpoint | None = None
        """The newest one that was made or found."""

    def make(
        self, own: Head, ended: Sequence[Head], *, unless_within_s: float = 0.0
    ) -> Checkpoint | None:
        """Sign how far all chains have come; blocks on the disk.

        ``own`` is this process's head, on disk already; ``ended`` are chains it found at its start.
        None when the last checkpoint says the same, or is younger than ``unless_within_s``. Raises
        OSError.
        """
        path = self._record / CHECKPOINTS
        is_new = not path.exists()
        with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            last, end = _last(descriptor)
            self.last = last
            now = self._now()
            if last is not None and _is_young(last, now, unless_within_s):
                return None
            heads = {head.writer: head for head in (*ended, *self._others(own, last), own)}
            if last is not None and set(heads.values()) <= set(last.heads):
                return None
            checkpoint = sign(list(heads.values()), after=last, at=now, signer=self._signer)
            line = encode_checkpoint(checkpoint)
            os.ftruncate(descriptor, end)
            written = os.pwrite(descriptor, line, end)
            if written < len(line):
                os.ftruncate(descriptor, end)
                raise OSError(f"{path} took only a part of a checkpoint")
            os.fdatasync(descriptor)
        if is_new:
            sync_folder(self._record)
        self.last = checkpoint
        return checkpoint

    def _others(self, own: Head, last: Checkpoint | None) -> list[Head]:
        heads = []
        for writer in self._frontier.writers():
            head = self._frontier.head(writer) if writer != own.writer else None
            if head is None:
                continue
            if last is None or last.head_of(writer) != head:
                self._sync(writer)
            heads.append(head)
        return heads

    def _sync(self, writer: str) -> None:
        for _, path in segments(self._record, writer)[-2:]:  # it may have rolled just now
            with opened(path, os.O_RDONLY) as descriptor:
                os.fdatasync(descriptor)
        sync_folder(self._record / writer)


def _is_young(checkpoint: Checkpoint, now: datetime, limit_s: float) -> bool:
    age = now - datetime.fromisoformat(checkpoint.at)
    return timedelta() <= age < timedelta(seconds=limit_s)  # a clock set back makes none young


def _last(descriptor: int) -> tuple[Checkpoint | None, int]:
    """The last checkpoint of the file, and where the next one goes: behind the last whole line."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(descriptor, size - start, start)
    end = tail.rfind(b"\n") + 1
    if end == 0:
        return None, start
    begin = tail.rfind(b"\n", 0, end - 1) + 1
    return decode_checkpoint(tail[begin : end - 1]), start + end
