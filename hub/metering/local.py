"""Counting inside this process: synchronous, exact, and gone with the process but for the ledger."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from heapq import heappop, heappush, heapreplace
from math import inf
from typing import Final

from hub.domain.metering import Counter, CounterKind, Denied, Hold, Spent
from hub.metering.counting import CountingState, Refill
from hub.metering.pacing import MICROSECONDS, depth_us, interval_us
from hub.metering.periods import span_s

_LOOKED_AT: Final = 4
"""Idle counters that one call may clear away: few, so that no call pays for many."""

_LINGER_S: Final = 60.0
"""How long a full bucket is kept: who calls now and then does not make it anew each time."""


class _Count:
    """What is known of one counter."""

    __slots__ = ("depth", "end", "interval", "pace_of", "start", "used")

    def __init__(self) -> None:
        self.start: float = 0
        self.end: float = 0
        """Seconds: from then on it says nothing any more."""
        self.used = 0
        """quota, concurrency: calls. budget: micro-units reserved and spent. rate: the moment, in
        microseconds, at which its bucket is full again."""
        self.pace_of: Counter | None = None
        """rate: whose microseconds those are."""
        self.interval = self.depth = 0


class LocalCounting:
    """Counts for the calls of this process; the time is that of the holds.

    What is idle is dropped: a full bucket, a period that is over, concurrency of nobody.
    ``refill`` is asked once, when counting starts; ``now`` says which periods that is about.
    """

    waits = False
    state: CountingState = "local"

    def __init__(self, now: Callable[[], datetime], refill: Refill | None = None) -> None:
        self._now = now
        self._ask_ledger = refill
        self._spent: dict[str, Spent] = {}
        self._spent_at = 0.0
        self._counts: dict[CounterKind, dict[str, _Count]] = {
            "rate": {},
            "quota": {},
            "concurrency": {},
            "budget": {},
        }
        self._ends: list[tuple[float, CounterKind, str]] = []
        """A heap with one item for each counter but those of concurrency, due no later than it."""
        self._holds: dict[str, Hold] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start with what the ledger holds of the periods that are not over."""
        if self._ask_ledger is not None:
            self.refill(await self._ask_ledger())
        yield

    def refill(self, spent: Mapping[str, Spent]) -> None:
        """Let counters that are not in use yet begin with what was counted in their period before."""
        self._spent = dict(spent)
        self._spent_at = self._now().timestamp()

    @property
    def size(self) -> int:
        """How many counters are kept."""
        return sum(len(counts) for counts in self._counts.values())

    def take(self, hold: Hold) -> Denied | None:
        """Take from all counters of ``hold``, or say which has no room."""
        if hold.id in self._holds:
            return None
        at = hold.at
        if self._ends and self._ends[0][0] <= at:
            self._drop_idle(at)
        counts: list[_Count] = []
        for counter in hold.counters:
            count = self._counts[counter.kind].get(counter.key)
            if count is None or count.end <= at:
                count = self._begun(counter, at)
            denied = _denied(counter, count, hold)
            if denied is not None and counter.blocks:
                self._drop_unused(hold)
                return denied
            counts.append(count)
        for counter, count in zip(hold.counters, counts, strict=True):
            if counter.kind == "rate":
                _advance(count)
            else:
                count.used += hold.micro if counter.kind == "budget" else 1
        self._holds[hold.id] = hold
        return None

    def settle(self, hold: Hold, micro: int) -> None:
        """Free concurrency and replace the reserved money by what was spent."""
        held = self._holds.pop(hold.id, None)
        if held is None:
            return
        for counter in held.counters:
            if counter.kind == "concurrency":
                self._free(counter.key)
            elif counter.kind == "budget":
                count = self._counts["budget"].get(counter.key)
                if count is not None and count.start <= held.at < count.end:
                    count.used += micro - held.micro

    def _begun(self, counter: Counter, at: float) -> _Count:
        """The counter at the beginning of its period, or with a full bucket."""
        counts = self._counts[counter.kind]
        count = counts.get(counter.key)
        if count is None:
            count = counts[counter.key] = _Count()
            if counter.kind == "concurrency":
                count.end = inf
                return count
            heappush(self._ends, (at, counter.kind, counter.key))
        if counter.period is not None:
            count.start, count.end = span_s(counter.period, at)
            count.used = self._spent_before(counter, count)
        return count

    def _spent_before(self, counter: Counter, count: _Count) -> int:
        spent = self._spent.get(counter.key)
        if spent is None or not count.start <= self._spent_at < count.end:
            return 0
        return spent.micro if counter.kind == "budget" else spent.calls

    def _drop_unused(self, hold: Hold) -> None:
        """Concurrency that was only looked at."""
        counts = self._counts["concurrency"]
        for counter in hold.counters:
            if counter.kind == "concurrency":
                count = counts.get(counter.key)
                if count is not None and not count.used:
                    del counts[counter.key]

    def _free(self, key: str) -> None:
        counts = self._counts["concurrency"]
        count = counts[key]
        count.used -= 1
        if not count.used:
            del counts[key]

    def _drop_idle(self, at: float) -> None:
        """Clear away a few counters that say nothing any more."""
        for _ in range(_LOOKED_AT):
            if not self._ends or self._ends[0][0] > at:
                return
            _, kind, key = self._ends[0]
            end = self._counts[kind][key].end
            if end <= at:
                heappop(self._ends)
                del self._counts[kind][key]
            else:
                heapreplace(self._ends, (end, kind, key))


def _denied(counter: Counter, count: _Count, hold: Hold) -> Denied | None:
    """Why ``hold`` has no room in a counter."""
    kind = counter.kind
    if kind == "rate":
        return _paced(counter, count, hold.at)
    left = counter.amount - count.used
    if (hold.micro if kind == "budget" else 1) <= left:
        return None
    if kind == "budget" and not hold.micro:
        return None
    reset_s = None if kind == "concurrency" else count.end - hold.at
    return Denied(counter=counter, remaining=max(0, left), reset_s=reset_s)


def _paced(counter: Counter, count: _Count, at: float) -> Denied | None:
    """A clock that was set back does not leave a bucket taken up for longer than it takes to fill."""
    if count.pace_of is not counter:
        count.pace_of = counter
        count.interval, count.depth = interval_us(counter), depth_us(counter)
    now_us = int(at * MICROSECONDS)
    latest_us = now_us + count.depth
    used = count.used
    if used < now_us:
        count.used = used = now_us
    elif used > latest_us:
        count.used = used = latest_us
    late_us = used + count.interval - latest_us
    if late_us <= 0:
        return None
    return Denied(counter=counter, remaining=0, reset_s=late_us / MICROSECONDS)


def _advance(count: _Count) -> None:
    """One call more, in a bucket that was looked at just now."""
    count.used += count.interval
    count.end = count.used / MICROSECONDS + _LINGER_S
