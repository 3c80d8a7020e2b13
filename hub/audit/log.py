"""The chain that this process writes: room kept ahead, whole lines or none, segments that roll.

Everything here is synchronous and meant for one thread; only :func:`sync` may run in another one.
"""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct

from hub.audit.lines import Head, Opening, Seal, encode_content, frame, genesis, hash_in
from hub.audit.segments import locked, segment_path, sync_folder
from hub.domain.record import LineKind
from hub.errors import RecordUnavailable

_logger = logging.getLogger(__name__)

LARGEST_LINE_BYTES: Final = 16 * 1024
"""No entry's line is longer; room is counted in these."""

_SEAL_BYTES: Final = 1024
_NO_FALLOCATE: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL


class Segmentation(Struct, frozen=True, kw_only=True):
    """When segments roll, and how much room is taken at a time."""

    segment_bytes: int = 64 * 1024 * 1024
    segment_s: float = 3600.0
    step_bytes: int = 4 * 1024 * 1024


class Unsynced(Struct, frozen=True):
    """What has to reach the disk: descriptors of ended segments, that of the current one, a directory."""

    ended: tuple[int, ...]
    current: int | None
    folder: Path | None
    segment: int
    """The number of the youngest segment among them."""


def sync(unsynced: Unsynced) -> None:
    """Wait for the disk. Safe beside the writing thread. Raises OSError: what was written may be lost."""
    for descriptor in unsynced.ended:
        os.fdatasync(descriptor)
    if unsynced.folder is not None:
        sync_folder(unsynced.folder)
    if unsynced.current is not None:
        os.fdatasync(unsynced.current)


