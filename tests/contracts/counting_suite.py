"""What every way of counting promises, whoever counts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.domain.metering import Counter, Denied, Hold, Spent
from hub.metering.counting import Counting, Refill
from hub.metering.periods import span_s

DAY_S = 86_400
_numbers = count(1)


def now() -> datetime:
    return datetime.now(UTC)


def this_hour() -> float:
    """A moment in the hour of now, the same for a whole test."""
    return span_s("hour", now().timestamp())[0] + 1800.0


def counter(kind: str, amount: int, **fields: Any) -> Counter:
    """A counter that nobody has used."""
    known: dict[str, Any] = {"rule": kind, "kind": kind, "amount": amount}
    if kind in {"quota", "budget"}:
        known["period"] = "hour"
    if kind == "rate":
        known |= {"window_s": 3600.0 * amount, "burst": amount}
    return Counter(**{**known, "key": f"default/{kind}/tool:{next(_numbers)}", **fields})


def hold(*counters: Counter, micro: int = 0, at: float | None = None) -> Hold:
    return Hold(id=f"call-{next(_numbers)}", counters=counters, micro=micro, at=at or this_hour())


async def take(counting: Counting, held: Hold) -> Denied | None:
    answer = counting.take(held)
    return await answer if isinstance(answer, Awaitable) else answer


async def nothing_spent() -> Mapping[str, Spent]:
    return {}


Make = Callable[[Refill], AbstractAsyncContextManager[Counting]]


class CountingSuite:
    @pytest.fixture
    def make(self) -> Make:
        """A way of counting that begins with what the ledger says."""
        raise NotImplementedError

    @pytest.fixture
    async def counting(self, make: Make) -> AsyncIterator[Counting]:
        async with make(nothing_spent) as made:
            yield made

    async def test_a_quota_is_taken_to_its_end_and_not_given_back(self, counting: Counting) -> None:
        day = counter("quota", 3)
        taken = [hold(day) for _ in range(3)]
        assert [await take(counting, one) for one in taken] == [None] * 3
        counting.settle(taken[0], 0)
        denied = await take(counting, hold(day))
        assert denied == Denied(counter=day, remaining=0, reset_s=1800.0)

    async def test_a_quota_begins_anew_with_its_period(self, counting: Counting) -> None:
        day = counter("quota", 1)
        assert await take(counting, hold(day)) is None
        assert await take(counting, hold(day)) is not None
        assert await take(counting, hold(day, at=this_hour() + 3600)) is None

    async def test_a_burst_is_taken_at_once_and_then_one_by_one(self, counting: Counting) -> None:
        burst = counter("rate", 1, window_s=3600.0, burst=4)
        assert [await take(counting, hold(burst)) for _ in range(4)] == [None] * 4
        denied = await take(counting, hold(burst))
        assert denied is not None
        assert denied.remaining == 0
        assert denied.reset_s is not None
        assert 3590 < denied.reset_s <= 3600

    async def test_a_rate_comes_back_with_time(self, counting: Counting) -> None:
        fast = counter("rate", 20, window_s=1.0, burst=1)
        assert await take(counting, hold(fast, at=now().timestamp())) is None
        with anyio.fail_after(5):
            while denied := await take(counting, hold(fast, at=now().timestamp())):
                assert denied.reset_s is not None
                assert 0 < denied.reset_s <= 0.05
                await anyio.sleep(denied.reset_s)

    async def test_who_ends_makes_room_once(self, counting: Counting) -> None:
        width = counter("concurrency", 2)
        first, second, third = hold(width), hold(width), hold(width)
        assert await take(counting, first) is None
        assert await take(counting, second) is None
        assert await take(counting, third) == Denied(counter=width, remaining=0, reset_s=None)
        counting.settle(first, 0)
        counting.settle(first, 0)
        assert await take(counting, third) is None
        assert await take(counting, hold(width)) is not None

    async def test_money_is_reserved_and_then_what_was_spent(self, counting: Counting) -> None:
        month = counter("budget", 100, currency="USD")
        first, second = hold(month, micro=60), hold(month, micro=60)
        assert await take(counting, first) is None
        assert await take(counting, second) == Denied(counter=month, remaining=40, reset_s=1800.0)
        counting.settle(first, 10)
        counting.settle(first, 99)
        assert await take(counting, second) is None
        counting.settle(second, 65)
        denied = await take(counting, hold(month, micro=26))
        assert denied is not None
        assert denied.remaining == 25
        assert await take(counting, hold(month, micro=25)) is None

    async def test_what_costs_nothing_is_never_too_dear(self, counting: Counting) -> None:
        month = counter("budget", 5, currency="USD")
        dear = hold(month, micro=5)
        assert await take(counting, dear) is None
        counting.settle(dear, 9)
        assert await take(counting, hold(month)) is None
        denied = await take(counting, hold(month, micro=1))
        assert denied is not None
        assert denied.remaining == 0

    async def test_all_is_taken_or_nothing(self, counting: Counting) -> None:
        burst, day, width = counter("rate", 9), counter("quota", 9), counter("concurrency", 9)
        month = counter("budget", 10, currency="USD")
        denied = await take(counting, hold(burst, day, width, month, micro=11))
        assert denied is not None
        assert denied.counter == month
        for _ in range(9):
            assert await take(counting, hold(burst, day, width, month, micro=1)) is None
        assert await take(counting, hold(burst)) is not None
        assert await take(counting, hold(day)) is not None
        assert await take(counting, hold(width)) is not None
        assert await take(counting, hold(month, micro=1)) is None

    async def test_the_same_hold_is_taken_once(self, counting: Counting) -> None:
        day, width = counter("quota", 2), counter("concurrency", 2)
        held = hold(day, width)
        assert [await take(counting, held) for _ in range(3)] == [None] * 3
        assert await take(counting, hold(day, width)) is None
        assert await take(counting, hold(day)) is not None

    async def test_what_was_not_taken_is_not_given_back(self, counting: Counting) -> None:
        width, month = counter("concurrency", 1), counter("budget", 5, currency="USD")
        assert await take(counting, hold(width, month, micro=5)) is None
        refused = hold(width, month, micro=5)
        assert await take(counting, refused) is not None
        counting.settle(refused, 5)
        counting.settle(hold(width, month, micro=5), 5)
        assert await take(counting, hold(width)) is not None
        assert await take(counting, hold(month, micro=1)) is not None

    async def test_what_only_warns_counts_and_never_denies(self, counting: Counting) -> None:
        warns = [
            counter("quota", 1, blocks=False),
            counter("rate", 1, blocks=False),
            counter("concurrency", 1, blocks=False),
            counter("budget", 1, currency="USD", blocks=False),
        ]
        for _ in range(3):
            assert await take(counting, hold(*warns, micro=4)) is None
        strict = Counter(key=warns[0].key, rule="quota", kind="quota", amount=4, period="hour")
        assert await take(counting, hold(strict)) is None
        assert await take(counting, hold(strict)) is not None

    async def test_counting_goes_on_from_the_ledger(self, make: Make) -> None:
        day, month = counter("quota", 10), counter("budget", 100, currency="USD")

        async def spent() -> Mapping[str, Spent]:
            return {day.key: Spent(calls=8, micro=0), month.key: Spent(calls=5, micro=70)}

        async with make(spent) as counting:
            at = now().timestamp()
            denied = await take(counting, hold(month, micro=31, at=at))
            assert denied is not None
            assert denied.remaining == 30
            assert await take(counting, hold(month, day, micro=30, at=at)) is None
            assert await take(counting, hold(day, at=at)) is None
            assert await take(counting, hold(day, at=at)) is not None
            assert await take(counting, hold(day, month, micro=100, at=at + 3600)) is None

    async def test_a_hundred_at_once_are_counted_exactly(self, counting: Counting) -> None:
        day, width = counter("quota", 30), counter("concurrency", 90)
        taken: list[Hold] = []

        async def call() -> None:
            held = hold(day, width)
            if await take(counting, held) is None:
                taken.append(held)

        async with anyio.create_task_group() as callers:
            for _ in range(100):
                callers.start_soon(call)
        assert len(taken) == 30

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 9), st.integers(0, 9))))
    async def test_it_counts_as_one_would_by_hand(
        self, counting: Counting, steps: list[tuple[int, int, int]]
    ) -> None:
        """Each step takes from some of four counters, or settles one of those under way."""
        at = this_hour()
        counters = (
            counter("rate", 12),
            counter("quota", 10),
            counter("concurrency", 3),
            counter("budget", 40, currency="USD"),
        )
        used = dict.fromkeys(counters, 0)
        running: list[Hold] = []
        for which, micro, cost in steps:
            chosen = tuple(one for place, one in enumerate(counters) if which >> place & 1)
            if not chosen:
                if running:
                    ended = running.pop(micro % len(running))
                    counting.settle(ended, cost)
                    used[counters[2]] -= counters[2] in ended.counters
                    used[counters[3]] += (cost - ended.micro) * (counters[3] in ended.counters)
                continue
            held = hold(*chosen, micro=micro, at=at)
            costs = {one: micro if one.kind == "budget" else 1 for one in chosen}
            full = [one for one in chosen if costs[one] > max(0, one.amount - used[one])]
            denied = await take(counting, held)
            assert (denied and denied.counter) == (full[0] if full else None)
            if denied is None:
                running.append(held)
                for one in chosen:
                    used[one] += costs[one]
            elif denied.counter.kind != "rate":
                assert denied.remaining == max(0, denied.counter.amount - used[denied.counter])
        for held in running:
            counting.settle(held, 0)
