"""What the ledger must do, whatever database it is kept in."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from hub.domain.metering import Counter, Spent
from hub.domain.record import EntryOutcome
from hub.domain.rules import Period
from hub.ledger.projection import Ledger, period_starts
from hub.metering.periods import PERIODS, span_s
from hub.stores.database import Database, open_database
from hub.stores.ledger import Batch, Charge, LedgerStore, Use, UseFilter, UseSum
from tests.peers.record_writer import entry, recorder_in

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
YEAR = UseFilter(
    tenant="default", since=AT - timedelta(days=365), until=AT + timedelta(days=365)
)  # fmt: skip
ODD = "nul\0, \U0001f680 and 'quotes\" " + "x" * 3000


def a_use(sequence: int, **fields: object) -> Use:
    known: dict[str, object] = {
        "tenant": "default",
        "at": AT,
        "principal": "alice",
        "groups": ("engineers", "support"),
        "upstream": "orders",
        "kind": "tool",
        "tool": "get_order",
        "outcome": "ok",
        "cost": 2_000,
        "currency": "USD",
    }
    return Use(sequence=sequence, **{**known, **fields})  # type: ignore[arg-type]  # as they are named


def a_charge(counter: str, micro: int, period: Period = "day", currency: str = "USD") -> Charge:
    return Charge(counter, period, *span_s(period, AT.timestamp()), currency, 1, micro)


def a_batch(after: int, count: int, writer: str = "w") -> Batch:
    uses = [a_use(after + number) for number in range(1, count + 1)]
    charges = [replace(a_charge("default/quota.q/tenant:default", 0), calls=count)]
    return Batch(writer, after, after + count, uses, charges)


async def calls_and_cost(store: LedgerStore, wanted: UseFilter = YEAR) -> tuple[int, int]:
    sums = await store.sums(wanted, ())
    return sum(one.calls for one in sums), sum(one.cost for one in sums)


async def charged_calls(store: LedgerStore) -> int:
    return sum(one.calls for one in await store.charges(period_starts(AT)))


class LedgerSuite:
    """The contract; each subclass has a fixture ``url`` for an empty database."""

    @pytest.fixture
    async def database(self, url: str) -> AsyncIterator[Database]:
        async with open_database(url) as database:
            yield database

    @pytest.fixture
    def store(self, database: Database) -> LedgerStore:
        return LedgerStore(database)

    async def test_a_batch_is_taken_in_once_however_often_it_is_given(
        self, store: LedgerStore
    ) -> None:
        assert await store.append(a_batch(0, 3)) == 3
        assert await store.append(a_batch(0, 3)) == 3
        assert await store.append(a_batch(0, 5)) == 3
        assert await store.append(a_batch(7, 1)) == 3
        assert await store.append(a_batch(3, 2)) == 5
        assert await store.append(a_batch(0, 3, "another")) == 3
        assert await store.cursors() == {"w": 5, "another": 3}
        assert await calls_and_cost(store) == (8, 16_000)
        assert await charged_calls(store) == 8

    async def test_of_many_that_give_the_same_lines_one_gets_through(
        self, url: str, store: LedgerStore
    ) -> None:
        async with open_database(url) as other, anyio.create_task_group() as tasks:
            for count in range(1, 9):
                for one in (store, LedgerStore(other)):
                    tasks.start_soon(one.append, a_batch(0, count))
        (reached,) = (await store.cursors()).values()
        assert await calls_and_cost(store) == (reached, reached * 2_000)
        assert await charged_calls(store) == reached

    async def test_charges_of_many_writers_add_up(self, url: str, store: LedgerStore) -> None:
        keys = [f"default/budget.b/principal:p{number}" for number in range(20)]

        async def write(store: LedgerStore, writer: str) -> None:
            for after in range(5):
                order = keys if after % 2 else keys[::-1]
                charges = [a_charge(key, 7) for key in order]
                await store.append(Batch(writer, after, after + 1, (), charges))

        with anyio.fail_after(30):
            async with open_database(url) as other, anyio.create_task_group() as tasks:
                for number in range(6):
                    chosen = store if number % 2 else LedgerStore(other)
                    tasks.start_soon(write, chosen, f"w{number}")
        found = await store.charges(period_starts(AT))
        assert {(one.counter, one.calls, one.micro) for one in found} == {
            (key, 30, 210) for key in keys
        }

    async def test_sums_are_kept_apart_as_asked(self, store: LedgerStore) -> None:
        uses = [
            a_use(1),
            a_use(2, groups=("support",), cost=5, currency="EUR"),
            a_use(3, tenant="acme", cost=1_000),
            a_use(4, outcome="failed", groups=(), cost=0, currency=""),
            a_use(5, outcome="refused", upstream="", tool="", cost=0, currency=""),
            a_use(6, outcome="abandoned", cost=30),
        ]
        await store.append(Batch("w", 0, 9, uses))
        both = ("engineers", "support")
        assert set(await store.sums(YEAR, ("groups",))) == {
            UseSum((), both, "USD", 1, 0, 2_030),
            UseSum((), both, "", 0, 1, 0),
            UseSum((), ("support",), "EUR", 1, 0, 5),
            UseSum((), (), "", 1, 0, 0),
        }
        assert set(await store.sums(YEAR, ("upstream", "kind", "tool", "day"))) == {
            UseSum(("orders", "tool", "get_order", "2026-11-21"), (), "USD", 1, 0, 2_030),
            UseSum(("orders", "tool", "get_order", "2026-11-21"), (), "EUR", 1, 0, 5),
            UseSum(("orders", "tool", "get_order", "2026-11-21"), (), "", 1, 0, 0),
            UseSum(("", "tool", "", "2026-11-21"), (), "", 0, 1, 0),
        }
        assert await store.sums(replace(YEAR, tenant="acme"), ()) == [
            UseSum((), (), "USD", 1, 0, 1_000)
        ]
        assert await store.sums(replace(YEAR, tenant="nobody"), ()) == []

    async def test_filters_are_exact(self, store: LedgerStore) -> None:
        uses = [
            a_use(1, groups=("Support",), principal="Alice"),
            a_use(2, at=AT + timedelta(microseconds=1), tool="a/b"),
            a_use(3, upstream="a", tool="b", virtual_server="dev"),
            a_use(4, groups=('a","support',)),
        ]
        await store.append(Batch("w", 0, 4, uses))
        for wanted, calls in (
            ({"group": "support"}, 2),
            ({"group": "Support"}, 1),
            ({"group": 'a","support'}, 1),
            ({"principal": "Alice"}, 1),
            ({"virtual_server": "dev"}, 1),
            ({"tool": "orders/get_order"}, 2),
            ({"tool": "a/b"}, 2),
            ({"tool": "b"}, 1),
            ({"until": AT}, 0),
            ({"until": AT + timedelta(microseconds=1)}, 3),
            ({"since": AT + timedelta(microseconds=1)}, 1),
        ):
            assert (await calls_and_cost(store, replace(YEAR, **wanted)))[0] == calls

    async def test_names_of_any_length_and_content_are_taken(self, store: LedgerStore) -> None:
        key = f"default/quota.q/tool:orders/{ODD}"
        odd = a_use(1, principal=ODD, tool=ODD, groups=(ODD,), virtual_server=ODD, key=ODD)
        await store.append(Batch("w", 0, 1, [odd], [a_charge(key, 1), a_charge(key + "y", 2)]))
        (one,) = await store.sums(replace(YEAR, group=ODD, tool=ODD, principal=ODD), ("groups",))
        assert (one.groups, one.calls) == ((ODD,), 1)
        assert [each.micro for each in await store.charges(period_starts(AT), [key])] == [1]
        found = await store.charges(period_starts(AT), None)
        assert {(each.counter, each.micro) for each in found} == {(key, 1), (key + "y", 2)}

    async def test_what_is_over_counts_no_more_and_is_dropped_in_time(
        self, store: LedgerStore
    ) -> None:
        charges = [a_charge("k", 1, period) for period in PERIODS]
        await store.append(Batch("w", 0, 1, [a_use(1)], charges))
        found = await store.charges(period_starts(AT + timedelta(hours=1)), ["k"])
        assert {one.period for one in found} == {"day", "week", "month"}
        assert await store.charges({"hour": charges[0].starts_s}, []) == []
        await store.forget_periods(charges[1].ends_s)
        found = await store.charges(period_starts(AT))
        assert {one.period for one in found} == {"day", "week", "month"}
        assert await calls_and_cost(store) == (1, 2_000)

    async def test_of_many_that_would_announce_a_share_one_does(
        self, url: str, store: LedgerStore
    ) -> None:
        claimed: list[bool] = []

        async def claim(store: LedgerStore) -> None:
            claimed.append(await store.claim(a_charge("k", 1), "0.8", "now"))

        async with open_database(url) as other, anyio.create_task_group() as tasks:
            for _ in range(10):
                for one in (store, LedgerStore(other)):
                    tasks.start_soon(claim, one)
        assert claimed.count(True) == 1
        assert await store.claim(a_charge("k", 1), "1", "now")
        assert await store.claim(a_charge("k", 1, "week"), "0.8", "now")
        assert not await store.claim(a_charge("k", 99), "0.8", "later")

    async def test_the_record_is_taken_in_and_taking_it_in_again_changes_nothing(
        self, store: LedgerStore, tmp_path: Path
    ) -> None:
        """Also with a second one beside, as two processes on one directory would be."""
        charged = ("default/budget.b/tenant:default", "default/quota.q/principal:ci-bot")
        terms = {
            charged[0]: Counter(
                key=charged[0], rule="b", kind="budget", amount=1, period="month", currency="USD"
            ),
            charged[1]: Counter(key=charged[1], rule="q", kind="quota", amount=1, period="hour"),
        }
        clock = [AT]
        outcomes: list[EntryOutcome] = ["ok", "failed", "cancelled", "input_required", "refused"]
        ledgers = [Ledger(store, tmp_path / "record", now=lambda: clock[0]) for _ in range(2)]
        async with recorder_in(tmp_path).running() as recorder:
            for number in range(600):
                fields = {"cost": 3, "currency": "USD", "charged": charged, "at": AT}
                if outcomes[number % 5] == "refused":
                    fields = {"at": AT}
                await recorder.append(entry(str(number), outcome=outcomes[number % 5], **fields))
                if number == 300:
                    assert await ledgers[0].catch_up(10)
            async with anyio.create_task_group() as tasks:
                for ledger in ledgers:
                    tasks.start_soon(ledger.catch_up, 10)
        for ledger in (*ledgers, Ledger(store, tmp_path / "record", now=lambda: clock[0])):
            assert await ledger.catch_up(10)
            assert set(await store.sums(YEAR, ("tool",))) == {
                UseSum(("get_order",), (), "USD", 480, 0, 1_440),
                UseSum(("get_order",), (), "", 0, 120, 0),
            }
            assert await ledger.spent(terms.get) == {
                charged[0]: Spent(480, 1_440),
                charged[1]: Spent(480, 0),
            }
        clock[0] = AT + timedelta(hours=1)
        assert await ledger.spent(terms.get) == {charged[0]: Spent(480, 1_440)}
        clock[0] = AT + timedelta(days=40)
        assert await ledger.spent(terms.get) == {}
