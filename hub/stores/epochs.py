"""Counters that every change counts up, so that running hubs notice what others wrote."""

import logging
from collections.abc import AsyncGenerator
from typing import Literal

import anyio
from msgspec import Struct
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.errors import StoreUnavailableError
from hub.stores.database import Database
from hub.stores.tables import EpochRow, table_of

_log = logging.getLogger(__name__)
_epoch = table_of(EpochRow)

Counter = Literal["configuration", "keys", "listings"]


class Epoch(Struct, frozen=True):
    """How often each part was changed, ever."""

    configuration: int = 0
    keys: int = 0
    listings: int = 0

    @property
    def revocation(self) -> int:
        """Grows with each change of keys, groups or grants: what open streams check themselves by."""
        return self.configuration + self.keys


class Epochs:
    """Reads the counters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Epoch:
        """The counters now. Read them before what they count, never after."""
        async with self._database.read() as connection:
            return await current(connection)

    async def changes(self, interval_s: float = 1.0) -> AsyncGenerator[Epoch, None]:
        """The counters now, and again each time that one has grown; never ends.

        While the database is away nothing is given; one line is logged.
        """
        last: Epoch | None = None
        away = False
        while True:
            try:
                epoch = await self.read()
            except StoreUnavailableError as error:
                if not away:
                    _log.warning("changes cannot be seen: %s", error)
                away = True
            else:
                away = False
                if epoch != last:
                    last = epoch
                    yield epoch
            await anyio.sleep(interval_s)


async def current(connection: AsyncConnection) -> Epoch:
    """The counters as ``connection`` sees them."""
    columns = (_epoch.c.configuration, _epoch.c["keys"], _epoch.c.listings)
    row = (await connection.execute(select(*columns))).one()
    return Epoch(*row)


async def advance(connection: AsyncConnection, counter: Counter) -> int:
    """Count up and return the new value. First in a transaction, it lets one writer in at a time."""
    column = _epoch.c[counter]
    statement = update(_epoch).values({column: column + 1}).returning(column)
    value: int = (await connection.execute(statement)).scalar_one()
    return value


async def exclude_others(connection: AsyncConnection) -> None:
    """Let no other writer in until the transaction ends; nothing is counted."""
    await connection.execute(select(_epoch.c.id).with_for_update())
