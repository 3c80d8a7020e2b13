"""The ledger: what was used and what it cost, taken from the record's entries and never changed.

Each chain of the record has a cursor: how far it has been taken in. It moves in the transaction
that adds the entries before it, so that an entry is in the ledger once, however often it is given.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Dialect, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.domain.record import EntryOutcome
from hub.domain.rules import Period
from hub.stores.database import Database
from hub.stores.tables import (
    LedgerAlert,
    LedgerCharge,
    LedgerCursor,
    LedgerUse,
    index_key,
    table_of,
)

_uses = table_of(LedgerUse)
_charges = table_of(LedgerCharge)
_cursors = table_of(LedgerCursor)
_alerts = table_of(LedgerAlert)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY_US: Final = 24 * 3600 * 1_000_000
_CHUNK: Final = 200
_GROUPS: Final = msgspec.json.Decoder(tuple[str, ...])

UseField = Literal[
    "day", "principal", "key", "groups", "virtual_server", "upstream", "kind", "tool"
]
"""What uses can be summed up by."""

USED: Final[tuple[EntryOutcome, ...]] = ("ok", "failed", "cancelled", "input_required")
"""Outcomes of calls that reached what they were for."""


class Use(Struct, frozen=True, kw_only=True, gc=False):
    """Uses of a capability, or refusals, that are alike: what their entries say."""

    sequence: int
    """Of the last of their lines."""
    tenant: str
    at: datetime
    principal: str = ""
    key: str = ""
    groups: tuple[str, ...] = ()
    """Sorted."""
    virtual_server: str = ""
    upstream: str = ""
    kind: str = ""
    tool: str = ""
    outcome: EntryOutcome
    calls: int = 1
    cost: int = 0
    """Of all of them together, in micro-units of ``currency``."""
    currency: str = ""


class Charge(Struct, frozen=True, gc=False):
    """What was counted on one quota or budget in one period; times in seconds since 1970."""

    counter: str
    """Key of the count (``hub.domain.metering.Counter``)."""
    period: Period
    starts_s: int
    ends_s: int
    currency: str
    calls: int
    micro: int


class Batch(Struct, frozen=True):
    """What the lines of one chain behind ``after``, up to ``sequence``, say."""

    writer: str
    after: int
    sequence: int
    uses: Sequence[Use] = ()
    charges: Sequence[Charge] = ()
    """One for each count, period and currency."""


class UseFilter(Struct, frozen=True, kw_only=True):
    """Which uses are summed up; None means any, and all that are given must hold."""

    tenant: str
    since: datetime
    until: datetime
    """Calls that arrived before."""
    principal: str | None = None
    group: str | None = None
    virtual_server: str | None = None
    tool: str | None = None
    """Original name, or ``upstream/original``."""


class UseSum(Struct, frozen=True):
    """Uses that agree in every field asked for, in their groups and in their currency."""

    fields: tuple[str, ...]
    """Values of the fields, in the order asked for; ``groups`` is not among them."""
    groups: tuple[str, ...]
    """The groups that each of them was in; empty unless asked for."""
    currency: str
    calls: int
    refused: int
    cost: int


class LedgerStore:
    """The ledger of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cursors(self) -> Mapping[str, int]:
        """By chain: the last line that was taken in."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(_cursors.c.writer, _cursors.c.sequence))
            return {row.writer: row.sequence for row in rows}

    async def append(self, batch: Batch) -> int:
        """Take in a batch, if the chain's cursor stands where the batch begins.

        Returns where the cursor stands now: at the end of the batch, or elsewhere when somebody
        else moved it. Raises StoreUnavailableError; the same batch may be given again then.
        """
        async with self._database.write() as connection:
            cursor = await _cursor(connection, batch.writer)
            if cursor != batch.after:
                return cursor
            await _add_uses(connection, batch)
            await _add_charges(connection, batch.charges)
            here = _cursors.c.writer == batch.writer
            await connection.execute(update(_cursors).where(here).values(sequence=batch.sequence))
            return batch.sequence

    async def sums(self, wanted: UseFilter, by: Sequence[UseField]) -> list[UseSum]:
        """Exact sums of the uses that are wanted, in no particular order.

        Every use is in one of them, and in one only: what is in several groups is summed up under
        the set of them.
        """
        plain = [field for field in by if field != "groups"]
        columns = [_uses.c[field] for field in plain]
        grouped = [*columns, _uses.c.currency]
        with_groups = "groups" in by or wanted.group is not None
        if with_groups:
            grouped.append(_uses.c.group_names)
        statement = (
            select(
                *grouped,
                func.sum(case((_uses.c.outcome.in_(USED), _uses.c.calls), else_=0)),
                func.sum(case((_uses.c.outcome == "refused", _uses.c.calls), else_=0)),
                func.sum(_uses.c.cost),
            )
            .where(*_conditions(wanted))
            .group_by(*grouped)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        found = []
        for row in rows:
            groups = _GROUPS.decode(row.group_names) if with_groups else ()
            if wanted.group is None or wanted.group in groups:
                calls, refused, cost = row[-3:]
                fields = tuple(row[: len(plain)])
                # PostgreSQL's sums are decimals.
                found.append(
                    UseSum(fields, groups, row.currency, int(calls), int(refused), int(cost))
                )
        return found

    async def charges(
        self, starts: Mapping[Period, int], counters: Iterable[str] | None = None
    ) -> list[Charge]:
        """What was counted in the periods that began at ``starts`` (seconds since 1970).

        ``counters``: on these only; None: on all.
        """
        periods = or_(
            *(
                and_(_charges.c.period == period, _charges.c.starts_s == start)
                for period, start in starts.items()
            )
        )
        statement = select(_charges).where(periods)
        found: list[Charge] = []
        async with self._database.read() as connection:
            for keys in _chunks(counters):
                chosen = statement
                if keys is not None:
                    chosen = statement.where(_charges.c.counter_key.in_(keys))
                found += [_charge(row) for row in await connection.execute(chosen)]
        return found

    async def claim(self, charge: Charge, share: str, at: str) -> bool:
        """Whether the caller is the one to announce that a share was reached, in this period.

        True once for each count, period and share, whoever asks and how often.
        """
        row = {
            "period": charge.period,
            "starts_s": charge.starts_s,
            "counter_key": index_key(charge.counter),
            "share": share,
            "ends_s": charge.ends_s,
            "announced_at": at,
        }
        async with self._database.write() as connection:
            insert = _insert(connection.dialect)
            added = await connection.execute(
                insert(_alerts).values(row).on_conflict_do_nothing().returning(_alerts.c.share)
            )
            return added.first() is not None

    async def forget_periods(self, before_s: int) -> None:
        """Drop the counts and announcements of periods that ended before; uses stay."""
        async with self._database.write() as connection:
            for table in (_charges, _alerts):
                await connection.execute(delete(table).where(table.c.ends_s < before_s))


def microseconds(at: datetime) -> int:
    """A moment as whole microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def _conditions(wanted: UseFilter) -> list[ColumnElement[bool]]:
    conditions = [
        _uses.c.tenant == wanted.tenant,
        _uses.c.at_us >= microseconds(wanted.since),
        _uses.c.at_us < microseconds(wanted.until),
    ]
    for field in ("principal", "virtual_server"):
        value = getattr(wanted, field)
        if value is not None:
            conditions.append(_uses.c[field] == _plain(value))
    if wanted.tool is not None:
        upstream, _, original = _plain(wanted.tool).partition("/")
        qualified = and_(_uses.c.upstream == upstream, _uses.c.tool == original)
        conditions.append(or_(_uses.c.tool == _plain(wanted.tool), qualified))
    return conditions


