"""The ledger follows the record: through crashes, removed files and restarts; alerts come once."""

import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from connectors.http_client import HttpClient
from hub.audit.reading import search
from hub.audit.recorder import Recorder
from hub.domain.metering import Counter, Spent
from hub.domain.record import Entry
from hub.ledger.alerts import OPERATION, Alerts
from hub.ledger.projection import Ledger, Terms
from hub.stores.database import open_database, sqlite_url
from hub.stores.ledger import LedgerStore, UseFilter
from tests.peers.ledger_writer import BUDGET, COST, SETTINGS
from tests.peers.raw_server import Received, Wire, raw_server
from tests.peers.record_writer import entry, now, recorder_in

ROOT = Path(__file__).parent.parent.parent
ENOUGH = 1500
MONTH = Counter(
    key=BUDGET,
    rule="month",
    kind="budget",
    amount=10 * COST,
    period="month",
    currency="USD",
    alert_at=(0.5, 0.8),
)


def terms(counter: Counter) -> Terms:
    return {counter.key: counter}.get


@asynccontextmanager
async def ledger_in(data: Path) -> AsyncIterator[tuple[Ledger, LedgerStore]]:
    """A ledger on the record of a directory that nothing follows yet."""
    async with open_database(sqlite_url(data)) as database:
        store = LedgerStore(database)
        yield Ledger(store, data / "record", now=now), store


async def calls_and_cost(store: LedgerStore) -> tuple[int, int]:
    day = timedelta(days=1)
    wanted = UseFilter(tenant="default", since=now() - day, until=now() + day)
    sums = await store.sums(wanted, ())
    return sum(one.calls for one in sums), sum(one.cost for one in sums)


def recorded(data: Path) -> list[Entry]:
    return [found.entry for found in search(data / "record")]


def killed_under_load(data: Path, every_s: str) -> set[str]:
    """What a process acknowledged before it was killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.peers.ledger_writer", str(data), every_s],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        encoding="ascii",
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(ENOUGH)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    acknowledged += rest[: rest.rfind("\n") + 1].split()
    return set(acknowledged)


@pytest.mark.parametrize("every_s", ["0.01", "60"])
async def test_killed_under_load_the_next_start_takes_in_what_was_recorded(
    tmp_path: Path, every_s: str
) -> None:
    """Whether it was killed amid taking entries in, or had taken in next to nothing."""
    acknowledged = killed_under_load(tmp_path, every_s)
    assert len(acknowledged) >= ENOUGH
    async with ledger_in(tmp_path) as (ledger, store):
        async with recorder_in(tmp_path).running():
            assert await ledger.catch_up(30)
        entries = recorded(tmp_path)
        assert acknowledged <= {one.call for one in entries}
        assert await calls_and_cost(store) == (len(entries), len(entries) * COST)
        spent = await ledger.spent(terms(MONTH))
        assert spent == {BUDGET: Spent(len(entries), len(entries) * COST)}


async def test_the_last_entries_of_a_process_are_taken_in_when_it_ends(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as (ledger, store):
        async with ledger.running(), recorder_in(tmp_path).running() as recorder:
            assert await ledger.catch_up(10)
            await recorder.append(entry("last", cost=COST, currency="USD"))
        assert await calls_and_cost(store) == (1, COST)
        assert ledger.lag_s < 10


async def test_what_retention_has_removed_is_no_error(tmp_path: Path) -> None:
    """Neither files that were never read, nor a chain of which nothing but its seals is left."""
    async with recorder_in(tmp_path, settings=SETTINGS).running() as recorder:
        for number in range(2_000):
            await recorder.append(entry(str(number), cost=1, currency="USD"))
    segments = sorted((tmp_path / "record").glob("*/0*.jsonl"))
    assert len(segments) > 2
    segments[0].unlink()
    left = len(recorded(tmp_path))
    async with ledger_in(tmp_path) as (ledger, store):
        assert await ledger.catch_up(10)
        assert await calls_and_cost(store) == (left, left)
        for path in segments[1:]:
            path.unlink()
        assert await ledger.catch_up(10)
    async with ledger_in(tmp_path) as (ledger, store):
        assert await ledger.catch_up(10)
        assert await calls_and_cost(store) == (left, left)


async def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """A line that a newer version wrote, and a cost beyond all bounds, hold nothing up."""
    async with recorder_in(tmp_path).running() as recorder:
        await recorder.append(entry("new", cost=1))
        await recorder.append(entry("large", cost=10**30))
        await recorder.append(entry("good", cost=5))
    (path,) = (tmp_path / "record").glob("*/*.jsonl")
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"cost":1,', b'"cost":[],').replace(b'"cost":1}', b'"cost":[]}'))
    async with ledger_in(tmp_path) as (ledger, store):
        assert await ledger.catch_up(10)
        calls, _ = await calls_and_cost(store)
        assert calls == 2


class Tray:
    """Takes alerts in for a while, and what answers to the first of them."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = iter(statuses)
        self.alerts: list[dict[str, Any]] = []

    async def __call__(self, received: Received, wire: Wire) -> None:
        status = next(self._statuses, 200)
        if status == 200:
            self.alerts.append(received.json)
        await wire.reply(status)

    def holds(self, count: int) -> bool:
        return len(self.alerts) == count