class ChainLog:
    """One chain, from its opening to its final seal."""

    def __init__(
        self,
        record: Path,
        opening: Opening,
        segmentation: Segmentation,
        now: Callable[[], datetime],
    ) -> None:
        """Begins the chain on disk. Raises OSError or RecordUnavailable when that is impossible."""
        self._record = record
        self._folder = record / opening.writer
        self._opening = opening
        self._segmentation = segmentation
        self._now = now
        self._seal_room = _SEAL_BYTES + len(encode_content(opening))
        self._sequence = 0
        self._chained = genesis(opening.writer)
        self._ended: list[int] = []
        self._named = 0
        """The youngest segment whose name is known to be on the disk."""
        self._suspect = False
        self._over = False
        self._failure = ""
        self._began: datetime | None = None
        self._roll_at_bytes = segmentation.segment_bytes
        self._roll_at = now()
        self._folder.mkdir(mode=0o700, parents=True)
        self._lock = locked(self._folder, wait=True)
        with ExitStack() as undone:
            undone.callback(self.close)
            descriptor = self._create(1, self._seal_room)
            undone.callback(os.close, descriptor)
            self._begin(1, descriptor, self._seal_room)
            if self.write([("open", encode_content(opening))]) != 1:
                raise RecordUnavailable(self._failure)
            for parent in (record, record.parent):  # names must survive as well
                sync_folder(parent)
            undone.pop_all()

    @property
    def head(self) -> Head:
        """How far the chain has come."""
        return Head(self._opening.writer, self._sequence, self._chained.hex())

    @property
    def head_sequence(self) -> int:
        """The number of the last line."""
        return self._sequence

    @property
    def room_bytes(self) -> int:
        """How much can be written without asking the disk for more."""
        return self._allocated - self._position - self._seal_room

    def make_room(self, size_bytes: int) -> None:
        """Take so much of the disk, and some ahead. Raises RecordUnavailable when it is not there."""
        try:
            wanted = self._position + self._seal_room + size_bytes
            if self._suspect:
                self._prove(wanted)
            elif wanted > self._allocated:
                self._grow(wanted)
        except OSError as error:
            raise RecordUnavailable(
                f"{self._folder} takes no more ({error.strerror}); free disk space there"
            ) from error

    def write(
        self, contents: Sequence[tuple[LineKind, bytes]], began: datetime | None = None
    ) -> int:
        """Append lines with one system call; returns how many were written whole.

        ``began`` is when the earliest of the calls among them arrived. After a failure nothing but
        whole lines is left, there is no room, and :meth:`make_room` first proves the disk again.
        """
        sequence, chained = self._sequence, self._chained
        lines = []
        for kind, content in contents:
            sequence += 1
            line, chained = frame(sequence, kind, content, chained)
            lines.append(line)
        text = lines[0] if len(lines) == 1 else b"".join(lines)
        written = self._put(text)
        if written == len(text):
            self._position += written
            self._sequence, self._chained = sequence, chained
            whole = len(lines)
        else:
            whole = self._keep_whole(lines, written)
        if whole and began is not None and (self._began is None or began < self._began):
            self._began = began
        return whole

    @property
    def failure(self) -> str:
        """Why lines could not be written, last time that happened."""
        return self._failure

    @property
    def is_full(self) -> bool:
        """Whether the segment has reached the size at which it rolls."""
        return self._position >= self._roll_at_bytes

    @property
    def is_due(self) -> bool:
        """Whether the segment is full, or holds entries and is as old as it may get."""
        return self.is_full or (self._began is not None and self._now() >= self._roll_at)

    def roll(self, size_bytes: int) -> None:
        """End the segment and begin the next, with room for so much in it.

        Where the disk has no room for another one, the present one goes on.
        """
        number, room = self._number + 1, self._seal_room + size_bytes
        try:
            following = self._create(number, room)
        except OSError as error:
            _logger.warning("segment not rolled: %s", error.strerror)
            self._roll_at_bytes = self._position + self._segmentation.step_bytes
            self._roll_at = self._now() + timedelta(minutes=1)
            return
        if self._end(final=False):
            self._begin(number, following, room)
        else:
            os.close(following)
            segment_path(self._record, self._opening.writer, number).unlink()

    def unsynced(self) -> Unsynced:
        """What :func:`sync` has to wait for, so that everything written until now is durable.

        It is owed until :meth:`synced` is told that the disk has it.
        """
        current = None if self._over else self._descriptor
        folder = None if self._named == self._number else self._folder
        return Unsynced(tuple(self._ended), current, folder, self._number)

    def synced(self, done: Unsynced) -> None:
        """The disk has all of it, whatever was written since."""
        self._named = done.segment
        for descriptor in done.ended:
            self._ended.remove(descriptor)
            os.close(descriptor)

    def end(self) -> None:
        """Seal the chain for good; :meth:`close` follows when it was synced."""
        if not self._end(final=True):
            self._ended.append(self._descriptor)
        self._over = True

    def close(self) -> None:
        """Give up the lock; the chain is over."""
        while self._ended:
            os.close(self._ended.pop())
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _begin(self, number: int, descriptor: int, allocated: int) -> None:
        self._number = number
        self._descriptor = descriptor
        self._position = 0
        self._allocated = allocated
        self._first = self._sequence + 1
        self._after = self._chained
        self._began = None
        self._roll_at_bytes = self._segmentation.segment_bytes
        self._roll_at = self._now() + timedelta(seconds=self._segmentation.segment_s)

    def _create(self, number: int, size_bytes: int) -> int:
        path = segment_path(self._record, self._opening.writer, number)
        descriptor = os.open(path, _CREATE, 0o600)
        try:
            _allocate(descriptor, 0, size_bytes)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        return descriptor

    def _end(self, *, final: bool) -> bool:
        seal = Seal(
            segment=self._number,
            first=self._first,
            last=self._sequence,
            after=self._after.hex(),
            head=self._chained.hex(),
            began=self._began or self._opening.at,
            ended=self._now(),
            final=final,
            previous=self._opening.previous if self._number == 1 else (),
        )
        if self.write([("seal", encode_content(seal))]) != 1:
            return False
        with suppress(OSError):  # zeros behind a seal do no harm
            os.ftruncate(self._descriptor, self._position)
        self._ended.append(self._descriptor)
        return True

    def _put(self, text: bytes) -> int:
        try:
            written = os.pwrite(self._descriptor, text, self._position)
        except OSError as error:
            self._failure = f"{self._folder} cannot be written ({error.strerror})"
            return 0
        if written < len(text):
            self._failure = f"{self._folder} took only a part; free disk space there"
        return written

    def _keep_whole(self, lines: Sequence[bytes], written: int) -> int:
        whole = size = 0
        for line in lines:
            if size + len(line) > written:
                break
            size += len(line)
            whole += 1
            self._chained = hash_in(line)
        self._sequence += whole
        self._position += size
        self._allocated = self._position
        self._suspect = True
        try:
            os.ftruncate(self._descriptor, self._position)
        except OSError as error:
            self._failure = f"{self._folder} cannot be cut ({error.strerror})"
        return whole

    def _grow(self, wanted: int) -> None:
        missing = wanted - self._allocated
        ahead = max(missing, self._segmentation.step_bytes)
        try:
            _allocate(self._descriptor, self._allocated, ahead)
            self._allocated += ahead
        except OSError:
            if ahead == missing:
                raise
            _allocate(self._descriptor, self._allocated, missing)
            self._allocated = wanted

    def _prove(self, wanted: int) -> None:
        """After a failure: cut what may be left of a line, and write zeros where lines shall go."""
        os.ftruncate(self._descriptor, self._position)
        _allocate(self._descriptor, self._position, wanted - self._position)
        _fill(self._descriptor, self._position, LARGEST_LINE_BYTES)
        self._allocated = wanted
        self._suspect = False


def _allocate(descriptor: int, start: int, size_bytes: int) -> None:
    """Take blocks of the disk, so that writing there cannot find it full.

    Copy-on-write file systems may still refuse later; then the write fails as a whole.
    """
    try:
        os.posix_fallocate(descriptor, start, size_bytes)
    except AttributeError:  # macOS
        _fill(descriptor, start, size_bytes)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
        _fill(descriptor, start, size_bytes)


def _fill(descriptor: int, start: int, size_bytes: int) -> None:
    zeros = bytes(min(size_bytes, 1024 * 1024))
    end = start + size_bytes
    while start < end:
        written = os.pwrite(descriptor, zeros[: end - start], start)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        start += written
