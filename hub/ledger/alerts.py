"""Announcing that a share of a budget was reached: in the record, in the log, and to a URL.

What was spent is read from the ledger, so that it is what all processes spent together. Each share
is announced once for each subject and period: the process whose row in the store is there first
does it.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Struct

from connectors.address_guard import AddressGuard
from connectors.errors import ConnectorError
from connectors.http_client import HttpClient
from hub.domain.metering import Counter
from hub.domain.record import Entry
from hub.domain.rules import Period
from hub.errors import RecordUnavailable, StoreUnavailableError
from hub.ledger.projection import Terms, period_starts
from hub.metering.count_keys import CountKey, read_key
from hub.metering.money import format_money
from hub.stores.ledger import Charge

_log = logging.getLogger(__name__)

OPERATION: Final = "budget/alert"
"""What the record's entry of an alert has as its operation."""
RETRIES_S: Final = (1.0, 5.0, 30.0)
"""Pauses before an alert that could not be posted is posted again."""
POST_S: Final = 10.0
_AGAIN_S: Final = 1.0
_POSTS_AT_ONCE: Final = 8
_SUCCESS: Final = range(200, 300)
_PORTS: Final = {"http": 80, "https": 443}


class Store(Protocol):
    """What alerts need of the ledger's store; all raise StoreUnavailableError."""

    async def charges(
        self, starts: Mapping[Period, int], counters: Iterable[str] | None = None
    ) -> list[Charge]:
        """What was counted in the periods that began at ``starts``."""
        ...

    async def claim(self, charge: Charge, share: str, at: str) -> bool:
        """Whether the caller is the one to announce a share."""
        ...


class Alert(Struct, frozen=True, kw_only=True):
    """What is posted as JSON. Times are RFC 3339 in UTC; money in micro-units and as text."""

    type: str = "io.portico/budget-alert"
    id: str
    """The same whenever this alert is posted again; also the ``call`` of its entry."""
    at: datetime
    tenant: str
    budget: str
    per: str
    subject: str
    """Whose uses are counted: a principal, a group, …, as ``per`` says."""
    share: float
    """Of the amount, that was reached."""
    spent_micro: int
    spent: str
    amount_micro: int
    amount: str
    currency: str
    period: Period
    period_starts: datetime
    period_ends: datetime


