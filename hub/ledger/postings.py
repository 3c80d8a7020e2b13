"""What the lines of a chain say for the ledger: the uses among them, and what they are charged to."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from hub.domain.catalog import SYSTEM_UPSTREAM
from hub.domain.record import ChainLine, Entry
from hub.domain.rules import Period
from hub.metering.money import MAX_MICRO
from hub.metering.periods import PERIODS, span_s
from hub.stores.ledger import USED, Batch, Charge, Use

KEPT_S: Final = 8 * 24 * 3600
"""How long the counts of a period are kept when it is over: only those of the present matter, but
clocks can be wrong."""

_NO_USES: Final = frozenset((
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
))  # fmt: skip
"""Operations on capabilities that use nothing of them."""
_KINDS: Final = frozenset(("tool", "resource", "template", "prompt"))
_NO_CALLS: Final = frozenset(("intent", "aggregate"))
"""Outcomes of entries that stand for no end of a call."""

_HOUR_S: Final = 3600


class _EntryLine(Struct):
    """A line of kind ``entry``; whether it is one of ours, its reader has seen."""

    entry: Entry


_line: Final = msgspec.json.Decoder(_EntryLine)


def batch_of(writer: str, after: int, lines: Iterable[ChainLine], now_s: float) -> Batch:
    """The batch that takes in ``lines`` behind line ``after``."""
    uses = _Uses()
    charges = _Charges(now_s)
    sequence = after
    for line in lines:
        sequence = line.sequence
        entry = _entry(line)
        if entry is None or entry.outcome in _NO_CALLS:
            continue
        if entry.cost or _is_use(entry):
            uses.add(sequence, entry)
        if entry.charged:
            charges.add(entry)
    return Batch(writer, after, sequence, uses.all(), charges.all())


class _Uses:
    """Adds up uses that are alike and of the same minute: a report is asked for by whole ones.

    Uses are calls that reached a capability of an upstream, and calls that were refused; whatever
    has a cost is one. Capabilities that could not be told are counted as refused under no name.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[object, ...], tuple[Entry, list[int]]] = {}
        """An entry, last line, calls and cost, by all that is kept of a use."""

    def add(self, sequence: int, entry: Entry) -> None:
        """Take in an entry."""
        at = entry.at
        alike = (
            entry.tenant,
            entry.original,
            entry.principal,
            entry.outcome,
            at.minute,
            at.hour,
            at.day,
            entry.key,
            entry.groups,
            entry.virtual_server,
            entry.upstream,
            entry.target_kind,
            entry.currency,
            at.month,
            at.year,
        )
        known = self._sums.get(alike)
        if known is None:
            known = self._sums[alike] = (entry, [0, 0, 0])
        sums = known[1]
        sums[0] = sequence
        sums[1] += 1
        sums[2] += _cost(entry)

    def all(self) -> list[Use]:
        """What it comes to."""
        return [_use(entry, *sums) for entry, sums in self._sums.values()]


def _use(entry: Entry, sequence: int, calls: int, cost: int) -> Use:
    return Use(
        sequence=sequence,
        tenant=entry.tenant,
        at=_moment(entry).replace(second=0, microsecond=0),
        principal=entry.principal,
        key=entry.key,
        groups=tuple(sorted(entry.groups)),
        virtual_server=entry.virtual_server if entry.upstream else "",
        upstream=entry.upstream,
        kind=entry.target_kind,
        tool=entry.original,
        outcome=entry.outcome,
        calls=calls,
        cost=cost,
        currency=entry.currency,
    )


def _is_use(entry: Entry) -> bool:
    if entry.target_kind not in _KINDS or not entry.target or entry.operation in _NO_USES:
        return False
    if entry.outcome == "refused":
        return entry.upstream != SYSTEM_UPSTREAM
    return entry.outcome in USED and entry.upstream not in ("", SYSTEM_UPSTREAM)


class _Charges:
    """Adds up what entries are charged to, for each count, period and currency."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s
        self._sums: dict[tuple[int, tuple[str, ...], str], list[int]] = {}
        """Calls and cost by hour, counts and currency: calls like each other have these in common."""

    def add(self, entry: Entry) -> None:
        """Take in an entry."""
        hour = int(_moment(entry).timestamp() // _HOUR_S)
        sums = self._sums.setdefault((hour, entry.charged, entry.currency), [0, 0])
        sums[0] += 1
        sums[1] += _cost(entry)

    def all(self) -> list[Charge]:
        """What it comes to in the periods that still matter."""
        sums: dict[tuple[str, Period, int, int, str], list[int]] = {}
        for (hour, charged, currency), (calls, micro) in self._sums.items():
            for period in PERIODS:
                start, end = span_s(period, hour * _HOUR_S)
                if end + KEPT_S <= self._now_s:
                    continue
                for key in charged:
                    summed = sums.setdefault((key, period, start, end, currency), [0, 0])
                    summed[0] += calls
                    summed[1] += micro
        return [Charge(*place, *summed) for place, summed in sums.items()]


def _entry(line: ChainLine) -> Entry | None:
    """The call that a line tells of; None for other lines, and for what a newer version wrote."""
    if line.kind != "entry":
        return None
    try:
        return _line.decode(line.text).entry
    except ValueError:
        return None


def _moment(entry: Entry) -> datetime:
    return entry.at if entry.at.tzinfo is not None else entry.at.replace(tzinfo=UTC)


def _cost(entry: Entry) -> int:
    """What it cost; no more than anything can cost, whatever a file says."""
    return max(-MAX_MICRO, min(entry.cost, MAX_MICRO))
