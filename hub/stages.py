"""What the stages of the pipeline work with, as the pipeline sees it."""

from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from hub.admission import Admitted, ProviderName
from hub.domain.call import Call
from hub.domain.catalog import VirtualServer
from hub.domain.metering import Counter, Hold
from hub.domain.outcome import Outcome
from hub.domain.record import Entry
from hub.identity.resolve import Revoked
from hub.snapshot import SnapshotHolder


class Provider(Protocol):
    """What answers a routed call."""

    def invoke(self, admitted: Admitted) -> Outcome:
        """The outcome of the call; nothing happens before its first event is awaited.

        Awaiting may raise Refusal; what upstreams do wrong is a Failure event.
        """
        ...


class Recorder(Protocol):
    """Keeps one entry per call."""

    def reserve(self, call: str) -> None:
        """Keep room for the largest entry until this call's own is appended.

        Raises RecordUnavailable.
        """
        ...

    def append(self, entry: Entry) -> "Future[None]":
        """Take the entry at once; what is returned completes when the entry is durable."""
        ...

    def digest(self, tenant: str, content: bytes) -> str:
        """The keyed digest that stands for content in an entry."""
        ...

    def refused_before_identify(self, source: str, reason: str) -> None:
        """Count what was no call; one entry a minute tells how many there were."""
        ...


class Catalogue(Protocol):
    """What admission asks of the running catalogue."""

    def first_listing(self, virtual_server: VirtualServer) -> Awaitable[None] | None:
        """A wait of at most 2 s for upstreams that were never listed; None when there are none."""
        ...


class Meter(Protocol):
    """Counts uses and money against limits and budgets."""

    @property
    def waits(self) -> bool:
        """Whether somebody has to be asked: then :meth:`reserved` is awaited, not :meth:`reserve`."""
        ...

    def reserve(
        self, call: str, counters: tuple[Counter, ...], micro: int, at: datetime | None
    ) -> Hold:
        """Take one call, and ``micro`` of every budget, of all counters or of none.

        Raises Refusal ``limit`` or ``budget``.
        """
        ...

    def reserved(
        self, call: str, counters: tuple[Counter, ...], micro: int, at: datetime | None
    ) -> Awaitable[Hold]:
        """The same. Who is cancelled meanwhile holds nothing."""
        ...

    def park(self, hold: Hold) -> None:
        """The call waits for its caller: it keeps the money it reserved, and nothing else."""
        ...

    def unpark(self, hold: Hold, micro: int) -> None:
        """A call that was parked has ended and cost ``micro``. Never raises."""
        ...

    def settle(self, hold: Hold, micro: int) -> None:
        """The call has ended and cost ``micro``; the second time does nothing. Never raises."""
        ...


class Observer(Protocol):
    """Metrics and traces; costs nothing where it is off."""

    def started(self, call: Call) -> Call:
        """A call enters; what goes on in its place names this call's span as ``traceparent``."""
        ...

    def forwarded(self, call: Call, upstream: str) -> Call:
        """It goes to an upstream; what is handed on names the upstream request's span."""
        ...

    def ended(self, call: Call, entry: Entry, upstream_us: int | None) -> None:
        """Its entry was handed to the recorder; ``upstream_us``: since it was forwarded, if it was."""
        ...


class Stages(Struct, frozen=True, kw_only=True):
    """Everything the pipeline asks on a call's way."""

    snapshots: SnapshotHolder
    revoked: Revoked
    catalogue: Catalogue
    recorder: Recorder
    meter: Meter
    observer: Observer
    providers: Mapping[ProviderName, Provider]
    now: Callable[[], datetime]
    key_used: Callable[[str, str], None] | None = None
    """Told the id of each key that proved a caller, and from where."""