class Alerts:
    """Announces what budgets have to be announced: ``async with alerts.running()``."""

    def __init__(
        self,
        store: Store,
        *,
        terms: Terms,
        append: Callable[[Entry], Awaitable[None]],
        client: HttpClient,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        retries_s: Iterable[float] = RETRIES_S,
    ) -> None:
        """``append`` takes an entry into the record; awaiting it may raise RecordUnavailable."""
        self._store = store
        self._terms = terms
        self._append = append
        self._client = client
        self._now = now
        self._new_id = new_id
        self._retries_s = tuple(retries_s)
        self._keys: set[str] | None = None
        """Counts to look at; None: all of them, as at the start."""
        self._wanted = anyio.Event()
        self._wanted.set()
        self._known: set[tuple[str, int, str]] = set()
        """Key, beginning of the period and share of what was announced, by whomever."""
        self._posting = anyio.Semaphore(_POSTS_AT_ONCE)

    def charged(self, keys: Iterable[str]) -> None:
        """Something was added to these counts."""
        if self._keys is not None:
            self._keys |= set(keys)
        self._wanted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Announces until the end of the block; posts under way are given up then.

        Enter it when the record is running, in a process that stays.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, tasks)
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()

    async def _watch(self, tasks: TaskGroup) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            keys, self._keys = self._keys, set()
            try:
                await self._check(keys, tasks)
            except StoreUnavailableError as error:
                _log.warning("budgets cannot be looked at: %s", error)
                await self._again_later(keys)
            except Exception:  # noqa: BLE001 -- a loop in the background; logged with its traceback
                _log.exception("budgets could not be looked at")
                await self._again_later(keys)

    async def _again_later(self, keys: set[str] | None) -> None:
        self._keys = None if keys is None or self._keys is None else self._keys | keys
        await anyio.sleep(_AGAIN_S)
        self._wanted.set()

    async def _check(self, keys: set[str] | None, tasks: TaskGroup) -> None:
        now = self._now()
        starts = period_starts(now)
        self._known = {known for known in self._known if known[1] in starts.values()}
        for charge in await self._store.charges(starts, keys):
            counter = self._terms(charge.counter)
            if counter is None or (counter.period, counter.currency) != (
                charge.period,
                charge.currency,
            ):
                continue
            for share in _reached(counter, charge.micro):
                await self._announce_once(charge, counter, share, tasks)

    async def _announce_once(
        self, charge: Charge, counter: Counter, share: Decimal, tasks: TaskGroup
    ) -> None:
        written = f"{share.normalize():f}"
        known = charge.counter, charge.starts_s, written
        if known in self._known:
            return
        now = self._now()
        if await self._store.claim(charge, written, now.isoformat()):
            alert = _alert(self._new_id(), now, charge, counter, share)
            await self._announce(alert)
            if counter.alert_url is not None:
                tasks.start_soon(self._post, counter.alert_url, counter.guarded, alert)
        self._known.add(known)

    async def _announce(self, alert: Alert) -> None:
        _log.warning(
            "budget %s of %s %s: %s of %s are spent",
            alert.budget, alert.per, alert.subject, alert.spent, alert.amount,
            extra={"tenant": alert.tenant, "call": alert.id},
        )  # fmt: skip
        try:
            await self._append(entry_of(alert))
        except RecordUnavailable:
            _log.exception("an alert is not in the record", extra={"call": alert.id})

    async def _post(self, url: str, guarded: bool, alert: Alert) -> None:
        guard = _guard(url, guarded=guarded)
        body = msgspec.json.encode(alert)
        failure = ""
        for pause_s in (0.0, *self._retries_s):
            await anyio.sleep(pause_s)
            try:
                async with self._posting:
                    status = await self._client.post(
                        url, body, guard=guard, content_type="application/json", within_s=POST_S
                    )
            except ConnectorError as error:
                failure = str(error)
                continue
            if status in _SUCCESS:
                return
            failure = f"status {status}"
        _log.error("an alert could not be posted: %s", failure, extra={"call": alert.id})


def entry_of(alert: Alert) -> Entry:
    """The record's entry of an alert; it is no use and costs nothing."""
    return Entry(
        call=alert.id,
        at=alert.at,
        tenant=alert.tenant,
        surface="metering",
        operation=OPERATION,
        target_kind="budget",
        target=f"{alert.budget}/{alert.per}:{alert.subject}",
        outcome="ok",
        reason=f"{alert.spent} of {alert.amount}",
        rules=(f"{alert.budget}=alert",),
        delivered="none",
    )


def _reached(counter: Counter, micro: int) -> Iterator[Decimal]:
    """The shares that are reached; one that does not block is announced when it is spent, too."""
    if counter.kind != "budget":
        return
    shares = {Decimal(str(share)) for share in counter.alert_at}
    if not counter.blocks:
        shares.add(Decimal(1))
    for share in sorted(shares):
        if micro >= share * counter.amount:
            yield share


def _alert(call: str, now: datetime, charge: Charge, counter: Counter, share: Decimal) -> Alert:
    key = read_key(charge.counter) or CountKey("", counter.kind, counter.rule, "", charge.counter)
    return Alert(
        id=call,
        at=now,
        tenant=key.tenant,
        budget=counter.rule,
        per=key.per,
        subject=key.subject or (key.tenant if key.per == "tenant" else ""),
        share=float(share),
        spent_micro=charge.micro,
        spent=format_money(charge.micro, charge.currency),
        amount_micro=counter.amount,
        amount=format_money(counter.amount, counter.currency),
        currency=counter.currency,
        period=charge.period,
        period_starts=datetime.fromtimestamp(charge.starts_s, UTC),
        period_ends=datetime.fromtimestamp(charge.ends_s, UTC),
    )


def _guard(url: str, *, guarded: bool) -> AddressGuard:
    """Lets through public addresses, and what a platform administrator wrote."""
    parts = urlsplit(url)
    if guarded or parts.hostname is None:
        return AddressGuard()
    port = parts.port or _PORTS.get(parts.scheme, 443)
    return AddressGuard(frozenset(((parts.hostname, port),)))