@asynccontextmanager
async def alerting(
    data: Path, counter: Counter, at: datetime | None = None
) -> AsyncIterator[tuple[Ledger, Recorder]]:
    """A process with everything that alerts need."""
    numbers = (f"{data.name}-{number}" for number in count())
    async with open_database(sqlite_url(data.parent)) as database, HttpClient() as client:
        store = LedgerStore(database)

        def clock() -> datetime:
            return at or now()

        ledger = Ledger(store, data / "record", now=clock, every_s=0.02)
        async with ledger.running(), recorder_in(data).running() as recorder:
            alerts = Alerts(
                store, terms=terms(counter), append=recorder.append, client=client, now=clock,
                new_id=lambda: next(numbers), retries_s=(0.01, 0.01),
            )  # fmt: skip
            ledger.on_charged(alerts.charged)
            async with alerts.running():
                yield ledger, recorder


async def spend(recorder: Recorder, calls: int, **fields: Any) -> None:
    for _ in range(calls):
        one = entry("c", cost=COST, currency="USD", charged=(BUDGET,), **fields)
        await recorder.append(one)


def announced(data: Path) -> list[Entry]:
    return [one for one in recorded(data) if one.operation == OPERATION]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two data directories whose processes share one database."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "other"


async def test_a_share_is_announced_once_by_many_processes_and_after_restarts(
    two: tuple[Path, Path],
) -> None:
    tray = Tray()
    async with raw_server(tray) as raw:
        counter = replace(MONTH, alert_url=raw.url)
        async with (
            alerting(two[0], counter) as (_, one),
            alerting(two[1], counter) as (_, other),
        ):
            await spend(one, 2)
            await spend(other, 2)
            assert tray.alerts == []
            with anyio.fail_after(5):
                await spend(one, 1)
                await raw.until(partial(tray.holds, 1))
                for recorder in (one, other, one, other, one):
                    await spend(recorder, 1)
                await raw.until(partial(tray.holds, 2))
        for _ in range(2):
            async with alerting(two[0], counter) as (ledger, recorder):
                await spend(recorder, 3)
                assert await ledger.catch_up(5)
    assert [alert["share"] for alert in tray.alerts] == [0.5, 0.8]
    first = tray.alerts[0]
    assert (first["tenant"], first["budget"], first["per"], first["subject"]) == (
        "default", "month", "principal", "ci-bot"
    )  # fmt: skip
    assert (first["spent_micro"], first["spent"], first["amount"]) == (
        5 * COST, "0.01 USD", "0.02 USD"
    )  # fmt: skip
    entries = [*announced(two[0]), *announced(two[1])]
    assert {one.call for one in entries} == {alert["id"] for alert in tray.alerts}
    assert len(entries) == 2
    assert {(one.target, one.rules, one.cost) for one in entries} == {
        ("month/principal:ci-bot", ("month=alert",), 0)
    }


async def test_the_next_period_has_its_own_alerts(two: tuple[Path, Path]) -> None:
    tray = Tray()
    async with raw_server(tray) as raw:
        counter = replace(MONTH, alert_url=raw.url, alert_at=(), blocks=False)
        for months in (1, 2):
            at = datetime.fromisoformat(f"2026-0{months}-15T00:00:00Z")
            async with alerting(two[0], counter, at) as (_, recorder):
                await spend(recorder, 12, at=at)
                with anyio.fail_after(5):
                    await raw.until(partial(tray.holds, months))
    assert [(alert["share"], alert["period_starts"]) for alert in tray.alerts] == [
        (1.0, "2026-01-01T00:00:00Z"),
        (1.0, "2026-02-01T00:00:00Z"),
    ]


async def test_what_a_crash_kept_from_being_announced_is_announced_at_the_start(
    two: tuple[Path, Path],
) -> None:
    async with recorder_in(two[0]).running() as recorder:
        await spend(recorder, 9)
    async with open_database(sqlite_url(two[0].parent)) as database:
        ledger = Ledger(LedgerStore(database), two[0] / "record", now=now)
        assert await ledger.catch_up(5)
    tray = Tray(503, 500)
    async with raw_server(tray) as raw:
        counter = replace(MONTH, alert_url=raw.url)
        async with alerting(two[0], counter):
            with anyio.fail_after(5):
                await raw.until(partial(tray.holds, 2))
        assert len(raw.requests) == 4
    assert sorted(alert["share"] for alert in tray.alerts) == [0.5, 0.8]


class Told(logging.Handler):
    """Waits for an error in the log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        self.done = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()
        self.done.set()


@pytest.fixture
def told() -> Iterator[Told]:
    told, logger = Told(), logging.getLogger("hub.ledger.alerts")
    logger.addHandler(told)
    yield told
    logger.removeHandler(told)


@pytest.mark.parametrize("guarded", [True, False])
async def test_tries_to_post_end_and_tenants_reach_no_private_address(
    two: tuple[Path, Path], told: Told, guarded: bool
) -> None:
    async with raw_server(Tray(500, 500, 500)) as raw:
        counter = replace(MONTH, alert_url=raw.url, guarded=guarded, alert_at=(0.5,))
        async with alerting(two[0], counter) as (_, recorder):
            await spend(recorder, 9)
            with anyio.fail_after(5):
                await told.done.wait()
        assert ("no public address" in told.text) == guarded
        assert len(raw.requests) == (0 if guarded else 3)
    assert len(announced(two[0])) == 1
