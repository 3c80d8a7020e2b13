"""What a call reserves before it runs and is charged after it; how it is told that nothing is left."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import replace

from hub.domain.metering import Counter, Denied, Hold
from hub.domain.outcome import Refusal
from hub.metering.counting import Counting
from hub.metering.money import format_money
from mcp_wire.jsonrpc import raw

UNREACHABLE_RETRY_S: Final = 1
"""When to try again while the shared counts cannot be reached."""
_WINDOWS: Final = {1.0: "second", 60.0: "minute", 3600.0: "hour"}


class Meter:
    """Reserves for calls and charges them."""

    def __init__(self, counting: Counting, now: Callable[[], datetime]) -> None:
        self._counting = counting
        self._now = now

    @property
    def waits(self) -> bool:
        """Whether others are asked: then :meth:`reserved` is to be awaited."""
        return self._counting.waits

    def reserve(
        self, call: str, counters: tuple[Counter, ...], micro: int = 0, at: datetime | None = None
    ) -> Hold:
        """Take one call, and ``micro`` of every budget, from all ``counters`` or from none.

        ``at`` is the moment that the call's entry bears, so that record and counts agree on the
        period; None: now. Raises Refusal "limit" or "budget" with the rule, and TypeError where
        others have to be asked.
        """
        hold = self._hold(call, counters, micro, at)
        answer = self._counting.take(hold)
        if isinstance(answer, Denied):
            raise refusal(answer, hold)
        if answer is not None:
            raise TypeError("counts are shared: they have to be awaited")
        return hold

    async def reserved(
        self, call: str, counters: tuple[Counter, ...], micro: int = 0, at: datetime | None = None
    ) -> Hold:
        """The same, asking others where it has to. Who is cancelled meanwhile holds nothing."""
        hold = self._hold(call, counters, micro, at)
        answer = self._counting.take(hold)
        if answer is not None and not isinstance(answer, Denied):
            try:
                answer = await answer
            except asyncio.CancelledError:
                self._counting.settle(hold, 0)
                raise
        if answer is not None:
            raise refusal(answer, hold)
        return hold

    def settle(self, hold: Hold, micro: int) -> None:
        """The call has ended, however, and cost ``micro``. The second time does nothing."""
        self._counting.settle(hold, micro)

    def park(self, hold: Hold) -> None:
        """The call waits for its caller: it keeps the money it reserved and gives back the rest."""
        self._counting.settle(hold, 0)
        kept = _kept(hold)
        if kept.counters:
            self._counting.take(kept)

    def unpark(self, hold: Hold, micro: int) -> None:
        """A call that was parked has ended, however, and cost ``micro``."""
        self._counting.settle(_kept(hold), micro)

    def _hold(
        self, call: str, counters: tuple[Counter, ...], micro: int, at: datetime | None
    ) -> Hold:
        moment = (at or self._now()).timestamp()
        return Hold(id=call, counters=counters, micro=micro, at=moment)


def _kept(hold: Hold) -> Hold:
    """What a parked call holds: its budgets, which cannot deny what they gave already."""
    budgets = tuple(
        replace(counter, blocks=False) for counter in hold.counters if counter.kind == "budget"
    )
    return replace(hold, id=f"{hold.id}~", counters=budgets)


def refusal(denied: Denied, hold: Hold) -> Refusal:
    """How a call is turned down that found nothing left: what remains, and when there is more."""
    counter = denied.counter
    is_budget = counter.kind == "budget"
    data: dict[str, Any] = {"rule": counter.rule, "remaining": denied.remaining}
    if denied.unreachable:
        data = {"rule": counter.rule, "unreachable": True, "resetS": UNREACHABLE_RETRY_S}
    elif counter.period is not None and denied.reset_s is not None:
        data["resetAt"] = _utc(hold.at + denied.reset_s)
    elif denied.reset_s is not None:
        data["resetS"] = round(denied.reset_s, 3)
    if is_budget:
        data["currency"] = counter.currency
    wait_s = UNREACHABLE_RETRY_S if denied.reset_s is None else max(1, math.ceil(denied.reset_s))
    return Refusal(
        "budget" if is_budget else "limit",
        _sentence(denied, hold),
        cause=f"{counter.kind} {counter.rule}",
        rule=counter.rule,
        data=raw(data),
        headers={"Retry-After": str(wait_s)},
    )


def _sentence(denied: Denied, hold: Hold) -> str:
    counter = denied.counter
    what = f"{'Budget' if counter.kind == 'budget' else 'Limit'} '{counter.rule}'"
    if denied.unreachable:
        return f"{what} cannot be checked now; try again in a moment."
    if counter.kind == "concurrency":
        return (
            f"{what} is reached: {_calls(counter.amount)} may run at the same time and none more; "
            "try again when one has ended."
        )
    reset_s = denied.reset_s or 0.0
    if counter.kind == "rate":
        window = _WINDOWS.get(counter.window_s, f"{counter.window_s:g} s")
        return (
            f"{what} is reached: none is left of {_calls(counter.amount)} per {window}; "
            f"try again in {max(0.001, reset_s):.3g} s."
        )
    until = f"it resets at {_utc(hold.at + reset_s)}"
    if counter.kind == "quota":
        return (
            f"{what} is reached: {denied.remaining} left of {_calls(counter.amount)} "
            f"per {counter.period}; {until}."
        )
    left = format_money(denied.remaining, counter.currency)
    amount = format_money(counter.amount, counter.currency)
    asked = format_money(hold.micro, counter.currency)
    return f"{what} has {left} left of {amount} and the call may cost {asked}; {until}."


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _utc(at_s: float) -> str:
    return datetime.fromtimestamp(round(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
