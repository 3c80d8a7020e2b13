"""When keys were last used: noted in memory per call, written down now and then by the whole."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import anyio

from hub.errors import StoreUnavailableError
from hub.stores.keys import KeyUse

_log = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 30.0
MAX_NOTED: Final = 100_000
"""Keys noted between two writings while the database is away; further ones are forgotten."""
_STOP_S: Final = 5.0


class UseStore(Protocol):
    """Where uses are written down."""

    async def used(self, uses: Sequence[KeyUse]) -> None:
        """Write down when keys were last used. Raises StoreUnavailableError."""
        ...


class KeyUses:
    """The last use of each key since the last writing."""

    def __init__(
        self,
        store: UseStore,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        write_every_s: float = WRITE_EVERY_S,
    ) -> None:
        """``clock`` counts seconds from any moment, and is what a use costs to be dated."""
        self._store = store
        self._now = now
        self._clock = clock
        self._write_every_s = write_every_s
        self._noted: dict[str, tuple[float, str]] = {}

    def note(self, key_id: str, peer: str) -> None:
        """A key proved somebody who called from ``peer``; returns at once."""
        self._noted[key_id] = self._clock(), peer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the end of the block, and once more then."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                await self.write()

    async def write(self) -> None:
        """Write down what was noted; where that fails it is kept for the next time.

        It is begun to be finished: a cancellation is noticed afterwards, or after 5 s.
        """
        noted, self._noted = self._noted, {}
        if not noted:
            return
        now, clock = self._now(), self._clock()
        uses = [
            KeyUse(key_id, _minute(now - timedelta(seconds=clock - then)), peer)
            for key_id, (then, peer) in noted.items()
        ]
        try:
            with anyio.fail_after(_STOP_S, shield=True):
                await self._store.used(uses)
        except (StoreUnavailableError, TimeoutError) as error:
            _log.warning("when keys were last used cannot be written down: %r", error)
            if len(noted) + len(self._noted) <= MAX_NOTED:
                self._noted = noted | self._noted

    async def _follow(self) -> None:
        while True:
            await anyio.sleep(self._write_every_s)
            try:
                await self.write()
            except Exception:  # noqa: BLE001 -- a loop in the background; logged with its traceback
                _log.exception("when keys were last used cannot be written down")


def _minute(moment: datetime) -> str:
    whole = moment.astimezone(UTC).replace(second=0, microsecond=0)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")
