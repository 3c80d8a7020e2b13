"""The ledger as a projection of the record: follows the chains of a data directory.

Nothing of a call waits for it. What is in the record and not yet in the ledger is owed, and told as
``lag_s``; while the database is away it stays owed. A chain goes on where its cursor stands in the
database, so that whatever ends the process, the next one takes in the rest.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, Self

import anyio
from anyio import to_thread

from hub.audit.chain_reader import ChainReader
from hub.audit.lines import decode_seal, parse
from hub.audit.segments import last_line, segments, writers
from hub.domain.metering import Counter, Spent
from hub.domain.record import ChainLine
from hub.domain.rules import Period
from hub.errors import PorticoError, StoreUnavailableError
from hub.ledger.postings import KEPT_S, batch_of
from hub.metering.periods import PERIODS, span_s
from hub.stores.ledger import Batch, Charge, UseField, UseFilter, UseSum

_log = logging.getLogger(__name__)

BATCH_LINES: Final = 500
"""Lines taken in at once: a few milliseconds of the event loop."""
_LAST_S: Final = 5.0
"""How long the end of the process waits for what is owed."""
_FORGET_EVERY_S: Final = 3600.0

Terms = Callable[[str], Counter | None]
"""By key of a count: the quota or budget as it is configured now; None where there is none."""


class Store(Protocol):
    """Where the ledger is kept (``hub.stores.ledger.LedgerStore``); all raise StoreUnavailableError."""

    async def cursors(self) -> Mapping[str, int]:
        """By chain: the last line that was taken in."""
        ...

    async def append(self, batch: Batch) -> int:
        """Take in a batch whose beginning is the cursor; where the cursor stands now."""
        ...

    async def sums(self, wanted: UseFilter, by: Sequence[UseField]) -> list[UseSum]:
        """Sums of uses."""
        ...

    async def charges(
        self, starts: Mapping[Period, int], counters: Iterable[str] | None = None
    ) -> list[Charge]:
        """What was counted in the periods that began at ``starts``."""
        ...

    async def forget_periods(self, before_s: int) -> None:
        """Drop what was counted in periods that ended before."""
        ...


class _Chain:
    """One chain, and how far it was read and taken in. Its reading is done in a thread."""

    def __init__(self, record: Path, writer: str, after: int) -> None:
        self.writer = writer
        self.after = after
        self.is_ended = False
        """It is sealed, and everything is taken in."""
        self._record = record
        self._reader = ChainReader(record, writer, after)
        self._lines: list[ChainLine] = []
        self._is_sealed = False

    def next_batch(self, now_s: float) -> Batch | None:
        """What is to be taken in next; None: that is all so far. Raises OSError."""
        if not self._lines:
            with suppress(
                FileNotFoundError
            ):  # retention removed it; what follows is read next time
                self._lines = self._reader.read()
        if not self._lines:
            self.is_ended = self._is_sealed
            return None
        lines = self._lines[:BATCH_LINES]
        if lines[-1].kind == "seal":
            self._is_sealed = _is_final(lines[-1].text)
        return batch_of(self.writer, self.after, lines, now_s)

    def taken(self, cursor: int) -> None:
        """The cursor stands at ``cursor`` now; whoever moved it."""
        if self._lines and cursor == self._lines[:BATCH_LINES][-1].sequence:
            del self._lines[:BATCH_LINES]
        else:
            self.close()
            self._reader = ChainReader(self._record, self.writer, cursor)
            self._lines, self._is_sealed = [], False
        self.after = cursor

    def close(self) -> None:
        """Give up the open file."""
        self._reader.close()


class _Looked:
    """Waits for one look at the record, and how it ended."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.is_level = False


