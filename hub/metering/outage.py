"""Counting while Redis is away: each process spends its share, or calls are turned down.

The share of a counter is what is left of it as far as this process has heard, divided by the
processes that were last known alive. Where a period begins meanwhile, it is the amount divided.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from hub.domain.metering import Counter, Denied, Hold
from hub.metering.local import LocalCounting
from hub.metering.periods import span_s


class Outage:
    """One time of Redis being away, for one process of ``processes``.

    ``seen`` tells what everybody had used of a counter in the period of a moment; ``holds`` are
    under way already, and count.
    """

    def __init__(
        self,
        processes: int,
        seen: Callable[[Counter, float], int],
        holds: Sequence[Hold],
        now: Callable[[], datetime],
    ) -> None:
        self.has_refused = False
        """Whether a call was turned down because nobody could be asked."""
        self._processes = processes
        self._seen = seen
        self._local = LocalCounting(now)
        self._shares: dict[str, tuple[Counter, Counter, float]] = {}
        for hold in holds:
            running = [one for one in hold.counters if one.kind == "concurrency"]
            counters = tuple(replace(one, blocks=False) for one in running)
            self._local.take(replace(hold, counters=counters))

    def take(self, hold: Hold) -> Denied | None:
        """Take from this process's shares of all counters that deny, or from none."""
        shares: list[Counter] = []
        for counter in hold.counters:
            if not counter.blocks:
                continue
            if counter.on_outage == "refuse":
                self.has_refused = True
                return Denied(counter=counter, remaining=0, reset_s=None, unreachable=True)
            share = self._share(counter, hold.at)
            if not share.amount and counter.kind == "rate":
                return Denied(counter=counter, remaining=0, reset_s=None)
            shares.append(share)
        denied = self._local.take(replace(hold, counters=tuple(shares)))
        if denied is None:
            return None
        whole = next(one for one in hold.counters if one.key == denied.counter.key)
        return replace(denied, counter=whole)

    def settle(self, hold: Hold, micro: int) -> None:
        """A call has ended, whether it began before or since."""
        self._local.settle(hold, micro)

    def _share(self, counter: Counter, at: float) -> Counter:
        known = self._shares.get(counter.key)
        if known is not None and known[0] == counter and at < known[2]:
            return known[1]
        end = float("inf")
        left = counter.amount
        if counter.period is not None:
            end = span_s(counter.period, at)[1]
            left = max(0, left - self._seen(counter, at))
        share = replace(counter, amount=left // self._processes)
        if counter.kind == "rate":
            burst = (counter.burst or counter.amount) // self._processes
            slower = counter.window_s * self._processes
            share = replace(
                counter, amount=counter.amount if burst else 0, burst=burst, window_s=slower
            )
        self._shares[counter.key] = counter, share, end
        return share
