"""When an entry is durable enough to say so: one class per level.

Each takes the futures of entries that were just written, and completes them in its own time.
"""

from asyncio import Future
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import anyio

from hub.audit.chain_reader import ChainReader
from hub.domain.record import ChainLine
from hub.errors import RecordUnavailable

Store = Callable[[Sequence[ChainLine]], Awaitable[None]]
"""Puts lines where they last, in order, idempotently by (writer, sequence); raises RecordUnavailable."""

_DRAIN_S: Final = 5.0


class Durability(Protocol):
    """What stands between written and durable."""

    @property
    def obstacle(self) -> str:
        """Why nothing becomes durable just now; empty: it does."""
        ...

    def take(self, sequence: int, waiting: Sequence["Future[None]"]) -> None:
        """The lines up to ``sequence`` are written, and these wait for them."""
        ...

    async def run(self) -> None:
        """Completes what waits, until cancelled."""
        ...

    async def drain(self) -> None:
        """Once more at the end: completes or fails everything that still waits."""
        ...


class Written:
    """Level ``written``: the kernel has it, which survives the process."""

    obstacle: Final = ""

    def take(self, sequence: int, waiting: Sequence["Future[None]"]) -> None:  # noqa: ARG002 -- the protocol's
        """Durable already."""
        complete(waiting)

    async def run(self) -> None:
        """Nothing waits."""

    async def drain(self) -> None:
        """Nothing waits."""


class Synced:
    """Level ``synced``: the disk has it, which survives power loss. One sync serves all that wait."""

    def __init__(self, sync: Callable[[], Awaitable[None]]) -> None:
        """``sync`` raises RecordUnavailable."""
        self.obstacle = ""
        self._sync = sync
        self._waiting: list[Future[None]] = []
        self._wanted = anyio.Event()

    def take(self, sequence: int, waiting: Sequence["Future[None]"]) -> None:  # noqa: ARG002 -- the protocol's
        """Wait for the next sync."""
        self._waiting += waiting
        self._wanted.set()

    async def run(self) -> None:
        """Syncs whenever somebody waits."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            await self._complete()

    async def drain(self) -> None:
        """The last sync."""
        await self._complete()

    async def _complete(self) -> None:
        count = len(self._waiting)
        if count == 0:
            return
        try:
            await self._sync()
        except RecordUnavailable as error:
            # What the disk refused once may be lost even if it takes the next sync: no second try.
            self.obstacle = f"{error}; restart when the disk is sound"
            fail(self._waiting, self.obstacle)
            self._waiting.clear()
        else:
            complete(self._waiting[:count])
            del self._waiting[:count]


class Stored:
    """Level ``stored``: the database has it. Lines go there in order, batched, and again on failure."""

    def __init__(self, reader: ChainReader, store: Store, retry_s: float) -> None:
        """``reader`` reads this process's own chain from its first line."""
        self.obstacle = ""
        self._reader = reader
        self._store = store
        self._retry_s = retry_s
        self._unstored: list[ChainLine] = []
        self._waiting: list[tuple[int, Sequence[Future[None]]]] = []
        self._wanted = anyio.Event()

    def take(self, sequence: int, waiting: Sequence["Future[None]"]) -> None:
        """Wait until the lines up to ``sequence`` are stored."""
        self._waiting.append((sequence, waiting))
        self._wanted.set()

    async def run(self) -> None:
        """Stores whatever is written; while that fails, what waits fails and tries go on."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            if not await self._complete():
                await anyio.sleep(self._retry_s)
                self._wanted.set()

    async def drain(self) -> None:
        """The last lines, for a few seconds."""
        with anyio.move_on_after(_DRAIN_S):
            await self._complete()
        self._fail_waiting("the store did not take the last entries in time")
        self._reader.close()

    async def _complete(self) -> bool:
        """Whether everything that is written is stored."""
        try:
            while lines := self._unstored or self._reader.read():
                self._unstored = lines
                await self._store(lines)
                self._unstored = []
                self.obstacle = ""
                self._complete_up_to(lines[-1].sequence)
        except RecordUnavailable as error:
            self.obstacle = str(error)
            self._fail_waiting(self.obstacle)
            return False
        return True

    def _complete_up_to(self, sequence: int) -> None:
        while self._waiting and self._waiting[0][0] <= sequence:
            complete(self._waiting.pop(0)[1])

    def _fail_waiting(self, reason: str) -> None:
        for _, waiting in self._waiting:
            fail(waiting, reason)
        self._waiting.clear()


def complete(waiting: Iterable["Future[None]"]) -> None:
    """Tell those who wait that it is done."""
    for future in waiting:
        if not future.done():
            future.set_result(None)


def fail(waiting: Iterable["Future[None]"], reason: str) -> None:
    """Tell those who wait that it cannot be done."""
    for future in waiting:
        if not future.done():
            future.set_exception(RecordUnavailable(reason))