class Ledger:
    """Keeps the ledger level with the record: ``async with ledger.running()``."""

    def __init__(
        self,
        store: Store,
        record: Path,
        *,
        now: Callable[[], datetime],
        every_s: float = 1.0,
    ) -> None:
        """``record``: ``<data>/record``; ``every_s``: how often it looks for new entries."""
        self._store = store
        self._record = record
        self._now = now
        self._charged: Callable[[Iterable[str]], None] = _nobody_to_tell
        self._every_s = every_s
        self._chains: dict[str, _Chain] = {}
        self._ended: set[str] = set()
        self._one_at_a_time = anyio.Lock()
        self._is_running = False
        self._wanted = anyio.Event()
        self._waiting: list[_Looked] = []
        self._level_at = now()
        self._forgot_at: datetime | None = None
        self._trouble = ""

    @property
    def lag_s(self) -> float:
        """Seconds since all that was in the record was in the ledger as well."""
        return max(0.0, (self._now() - self._level_at).total_seconds())

    def on_charged(self, tell: Callable[[Iterable[str]], None]) -> None:
        """Have ``tell`` called with the keys of the counts that something was added to."""
        self._charged = tell

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Follows the record until the end of the block, and takes in the rest then.

        Enter it before the recorder runs, so that the recorder's last entries are among that.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow)
                self._is_running = True
                try:
                    yield self
                finally:
                    self._is_running = False
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_LAST_S, shield=True):
                await self._look()
            _tell(self._waiting, is_level=False)
            for chain in self._chains.values():
                chain.close()

    async def catch_up(self, within_s: float | None) -> bool:
        """Have everything taken in that is in the record now; whether that was done in time.

        ``within_s``: None waits until it is done, or cannot be done.
        While nothing follows the record, this does it itself, and takes as long as it takes.
        """
        if not self._is_running:
            return await self._look()
        looked = _Looked()
        self._waiting.append(looked)
        self._wanted.set()
        with anyio.move_on_after(within_s):
            await looked.done.wait()
        return looked.is_level

    async def spent(self, terms: Terms) -> Mapping[str, Spent]:
        """What was counted on each quota and budget in its period that is not over.

        Money is counted in the currency of the budget alone. What is in the record is taken in
        before. Raises StoreUnavailableError, also where it cannot be.
        """
        if not await self.catch_up(None):
            raise StoreUnavailableError(f"The ledger is behind the record: {self._trouble}")
        found: dict[str, Spent] = {}
        for charge in await self._store.charges(period_starts(self._now())):
            counter = terms(charge.counter)
            if counter is None or counter.period != charge.period:
                continue
            before = found.get(charge.counter, Spent())
            micro = charge.micro if charge.currency == counter.currency else 0
            found[charge.counter] = Spent(before.calls + charge.calls, before.micro + micro)
        return found

    async def sums(self, wanted: UseFilter, by: Sequence[UseField]) -> list[UseSum]:
        """Exact sums of uses; see :meth:`hub.stores.ledger.LedgerStore.sums`."""
        return await self._store.sums(wanted, by)

    async def _follow(self) -> None:
        while True:
            self._wanted = anyio.Event()
            waiting, self._waiting = self._waiting, []
            is_level = False
            try:
                is_level = await self._look()
            except Exception as error:  # noqa: BLE001 -- a loop in the background; logged with its traceback
                self._trouble = type(error).__name__
                _log.exception("the ledger stays behind the record")
            _tell(waiting, is_level=is_level)
            with anyio.move_on_after(self._every_s):
                await self._wanted.wait()

    async def _look(self) -> bool:
        """Take in what is new; whether that was everything. What cannot be done stays owed."""
        async with self._one_at_a_time:
            began = self._now()
            try:
                await self._take_in_all()
                await self._forget_periods(began)
            except (PorticoError, OSError) as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.warning("the ledger stays behind the record: %s", error)
                return False
            if self._trouble:
                self._trouble = ""
                _log.info("the ledger is level with the record again")
            self._level_at = began
            return True

    async def _take_in_all(self) -> None:
        await self._find_chains()
        # The newest first: what counts now is there soonest.
        for writer in sorted(self._chains, reverse=True):
            await self._take_in(self._chains[writer])
        for writer in [writer for writer, chain in self._chains.items() if chain.is_ended]:
            self._ended.add(writer)
            self._chains.pop(writer).close()

    async def _take_in(self, chain: _Chain) -> None:
        while True:
            now_s = self._now().timestamp()
            batch = await to_thread.run_sync(chain.next_batch, now_s)
            if batch is None:
                return
            chain.taken(await self._store.append(batch))
            if batch.charges:
                self._charged({charge.counter for charge in batch.charges})

    async def _find_chains(self) -> None:
        present = await to_thread.run_sync(writers, self._record)
        fresh = [each for each in present if each not in self._chains and each not in self._ended]
        if not fresh:
            return
        cursors = await self._store.cursors()
        for writer in fresh:
            after = cursors.get(writer, 0)
            if await to_thread.run_sync(_is_taken_in, self._record, writer, after):
                self._ended.add(writer)
            else:
                self._chains[writer] = _Chain(self._record, writer, after)

    async def _forget_periods(self, now: datetime) -> None:
        before = self._forgot_at
        if before is None or (now - before).total_seconds() >= _FORGET_EVERY_S:
            await self._store.forget_periods(int(now.timestamp()) - KEPT_S)
            self._forgot_at = now


def _tell(waiting: Iterable[_Looked], *, is_level: bool) -> None:
    """Let those go on who wait for a look that is over."""
    for looked in waiting:
        looked.is_level = is_level
        looked.done.set()


def _nobody_to_tell(_: Iterable[str]) -> None:
    """Nobody asked."""


def period_starts(now: datetime) -> Mapping[Period, int]:
    """When the periods began that are not over, in seconds since 1970."""
    return {period: span_s(period, now.timestamp())[0] for period in PERIODS}


def _is_final(seal: bytes) -> bool:
    """Whether a chain ends with this line."""
    line = parse(seal)
    sealed = None if line is None else decode_seal(line)
    return sealed is not None and sealed.final


def _is_taken_in(record: Path, writer: str, after: int) -> bool:
    """Whether a chain has ended, and its last line is known or nothing of it is left to be read."""
    line = last_line(record, writer)
    if line is None or (line.sequence > after and segments(record, writer)):
        return False
    sealed = decode_seal(line)
    return sealed is not None and sealed.final
