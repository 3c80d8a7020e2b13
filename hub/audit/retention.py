"""Forgetting what is old: whole segments go, their seals stay, and what went is signed for.

A segment is removed when it was sealed before the limit, a checkpoint covers it, and every projection
has taken in what it holds. Its seal is safe first, then a signed note names it, then it goes.
"""

import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread
from msgspec import Struct

from hub.audit.lines import parse
from hub.audit.recovery import last_checkpoint
from hub.audit.retention_notes import Retired, add_note, noted
from hub.audit.segments import (
    SEALS,
    lines_backwards,
    opened,
    opening_of,
    seal_of,
    segments,
    sync_folder,
    writers,
)
from hub.audit.signatures import Signer, is_authentic
from hub.errors import PorticoError

_logger = logging.getLogger(__name__)

Passed = Callable[[], Awaitable[Mapping[str, int]]]
"""Chain -> number of the last line that every projection has taken in; absent: it has none of it."""

Forget = Callable[[str, int, int], Awaitable[None]]
"""Forgets copies of a chain's lines kept elsewhere, from a number to another one, seals excepted."""

_EVERY_S: Final = 3600.0


class Due(Struct, frozen=True):
    """A segment to be removed: what is signed for, its seal as written, its file."""

    retired: Retired
    seal: bytes
    path: Path


class Retention:
    """Removes what is older than some days, now and then, as long as :meth:`run` does."""

    def __init__(
        self,
        record: Path,
        *,
        days: int,
        signer: Signer,
        now: Callable[[], datetime],
        passed: Passed | None = None,
        forget: Forget | None = None,
    ) -> None:
        """``record``: ``<data>/record``; ``passed`` raises PorticoError where it cannot be told."""
        self._record = record
        self._age = timedelta(days=days)
        self._signer = signer
        self._now = now
        self._passed = passed
        self._forget = forget

    async def run(self) -> None:
        """Apply it every hour, the first time at once. What fails is logged and tried again then."""
        while True:
            try:
                await self.apply()
            except (OSError, PorticoError):
                _logger.exception("nothing was removed from the record this time")
            await anyio.sleep(_EVERY_S)

    async def apply(self) -> int:
        """Remove what is due; how many segments. Raises OSError or PorticoError: the rest is still there."""
        passed = await self._passed() if self._passed is not None else None
        at = self._now()
        found = await to_thread.run_sync(self._sign_for, at - self._age, at, passed)
        if self._forget is not None:
            for each in found:
                retired = each.retired
                await self._forget(retired.writer, retired.first, retired.last)
        await to_thread.run_sync(remove, found)
        if found:
            _logger.info("removed from the record", extra={"segments": len(found)})
        return len(found)

    def _sign_for(
        self, before: datetime, at: datetime, passed: Mapping[str, int] | None
    ) -> list[Due]:
        found = due(self._record, before, public_key=self._signer.public_key, passed=passed)
        sign_for(self._record, found, before, signer=self._signer, at=at)
        return found


def due(
    record: Path, before: datetime, *, public_key: bytes, passed: Mapping[str, int] | None = None
) -> list[Due]:
    """The oldest segments of each chain that may go; ``passed`` None: there are no projections."""
    covered = _covered(record, public_key)
    found: list[Due] = []
    for writer in writers(record):
        for number, path in segments(record, writer):
            sealed = seal_of(path)
            line = parse(sealed[0]) if sealed is not None else None
            if sealed is None or line is None:
                break
            text, seal = sealed
            is_needed = passed is not None and _last_entry(path) > passed.get(writer, 0)
            if seal.ended >= before or line.sequence > covered.get(writer, 0) or is_needed:
                break
            retired = Retired(writer, number, seal.first, line.sequence, line.hash.hex())
            found.append(Due(retired, text, path))
    return found


def sign_for(
    record: Path, found: Sequence[Due], before: datetime, *, signer: Signer, at: datetime
) -> None:
    """Keep the seals, and sign for what was not signed for yet. Raises OSError."""
    for each in found:
        _retain(record / each.retired.writer, each.seal)
    known = noted(record) if found else set()
    fresh = [each.retired for each in found if each.retired not in known]
    if fresh:
        add_note(record, fresh, before, signer=signer, at=at)


def remove(found: Sequence[Due]) -> None:
    """Remove segments that were signed for, and what crashes had left of lines in them."""
    for each in found:
        each.path.unlink(missing_ok=True)
        for torn in each.path.parent.glob("*.torn"):
            if int(torn.name.partition(".")[0]) <= each.retired.segment:
                torn.unlink(missing_ok=True)


def _covered(record: Path, public_key: bytes) -> dict[str, int]:
    """How far the last checkpoint vouches for each chain, by itself and by what it covers."""
    checkpoint = last_checkpoint(record)
    if checkpoint is None or not is_authentic(checkpoint, [public_key]):
        return {}
    reached = {head.writer: head.sequence for head in checkpoint.heads}
    waiting = list(reached)
    while waiting:
        opening = opening_of(record, waiting.pop())
        for head in (*opening.previous, *opening.beside) if opening is not None else ():
            if head.writer not in reached:
                waiting.append(head.writer)
            reached[head.writer] = max(head.sequence, reached.get(head.writer, 0))
    return reached


def _last_entry(path: Path) -> int:
    """Number of the last call in a segment; 0 where it holds none."""
    for text in lines_backwards(path):
        line = parse(text)
        if line is not None and line.kind == "entry":
            return line.sequence
    return 0


def _retain(folder: Path, seal: bytes) -> None:
    with opened(folder / SEALS, os.O_RDWR | os.O_CREAT | os.O_APPEND) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        kept = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        if seal + b"\n" in kept.splitlines(keepends=True):
            return
        whole = kept.rfind(b"\n") + 1
        os.ftruncate(descriptor, whole)
        os.write(descriptor, seal + b"\n")
        os.fsync(descriptor)
    sync_folder(folder)
