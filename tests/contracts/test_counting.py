"""Counting in this process and in a real Redis, and what is true of only one of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import count

import anyio
import msgspec
import pytest

from hub.domain.metering import Counter, Denied, Hold
from hub.domain.outcome import Refusal
from hub.errors import ConfigurationError
from hub.metering.counting import Counting, Refill
from hub.metering.local import LocalCounting
from hub.metering.meter import Meter, refusal
from hub.metering.redis_address import redis_address
from hub.metering.shared import SharedCounting, SharedSettings
from tests.contracts.counting_suite import (
    CountingSuite,
    Make,
    counter,
    hold,
    nothing_spent,
    now,
    take,
    this_hour,
)
from tests.peers.redis import Redis, running_redis

_prefixes = (f"test{number}" for number in count())


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with running_redis() as server:
        yield server


class TestLocal(CountingSuite):
    @pytest.fixture
    def make(self) -> Make:
        @asynccontextmanager
        async def made(refill: Refill) -> AsyncIterator[Counting]:
            counting = LocalCounting(now, refill)
            async with counting.running():
                yield counting

        return made

    def test_what_is_idle_is_dropped(self) -> None:
        counting = LocalCounting(now)
        at = this_hour()
        for number in range(1000):
            limits = (
                counter("rate", 5, window_s=1.0),
                counter("quota", 5),
                counter("concurrency", 5),
            )
            held = hold(*limits, at=at + number)
            assert counting.take(held) is None
            counting.settle(held, 0)
        assert counting.size < 2000
        later = [hold(counter("rate", 5, window_s=1.0), at=at + 7200) for _ in range(1000)]
        for held in later:
            assert counting.take(held) is None
            counting.settle(held, 0)
        assert counting.size <= 1001

    def test_a_call_that_is_turned_down_leaves_nothing_behind(self) -> None:
        counting = LocalCounting(now)
        for _ in range(100):
            assert counting.take(hold(counter("concurrency", 5), counter("quota", 0))) is not None
        assert counting.size <= 101

    def test_a_clock_that_is_set_back_does_not_shut_a_rate_for_long(self) -> None:
        counting = LocalCounting(now)
        burst, at = counter("rate", 10, window_s=1.0, burst=10), this_hour()
        for _ in range(10):
            assert counting.take(hold(burst, at=at)) is None
        assert counting.take(hold(burst, at=at - 900)) is not None
        assert counting.take(hold(burst, at=at - 900 + 0.1)) is None


class TestShared(CountingSuite):
    @pytest.fixture
    def make(self, redis: Redis) -> Make:
        prefix = next(_prefixes)

        def made(refill: Refill) -> AbstractAsyncContextManager[SharedCounting]:
            return shared_in(redis, prefix, refill)

        return made

    async def test_several_processes_count_together(self, make: Make) -> None:
        day, width = counter("quota", 3), counter("concurrency", 2)
        async with make(nothing_spent) as one, make(nothing_spent) as other:
            first = hold(day, width)
            assert await take(one, first) is None
            assert await take(other, hold(day, width)) is None
            assert await take(other, hold(width)) is not None
            one.settle(first, 0)
            with anyio.fail_after(5):
                held = await until_taken(other, width)
            assert await take(one, hold(day)) is None
            assert await take(other, hold(day)) is not None
            other.settle(held, 0)

    async def test_all_counters_of_a_call_are_one_command(self, redis: Redis, make: Make) -> None:
        async with make(nothing_spent) as counting:
            limits = (counter("rate", 9), counter("quota", 9), counter("concurrency", 9))
            await take(counting, hold(*limits, counter("budget", 9), micro=1))
            before = scripts_run(redis)
            await take(counting, hold(*limits, counter("budget", 9), micro=1))
            assert scripts_run(redis) - before <= 2  # one is a heartbeat, where it comes then

    async def test_who_is_cancelled_gives_everything_back(self, make: Make) -> None:
        width = counter("concurrency", 1)
        async with make(nothing_spent) as counting:
            meter, answered_first = Meter(counting, now), 0
            for number in range(20):
                with anyio.CancelScope() as scope, suppress(Refusal):
                    scope.cancel()
                    meter.settle(await meter.reserved(f"cancelled-{number}", (width,)), 0)
                    answered_first += 1
            assert answered_first < 20
            with anyio.fail_after(5):
                await until_taken(counting, width)

    async def test_calls_longer_than_a_lease_keep_what_they_hold(self, redis: Redis) -> None:
        width, month = counter("concurrency", 1), counter("budget", 10, currency="USD")
        settings = {"lease_s": 0.3, "heartbeat_s": 0.05}
        async with shared_in(redis, next(_prefixes), nothing_spent, **settings) as counting:
            long = hold(width, month, micro=10)
            assert await take(counting, long) is None
            for _ in range(20):
                await anyio.sleep(0.05)
                assert await take(counting, hold(width)) is not None
                assert await take(counting, hold(month, micro=1)) is not None
            counting.settle(long, 4)
            assert await take(counting, hold(width, month, micro=6)) is None

    async def test_everything_in_redis_runs_out_by_itself(self, redis: Redis) -> None:
        prefix = next(_prefixes)
        async with shared_in(redis, prefix, nothing_spent) as counting:
            limits = (counter("rate", 9), counter("quota", 9), counter("concurrency", 9))
            held = hold(*limits, counter("budget", 9, currency="USD"), micro=1)
            await take(counting, held)
            keys = redis.run("KEYS", f"{{{prefix}}}:*").splitlines()
            assert len(keys) > 5
            lasting = [key for key in keys if redis.run("TTL", key) == "-1"]
            assert lasting == [f"{{{prefix}}}:epoch"]
            counting.settle(held, 1)


@asynccontextmanager
async def shared_in(
    redis: Redis, prefix: str, refill: Refill, **settings: float
) -> AsyncIterator[SharedCounting]:
    chosen = msgspec.convert({"url": redis.url, "prefix": prefix, **settings}, SharedSettings)
    counting = SharedCounting(chosen, now, refill)
    async with counting.running():
        assert counting.is_shared
        yield counting


async def until_taken(counting: Counting, limit: Counter) -> Hold:
    """The first hold that finds room again."""
    while True:
        held = hold(limit)
        if await take(counting, held) is None:
            return held
        await anyio.sleep(0.001)


def scripts_run(redis: Redis) -> int:
    line = next(
        line
        for line in redis.run("INFO", "commandstats").splitlines()
        if line.startswith("cmdstat_evalsha:")
    )
    return int(line.split("calls=")[1].split(",")[0])


class TestAddresses:
    def test_every_form_is_understood(self) -> None:
        plain = redis_address("redis://localhost")
        assert (plain.host, plain.port, plain.database, plain.tls()) == ("localhost", 6379, 0, None)
        full = redis_address("rediss://me:p%40ss@[::1]:7000/3")
        assert (full.host, full.port, full.database) == ("::1", 7000, 3)
        assert (full.user, full.password) == ("me", "p@ss")
        assert full.tls() is not None
        local = redis_address("unix:///run/redis.sock?db=2")
        assert (local.path, local.database) == ("/run/redis.sock", 2)
        assert str(full) == "rediss://::1:7000"

    @pytest.mark.parametrize(
        "url", ["", "http://:hidden@here", "redis://:hidden@", "redis://:hidden@here/x", "unix://"]
    )
    def test_anything_else_is_refused_without_its_password(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="redis://") as caught:
            redis_address(url)
        assert "hidden" not in str(caught.value)

    async def test_a_password_is_used_and_a_wrong_one_is_told(
        self, redis: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        redis.run("ACL", "SETUSER", "limits", "on", ">right", "~*", "&*", "+@all")
        where = f"127.0.0.1:{redis.port}"
        for password, is_right in (("right", True), ("wrong", False)):
            settings = SharedSettings(url=f"redis://limits:{password}@{where}/1", start_s=0.5)
            counting = SharedCounting(settings, now, nothing_spent)
            async with counting.running():
                assert counting.is_shared is is_right
        assert "WRONGPASS" in caplog.text
        assert "limits:" not in caplog.text.replace("hub.metering", "")


class TestMeter:
    """What a caller is told."""

    def test_a_call_without_counters_is_free(self) -> None:
        meter = Meter(LocalCounting(now), now)
        held = meter.reserve("call", (), 5)
        meter.settle(held, 5)

    def test_a_refusal_says_what_is_left_and_when_there_is_more(self) -> None:
        meter = Meter(LocalCounting(now), now)
        month = counter("budget", 1_000_000, currency="USD", rule="support", period="month")
        meter.reserve("one", (month,), 600_000)
        with pytest.raises(Refusal) as caught:
            meter.reserve("two", (month,), 600_000)
        told = caught.value
        assert (told.reason, told.rule) == ("budget", "support")
        assert "0.40 USD left of 1.00 USD" in told.message
        data = msgspec.json.decode(told.data or b"")
        assert data["rule"] == "support"
        assert data["remaining"] == 400_000
        assert data["resetAt"].endswith("-01T00:00:00Z")
        assert int(told.headers["Retry-After"]) > 0

    @pytest.mark.parametrize(
        ("kind", "words", "member"),
        [
            ("rate", "'rate' is reached: none is left of 1 call per 3600 s", "resetS"),
            ("quota", "'quota' is reached: 0 left of 1 call per hour", "resetAt"),
            ("concurrency", "'concurrency' is reached: 1 call may run", "remaining"),
        ],
    )
    def test_each_kind_has_its_words(self, kind: str, words: str, member: str) -> None:
        meter = Meter(LocalCounting(now), now)
        limit = counter(kind, 1, window_s=3600.0) if kind == "rate" else counter(kind, 1)
        words = words.replace("3600 s", "hour")
        meter.reserve("one", (limit,))
        with pytest.raises(Refusal, match=words) as caught:
            meter.reserve("two", (limit,))
        assert caught.value.reason == "limit"
        assert member in msgspec.json.decode(caught.value.data or b"")

    def test_nobody_could_be_asked(self) -> None:
        limit = counter("quota", 5)
        denied = Denied(counter=limit, remaining=0, reset_s=None, unreachable=True)
        told = refusal(denied, hold(limit))
        assert "cannot be checked now" in told.message
        assert msgspec.json.decode(told.data or b"")["unreachable"] is True
