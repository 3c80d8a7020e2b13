"""Taking entries on the event loop: room reserved before, one write per turn after."""

from asyncio import AbstractEventLoop, Future
from datetime import datetime

from hub.audit.clipping import encode_entry
from hub.audit.durability import Durability, fail
from hub.audit.lines import FRAME_BYTES
from hub.audit.log import LARGEST_LINE_BYTES, ChainLog
from hub.domain.record import Entry, LineKind
from hub.errors import RecordUnavailable


class Appender:
    """Writes entries to one chain. All of it runs on one event loop and waits for nothing."""

    def __init__(
        self, log: ChainLog, durability: Durability, loop: AbstractEventLoop, retry_s: float
    ) -> None:
        """``retry_s``: how long a disk that took no more is left alone."""
        self._log = log
        self._durability = durability
        self._loop = loop
        self._retry_s = retry_s
        self._reserved: set[str] = set()
        self._queue: list[tuple[LineKind, bytes]] = []
        self._queued_bytes = 0
        self._waiting: list[Future[None]] = []
        self._began: datetime | None = None
        self._refusal = ""
        self._refused_until = 0.0

    @property
    def obstacle(self) -> str:
        """Why entries are refused just now; empty: they are taken."""
        is_refusing = self._loop.time() < self._refused_until
        return self._durability.obstacle or (self._refusal if is_refusing else "")

    def reserve(self, call: str) -> None:
        """Keep room for the largest entry until the one of this call comes. Raises RecordUnavailable."""
        if self._durability.obstacle:
            raise RecordUnavailable(self._durability.obstacle)
        reserved = self._reserved
        reserved.add(call)
        if len(reserved) * LARGEST_LINE_BYTES + self._queued_bytes <= self._log.room_bytes:
            return
        try:
            self._need(0)
        except RecordUnavailable:
            reserved.discard(call)
            raise

    def append(self, entry: Entry) -> "Future[None]":
        """Take an entry. Without a reservation it must find room beside what others reserved."""
        waiting: Future[None] = self._loop.create_future()
        content = encode_entry(entry)
        size_bytes = len(content) + FRAME_BYTES
        if entry.outcome != "intent":
            self._reserved.discard(entry.call)
        needed = len(self._reserved) * LARGEST_LINE_BYTES + self._queued_bytes + size_bytes
        if needed > self._log.room_bytes:
            try:
                self._need(size_bytes)
            except RecordUnavailable as error:
                waiting.set_exception(error)
                return waiting
        if not self._queue:
            self._loop.call_soon(self.flush)
        self._queue.append(("entry", content))
        self._queued_bytes += size_bytes
        self._waiting.append(waiting)
        if self._began is None or entry.at < self._began:
            self._began = entry.at
        return waiting

    def flush(self) -> None:
        """Write what was taken in this turn of the loop."""
        if not self._queue:
            return
        queue, waiting, began = self._queue, self._waiting, self._began
        self._queue, self._waiting, self._began = [], [], None
        self._queued_bytes = 0
        whole = self._log.write(queue, began)
        if whole:
            self._durability.take(self._log.head_sequence, waiting[:whole])
        if whole < len(queue):
            self._refuse(self._log.failure)
            fail(waiting[whole:], self._refusal)
        if self._log.is_full:
            self._log.roll(self._reserved_bytes)

    def roll_if_due(self) -> None:
        """Begin another segment when this one is old; reservations go over to it."""
        if self._log.is_due:
            self._log.roll(self._reserved_bytes)

    @property
    def _reserved_bytes(self) -> int:
        return len(self._reserved) * LARGEST_LINE_BYTES

    def _need(self, size_bytes: int) -> None:
        """Room for so much, for what is queued and for all that is reserved, or RecordUnavailable."""
        needed = len(self._reserved) * LARGEST_LINE_BYTES + self._queued_bytes + size_bytes
        if needed <= self._log.room_bytes:
            return
        if self._loop.time() < self._refused_until:
            raise RecordUnavailable(self._refusal)
        try:
            self._log.make_room(needed)
        except RecordUnavailable as error:
            self._refuse(str(error))
            raise

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        self._refused_until = self._loop.time() + self._retry_s