async def _cursor(connection: AsyncConnection, writer: str) -> int:
    """Where a chain's cursor stands; nobody else moves it until the transaction ends."""
    mine = select(_cursors.c.sequence).where(_cursors.c.writer == writer).with_for_update()
    found = await connection.scalar(mine)
    if found is None:
        insert = _insert(connection.dialect)
        row = {"writer": writer, "sequence": 0}
        await connection.execute(insert(_cursors).values(row).on_conflict_do_nothing())
        found = await connection.scalar(mine)
    return found or 0


async def _add_uses(connection: AsyncConnection, batch: Batch) -> None:
    if batch.uses:
        # The driver gets rows as they are: a third of what they would cost by names.
        rows = [_use_row(batch.writer, use) for use in batch.uses]
        await connection.exec_driver_sql(_insert_uses(connection.dialect), rows)


async def _add_charges(connection: AsyncConnection, charges: Sequence[Charge]) -> None:
    if charges:
        # In one order for everybody: two transactions never wait for each other in a ring.
        rows = sorted(_charge_row(charge) for charge in charges)
        await connection.exec_driver_sql(_insert_charges(connection.dialect), rows)


@lru_cache(maxsize=8)
def _insert_uses(dialect: Dialect) -> str:
    """Adds whole rows of uses, values in the order of the columns."""
    return str(_insert(dialect)(_uses).on_conflict_do_nothing().compile(dialect=dialect))


@lru_cache(maxsize=8)
def _insert_charges(dialect: Dialect) -> str:
    """Adds whole rows of charges to those that are there, values in the order of the columns."""
    statement = _insert(dialect)(_charges)
    statement = statement.on_conflict_do_update(
        index_elements=list(_charges.primary_key.columns),
        set_={
            "calls": _charges.c.calls + statement.excluded.calls,
            "micro": _charges.c.micro + statement.excluded.micro,
        },
    )
    return str(statement.compile(dialect=dialect))


def _insert(dialect: Dialect) -> Any:
    """``INSERT`` with ``ON CONFLICT``: the same words for both databases, with two names."""
    return postgresql.insert if dialect.name == "postgresql" else sqlite.insert


def _use_row(writer: str, use: Use) -> tuple[object, ...]:
    at_us = microseconds(use.at)
    return (
        writer,
        use.sequence,
        use.tenant,
        at_us,
        _day(at_us // _DAY_US),
        _plain(use.principal),
        _plain(use.key),
        msgspec.json.encode(use.groups).decode(),
        _plain(use.virtual_server),
        use.upstream,
        use.kind,
        _plain(use.tool),
        use.outcome,
        use.calls,
        use.cost,
        use.currency,
    )


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    """A day by how many were before it since 1970."""
    return (_EPOCH + timedelta(days=number)).strftime("%Y-%m-%d")


def _charge_row(charge: Charge) -> tuple[object, ...]:
    return (
        charge.period,
        charge.starts_s,
        index_key(charge.counter),
        charge.currency,
        charge.ends_s,
        charge.counter.encode(errors="surrogatepass"),
        charge.calls,
        charge.micro,
    )


def _charge(row: Any) -> Charge:
    return Charge(
        counter=bytes(row.counter).decode(errors="surrogatepass"),
        period=row.period,
        starts_s=row.starts_s,
        ends_s=row.ends_s,
        currency=row.currency,
        calls=row.calls,
        micro=row.micro,
    )


def _chunks(counters: Iterable[str] | None) -> Iterable[list[str] | None]:
    if counters is None:
        yield None
        return
    keys = sorted({index_key(counter) for counter in counters})
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def _plain(text: str) -> str:
    """Text that PostgreSQL takes: it knows no NUL."""
    return text.replace("\0", "\ufffd")
