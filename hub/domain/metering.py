"""What is counted, for whom, and what a call holds of it while it runs."""

from typing import Literal

from msgspec import Struct

from hub.domain.rules import OnOutage, Period

CounterKind = Literal["rate", "quota", "concurrency", "budget"]


class Counter(Struct, frozen=True, gc=False, kw_only=True):
    """One count for one subject. Equal keys are the same count, in every process."""

    key: str
    """``{tenant}/{kind}.{rule}/{per}:{subject}``, as the record and the ledger name it."""
    rule: str
    """Name of the limit or budget, for refusals."""
    kind: CounterKind
    amount: int
    """rate: calls in ``window_s``; quota: calls in ``period``; concurrency: calls at the same time;
    budget: micro-units of its currency in ``period``."""
    window_s: float = 0.0
    burst: int = 0
    """rate: calls that may come at once."""
    period: Period | None = None
    currency: str = ""
    on_outage: OnOutage = "local"
    blocks: bool = True
    """False: what goes beyond is announced and not turned down."""
    alert_at: tuple[float, ...] = ()
    alert_url: str | None = None
    guarded: bool = False
    """The address guard holds for ``alert_url``."""


class Hold(Struct, frozen=True, gc=False, kw_only=True):
    """What a call has taken and keeps until it is settled."""

    id: str
    """The call's id; settling twice is settling once."""
    counters: tuple[Counter, ...]
    micro: int = 0
    """Reserved of every budget among them, in micro-units."""
    at: float = 0.0
    """Seconds since the epoch: decides the period it counts in."""


class Denied(Struct, frozen=True, gc=False, kw_only=True):
    """A counter that had no room; nothing was taken from any."""

    counter: Counter
    remaining: int
    """What is left: calls, or micro-units for a budget."""
    reset_s: float | None
    """Seconds until more is to be had; None where that depends on calls under way."""
    unreachable: bool = False
    """Nobody could be asked, and the rule says to refuse then."""


class Spent(Struct, frozen=True, gc=False):
    """What was counted in a period that is not over."""

    calls: int = 0
    micro: int = 0
