"""One entry per call, durable before the caller is offered the end of the answer.

Entries of one turn of the event loop are written with one system call. How long an entry's caller
waits is the level: ``written`` (the kernel has it), ``synced`` (the disk has it), ``stored`` (the
database has it). Room for the largest entry is taken from the disk before a call may run.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Self

import anyio
from anyio import to_thread
from msgspec import Struct

from hub.audit.aggregates import Aggregates
from hub.audit.appender import Appender
from hub.audit.chain_reader import ChainReader
from hub.audit.checkpoints import CheckpointMaker, CheckpointSink
from hub.audit.digests import Digests
from hub.audit.durability import Durability, Store, Stored, Synced, Written
from hub.audit.lines import FRAME_BYTES, Head, Opening, encode_content
from hub.audit.log import ChainLog, Segmentation, sync
from hub.audit.recovery import Found, recover
from hub.audit.segments import locked, new_writer
from hub.audit.signatures import Checkpoint, Signer
from hub.domain.record import Entry, Level
from hub.errors import ConfigurationError, RecordUnavailable

_logger = logging.getLogger(__name__)

_SINK_S: Final = 5.0
_CLOSED: Final = "The record is closed; start Portico."


class RecorderSettings(Struct, frozen=True, kw_only=True):
    """How durable, and how often; seconds."""

    level: Level = "written"
    segmentation: Segmentation = Segmentation()
    checkpoint_s: float = 10.0
    aggregate_s: float = 60.0
    retry_s: float = 0.25
    """How long a full disk, or a store that is away, is not asked again."""


class Recorder:
    """The record of this process: begin it with ``async with recorder.running()``."""

    def __init__(
        self,
        record: Path,
        *,
        signer: Signer,
        digest_key: Callable[[str], bytes],
        now: Callable[[], datetime],
        settings: RecorderSettings | None = None,
        store: Store | None = None,
        sinks: Sequence[CheckpointSink] = (),
    ) -> None:
        """``record``: ``<data>/record``; ``store`` is what level ``stored`` needs.

        Raises ConfigurationError when it needs one and has none.
        """
        self._settings = settings or RecorderSettings()
        if self._settings.level == "stored" and store is None:
            raise ConfigurationError("the record's level 'stored' needs a database")
        self._record = record
        self._now = now
        self._store = store
        self._sinks = sinks
        self.digest = Digests(digest_key).digest
        """See :meth:`hub.audit.digests.Digests.digest`."""
        self._aggregates = Aggregates()
        self._maker = CheckpointMaker(record, signer, now)
        self._disk = anyio.Lock()
        """One thread at a time waits for the disk."""
        self._log: ChainLog | None = None
        self._appender: Appender | None = None
        self._ended: tuple[Head, ...] = ()
        self._began = now()

    @property
    def head(self) -> Head | None:
        """How far this process's chain has come; None while it is not running."""
        return self._log.head if self._log is not None else None

    @property
    def uncovered_s(self) -> float:
        """How long this process's newest lines have waited for a checkpoint, seconds."""
        head, last = self.head, self._maker.last
        if head is None:
            return 0.0
        covered = last.head_of(head.writer) if last is not None else None
        if covered == head:
            return 0.0
        since = self._began if last is None else datetime.fromisoformat(last.at)
        return max(0.0, (self._now() - since).total_seconds())

    @property
    def obstacle(self) -> str:
        """Why no call may run just now, for want of a record; empty: they may."""
        return _CLOSED if self._appender is None else self._appender.obstacle

    def reserve(self, call: str) -> None:
        """Keep room for the largest entry until this call's own comes. Raises RecordUnavailable."""
        if self._appender is None:
            raise RecordUnavailable(_CLOSED)
        self._appender.reserve(call)

    def append(self, entry: Entry) -> asyncio.Future[None]:
        """Take the entry at once; what is returned completes when it is durable.

        Awaiting it raises RecordUnavailable when the entry could not be kept.
        """
        if self._appender is None:
            closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            closed.set_exception(RecordUnavailable(_CLOSED))
            return closed
        return self._appender.append(entry)

    def refused_before_identify(self, source: str, reason: str) -> None:
        """Count a request that was turned down before it was a call; recorded once a minute.

        ``source`` is an address, ``reason`` one of our own words.
        """
        self._aggregates.add(source, reason)

    async def checkpoint(self, *, unless_within_s: float = 0.0) -> Checkpoint | None:
        """End a segment that is old, bring everything to the disk, and sign how far all chains have come.

        None when nothing is new, or the last checkpoint is younger than ``unless_within_s``. Raises
        RecordUnavailable or OSError when the disk fails.
        """
        if self._log is None:
            return None
        if self._appender is not None:
            self._appender.roll_if_due()
        async with self._disk:
            head, log = self._log.head, self._log
            await _synced(log)
            checkpoint = await to_thread.run_sync(
                lambda: self._maker.make(head, self._ended, unless_within_s=unless_within_s)
            )
        if checkpoint is not None:
            self._ended = ()
            for sink in self._sinks:
                await _offer(sink, checkpoint)
        return checkpoint

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The chain of this process, from its opening to its final seal and checkpoint.

        Raises RecordUnavailable when it cannot be begun: no room, directory not writable.
        """
        try:
            log, found = await to_thread.run_sync(self._open)
        except OSError as error:
            raise RecordUnavailable(
                f"{self._record} cannot be written ({error.strerror}); free space or fix its owner"
            ) from error
        self._log, self._ended = log, found.previous
        durability = self._durability(log)
        self._appender = Appender(
            log, durability, asyncio.get_running_loop(), self._settings.retry_s
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(durability.run)
                tasks.start_soon(self._keep_checkpoints)
                tasks.start_soon(self._keep_aggregates)
                try:
                    yield self
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close(log, durability)

    def _open(self) -> tuple[ChainLog, Found]:
        self._record.mkdir(mode=0o700, parents=True, exist_ok=True)
        starting = locked(self._record, wait=True)  # one process at a time looks around
        try:
            now = self._now()
            writer = new_writer(now)
            found = recover(self._record, writer, now)
            opening = Opening(writer=writer, at=now, previous=found.previous, beside=found.beside)
            log = ChainLog(self._record, opening, self._settings.segmentation, self._now)
            torn = [encode_content(each) for each in found.torn]
            if torn:
                log.make_room(sum(map(len, torn)) + len(torn) * FRAME_BYTES)
                if log.write([("torn", content) for content in torn]) < len(torn):
                    raise RecordUnavailable(log.failure)
        finally:
            if starting is not None:
                os.close(starting)
        return log, found

    def _durability(self, log: ChainLog) -> Durability:
        if self._settings.level == "synced":
            return Synced(self._sync)
        if self._store is not None and self._settings.level == "stored":
            reader = ChainReader(self._record, log.head.writer)
            return Stored(reader, self._store, self._settings.retry_s)
        return Written()

    async def _close(self, log: ChainLog, durability: Durability) -> None:
        waiting = self._record_aggregates()
        appender, self._appender = self._appender, None
        if appender is not None:
            appender.flush()
        log.end()
        await durability.drain()
        for entry in waiting:
            with suppress(RecordUnavailable):
                await entry
        try:
            await self.checkpoint()
        except (OSError, RecordUnavailable):
            _logger.exception("no last checkpoint")
        self._log = None
        log.close()

    async def _sync(self) -> None:
        if self._log is None:
            raise RecordUnavailable(_CLOSED)
        async with self._disk:
            await _synced(self._log)

    async def _keep_checkpoints(self) -> None:
        while True:
            try:
                await self.checkpoint(unless_within_s=self._settings.checkpoint_s / 2)
            except (OSError, RecordUnavailable):
                _logger.exception("no checkpoint this time")
            await anyio.sleep(self._settings.checkpoint_s)

    async def _keep_aggregates(self) -> None:
        while True:
            await anyio.sleep(self._settings.aggregate_s)
            self._record_aggregates()

    def _record_aggregates(self) -> list[asyncio.Future[None]]:
        """Have all that was counted written, whoever is cancelled meanwhile; see :meth:`append`.

        What could not be recorded is counted again.
        """
        waiting = []
        for entry in self._aggregates.take(self._now()):
            kept = self.append(entry)
            kept.add_done_callback(partial(self._count_again_if_lost, entry))
            waiting.append(kept)
        return waiting

    def _count_again_if_lost(self, entry: Entry, kept: asyncio.Future[None]) -> None:
        if not kept.cancelled() and kept.exception() is not None:
            self._aggregates.put_back(entry)


async def _synced(log: ChainLog) -> None:
    unsynced = log.unsynced()
    try:
        await to_thread.run_sync(sync, unsynced)
    except OSError as error:
        raise RecordUnavailable(
            f"the record may not have reached the disk ({error.strerror})"
        ) from error
    log.synced(unsynced)


async def _offer(sink: CheckpointSink, checkpoint: Checkpoint) -> None:
    try:
        with anyio.fail_after(_SINK_S):
            await sink.take(checkpoint)
    except (OSError, TimeoutError):
        _logger.exception("a checkpoint sink failed; the next checkpoint stands for this one")
