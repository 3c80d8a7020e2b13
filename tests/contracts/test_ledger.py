"""The ledger's contract on SQLite and on a real PostgreSQL, and reports that equal their entries."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from hub.administration.authority import local_administrator
from hub.administration.desk import Desk
from hub.administration.usage import Usage, UsageRequest, usage
from hub.audit.recorder import Recorder
from hub.domain.record import Entry
from hub.errors import ConfigurationError
from hub.ledger.projection import Ledger
from hub.stores.database import open_database, sqlite_url
from hub.stores.keys import KeyStore
from hub.stores.ledger import LedgerStore
from hub.stores.objects import ObjectStore
from tests.contracts.ledger_suite import AT, LedgerSuite, calls_and_cost
from tests.peers.postgresql import PostgreSQL, running_postgresql
from tests.peers.record_writer import entry, now, recorder_in


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with running_postgresql() as server:
        yield server


class TestSqlite(LedgerSuite):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return sqlite_url(tmp_path)


class TestPostgresql(LedgerSuite):
    @pytest.fixture
    def url(self, postgresql: PostgreSQL) -> str:
        return postgresql.new_database()

    async def test_what_is_recorded_while_it_is_away_stays_owed_and_is_taken_in(
        self, postgresql: PostgreSQL, tmp_path: Path
    ) -> None:
        """Nobody waits for it meanwhile, and the lag is told."""
        ahead = timedelta()
        async with open_database(postgresql.new_database()) as database:
            store = LedgerStore(database)
            ledger = Ledger(store, tmp_path / "record", now=lambda: now() + ahead)
            async with recorder_in(tmp_path).running() as recorder:
                await recorder.append(entry("before", at=AT, cost=1))
                assert await ledger.catch_up(10)
                postgresql.stop()
                try:
                    await recorder.append(entry("meanwhile", at=AT, cost=1))
                    assert not await ledger.catch_up(10)
                    ahead = timedelta(minutes=1)
                    assert ledger.lag_s >= 60
                finally:
                    postgresql.start()
                assert await ledger.catch_up(10)
                assert ledger.lag_s < 10
            assert await calls_and_cost(store) == (2, 2)


class World(Struct):
    """A record, its ledger, and who answers for it; every example has a tenant of its own."""

    recorder: Recorder
    ledger: Ledger
    desk: Desk
    numbers: Iterator[int] = count()


@asynccontextmanager
async def world_on(url: str, folder: Path) -> AsyncIterator[World]:
    async with open_database(url) as database, recorder_in(folder).running() as recorder:
        store = LedgerStore(database)
        ledger = Ledger(store, folder / "record", now=now)
        desk = Desk(objects=ObjectStore(database), keys=KeyStore(database), ledger=ledger)
        yield World(recorder, ledger, desk)


@pytest.fixture(scope="module")
async def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("sqlite")
    async with world_on(sqlite_url(folder), folder) as world:
        yield world


@pytest.fixture(scope="module")
async def on_postgresql(
    postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with world_on(postgresql.new_database(), tmp_path_factory.mktemp("pg")) as world:
        yield world


SINCE = datetime(2026, 10, 30, tzinfo=UTC)
UNTIL = datetime(2026, 12, 2, tzinfo=UTC)
WHILE = st.integers(0, (UNTIL - SINCE) // timedelta(microseconds=1))
NAMES = st.sampled_from(["a", "A", "b", "a/b", "é", "e\u0301", "x" * 300, "%", "'", '"'])
COSTS = st.one_of(
    st.just((0, "")), st.tuples(st.integers(0, 10**12), st.sampled_from(["USD", "EUR"]))
)
KINDS = st.sampled_from(["tool", "resource", "prompt", "virtual_server", "self", "administration"])
OUTCOMES = st.sampled_from([
    "ok",
    "failed",
    "refused",
    "cancelled",
    "input_required",
    "abandoned",
    "intent",
    "aggregate",
])
ENTRIES = st.lists(
    st.fixed_dictionaries({
        "at": WHILE.map(lambda us: SINCE + timedelta(microseconds=us)),
        "principal": NAMES,
        "key": NAMES,
        "groups": st.frozensets(NAMES, max_size=3),
        "virtual_server": NAMES,
        "upstream": st.sampled_from(["orders", "files", "portico", ""]),
        "original": NAMES,
        "target_kind": KINDS,
        "target": st.sampled_from(["a", ""]),
        "operation": st.sampled_from(["tools/call", "resources/read", "resources/subscribe"]),
        "outcome": OUTCOMES,
        "money": COSTS,
    }),
    max_size=25,
)
BY = ("tool", "principal", "group", "day", "virtual_server", "upstream", "key")
Key = tuple[str, ...]


def keys_of(one: Entry, by: Sequence[str]) -> list[Key]:
    """Every row that an entry is in."""
    keys: list[Key] = [()]
    for name in by:
        if name == "tool":
            tool = f"{one.upstream}/{one.original}" if one.upstream else ""
            values: list[Key] = [(tool, one.target_kind)]
        elif name == "group":
            values = [(group,) for group in sorted(one.groups)] or [("",)]
        elif name == "day":
            values = [(one.at.strftime("%Y-%m-%d"),)]
        elif name == "virtual_server":
            values = [(one.virtual_server if one.upstream else "",)]
        else:
            values = [(getattr(one, name),)]
        keys = [(*key, *value) for key in keys for value in values]
    return keys


def counted(one: Entry) -> tuple[int, int, int]:
    """Calls, refused calls and cost of one entry."""
    if one.outcome in ("intent", "aggregate"):
        return 0, 0, 0
    is_call = (
        one.target_kind in ("tool", "resource", "prompt")
        and one.target != ""
        and one.operation != "resources/subscribe"
    )
    reached = one.outcome in ("ok", "failed", "cancelled", "input_required")
    calls = is_call and reached and one.upstream in ("orders", "files")
    # What has a cost is counted whatever it was.
    calls = calls or (reached and one.cost > 0)
    refused = one.outcome == "refused" and ((is_call and one.upstream != "portico") or one.cost > 0)
    return int(calls), int(refused), one.cost


Sums = dict[Key, tuple[int, int, dict[str, int]]]


def expected(entries: Sequence[Entry], by: Sequence[str]) -> Sums:
    calls: dict[Key, int] = defaultdict(int)
    refused: dict[Key, int] = defaultdict(int)
    costs: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in entries:
        for key in keys_of(one, by):
            reached, turned_down, cost = counted(one)
            calls[key] += reached
            refused[key] += turned_down
            if cost:
                costs[key][one.currency] += cost
    return {
        key: (calls[key], refused[key], dict(costs[key]))
        for key in calls
        if calls[key] or refused[key] or costs[key]
    }


def reported(found: Usage) -> Sums:
    return {
        tuple(row.of.values()): (
            row.calls,
            row.refused,
            {cost.currency: cost.micro for cost in row.costs if cost.micro},
        )
        for row in found.rows
    }


async def check_report(
    world: World, drawn: list[dict[str, Any]], cut: tuple[int, int], pair: tuple[str, str]
) -> None:
    tenant = f"t{next(world.numbers)}"
    entries = []
    for fields in drawn:
        cost, currency = fields["money"]
        others = {name: value for name, value in fields.items() if name != "money"}
        entries.append(entry("c", tenant=tenant, cost=cost, currency=currency, **others))
    for one in entries:
        await world.recorder.append(one)
    since, until = sorted(SINCE + timedelta(microseconds=each) for each in cut)
    whole = (since.replace(second=0, microsecond=0), minute_after(until))
    wanted = [one for one in entries if whole[0] <= one.at < whole[1]]
    for by in (*((name,) for name in BY), pair):
        request = UsageRequest(by=",".join(by), since=since, until=until)
        found = await usage(world.desk, local_administrator(tenant), tenant, request)
        unique = tuple(dict.fromkeys(by))
        assert reported(found) == expected(wanted, unique)
        ((calls, refused, costs),) = expected(wanted, ()).values() or ((0, 0, {}),)
        assert (found.total.calls, found.total.refused) == (calls, refused)
        assert {cost.currency: cost.micro for cost in found.total.costs if cost.micro} == costs
        if "group" not in by:
            assert sum(row.calls for row in found.rows) == calls
            assert not found.overlapping


def minute_after(at: datetime) -> datetime:
    """The end of the minute that a moment is in; its beginning is the end of the one before."""
    minute = at.replace(second=0, microsecond=0)
    return minute if minute == at else minute + timedelta(minutes=1)


PAIRS = st.tuples(st.sampled_from(BY), st.sampled_from(BY))
SHARED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@settings(suppress_health_check=SHARED)
@given(drawn=ENTRIES, cut=st.tuples(WHILE, WHILE), pair=PAIRS)
async def test_a_report_is_the_sum_of_its_entries_on_sqlite(
    on_sqlite: World, drawn: list[dict[str, Any]], cut: tuple[int, int], pair: tuple[str, str]
) -> None:
    await check_report(on_sqlite, drawn, cut, pair)


@settings(suppress_health_check=SHARED, max_examples=15)
@given(drawn=ENTRIES, cut=st.tuples(WHILE, WHILE), pair=PAIRS)
async def test_a_report_is_the_sum_of_its_entries_on_postgresql(
    on_postgresql: World,
    drawn: list[dict[str, Any]],
    cut: tuple[int, int],
    pair: tuple[str, str],
) -> None:
    await check_report(on_postgresql, drawn, cut, pair)


async def test_rows_of_groups_overlap_and_the_report_says_so(on_sqlite: World) -> None:
    tenant = f"t{next(on_sqlite.numbers)}"
    for groups in ({"support", "engineers"}, {"support"}, set()):
        one = entry("c", tenant=tenant, groups=frozenset(groups), cost=5, currency="USD")
        await on_sqlite.recorder.append(one)

    async def report(**fields: str) -> Usage:
        request = UsageRequest.model_validate(fields)
        return await usage(on_sqlite.desk, local_administrator(tenant), tenant, request)

    found = await report(by="group")
    assert {row.of["group"]: row.calls for row in found.rows} == {
        "support": 2, "engineers": 1, "": 1
    }  # fmt: skip
    assert (found.total.calls, found.overlapping) == (3, True)
    assert "total counts it once" in found.note
    alone = await report(by="group", group="support", period="day")
    assert [row.of for row in alone.rows] == [{"group": "support"}]
    assert (alone.total.calls, alone.overlapping, alone.note) == (2, False, "")
    assert alone.until - alone.since == timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"by": "colour"}, "'by' cannot be 'colour'"),
        ({"since": "2026-11-01T00:00:00"}, "need a zone"),
        ({"until": "2026-11-01T00:00:00Z"}, "'until' needs 'since'"),
        ({"since": "2026-11-01T00:00:00Z", "period": "day"}, "a period, or"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    on_sqlite: World, fields: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await usage(
            on_sqlite.desk, local_administrator("t"), "t", UsageRequest.model_validate(fields)
        )


async def test_one_who_waits_too_long_is_told_that_it_is_not_level(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        ledger = Ledger(LedgerStore(database), tmp_path / "record", now=now)
        async with ledger.running(), recorder_in(tmp_path).running() as recorder:
            async with database.write():
                await recorder.append(entry("c"))
                with anyio.fail_after(2):
                    assert not await ledger.catch_up(0.2)
            assert await ledger.catch_up(10)
