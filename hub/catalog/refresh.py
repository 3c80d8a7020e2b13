"""One running upstream: connected in the background, listed again and again, never waited for."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import anyio
from msgspec import Struct

from connectors.circuit import Circuit
from connectors.errors import ConnectorError
from connectors.protocol import Change, Connector, Conversing, Listing, OnChange, ServerIdentity
from hub.catalog.guarded import GuardedConnector, NoConnector
from hub.domain.catalog import UpstreamListing, UpstreamState, UpstreamStatus
from hub.domain.desired import UpstreamSpec
from hub.errors import PorticoError

logger = logging.getLogger(__name__)

DEBOUNCE_S: Final = 0.1
"""Changes that are announced within this time are fetched together."""

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 60.0
ATTEMPT_S: Final = 60.0
"""How long connecting and listing may take together."""

CLOSE_S: Final = 5.0
"""How long requests under way may go on when their upstream is removed or changed."""

LEASE_S: Final = 30.0
"""After this long another replica takes over from one that fell silent; renewed three times in it."""


class ListingStore(Protocol):
    """Where last known good listings are kept."""

    async def load(self, tenant: str) -> tuple[UpstreamListing, ...]:
        """Every listing of a tenant."""
        ...

    async def save(self, tenant: str, listing: UpstreamListing) -> bool:
        """Keep a listing; True when it says something else than the one before."""
        ...

    async def forget(self, tenant: str, upstream: str) -> None:
        """Drop the listing of an upstream that is no more."""
        ...


class Leases(Protocol):
    """Who may do what only one replica should."""

    def acquire(self, name: str, holder: str, ttl_s: float) -> bool:
        """Take or renew a lease; False while somebody else holds it."""
        ...


class Surroundings(Struct, frozen=True, kw_only=True):
    """What the running upstreams of a process share."""

    connect: Callable[[UpstreamSpec, OnChange], Connector]
    """Makes a connector. Raises ConnectorError."""
    store: ListingStore
    leases: Leases
    holder: str
    """This replica's name among those that ask for leases."""
    now: Callable[[], datetime]
    clock: Callable[[], float]
    """Seconds that never go back."""
    jitter: Callable[[], float]
    """Random numbers from 0 to 1."""


class LiveUpstream:
    """One upstream of one tenant, for as long as its settings stay as they are."""

    def __init__(
        self,
        tenant: str,
        spec: UpstreamSpec,
        around: Surroundings,
        *,
        listing: UpstreamListing | None,
        listed: Callable[["LiveUpstream", bool], None],
        updated: Callable[["LiveUpstream", str], None],
        completed: Callable[[str, str], None],
    ) -> None:
        """``listing``: the last known good one from before.

        ``listed`` hears of each attempt and whether it changed the listing, ``updated`` of the URI
        of each watched resource that has new content, ``completed`` of elicitations that are settled:
        whose conversation it was, and the id.
        """
        self.tenant = tenant
        self.spec = spec
        self.listing = listing
        self.began_s = around.clock()
        self.tried = listing is not None or not spec.enabled
        """Whether there is nothing to be waited for: the first attempt is over, or not needed."""
        self.released = listing is not None
        """Whether its listing was handed out for compiling."""
        self.ready = anyio.Event()
        """Set when its first listing serves, or could not be had."""
        self.problems: tuple[str, ...] = ()
        self.is_leased = False
        """Whether this replica is the one that refreshes it."""
        self._around = around
        self._listed = listed
        self._updated = updated
        self._completed = completed
        self._circuit = Circuit(around.clock, around.jitter, self._circuit_opened)
        self._live = False
        self._error = ""
        self._since = listing.listed_at if listing is not None else self._timestamp()
        self._failures = 0
        self._lost = False
        self._wanted = anyio.Event()
        self._waiting: list[anyio.Event] = []
        self._watched: frozenset[str] = frozenset()
        self._watch = anyio.Event()
        self._asked: frozenset[str] = frozenset()
        """Resources that the upstream was last asked to tell of, and those it agreed to."""
        self._honoured: frozenset[str] = frozenset()
        self._was_asked = anyio.Event()
        self._scope = anyio.CancelScope()
        self._is_made = True
        self._conversing: Conversing | None = None
        self.connector = GuardedConnector(spec.name, self._connected(), self._circuit)
        if self.tried:
            self.ready.set()

    @property
    def status(self) -> UpstreamStatus:
        """How it is doing."""
        return UpstreamStatus(
            upstream=self.spec.name,
            state=self._state(),
            since=self._since,
            error=self._error,
            problems=self.problems,
        )

    async def run(self) -> None:
        """Connect and list, on interval, on change and on demand, until :meth:`end`."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_watching)
                while True:
                    waiting, self._waiting = self._waiting, []
                    self._wanted = anyio.Event()
                    try:
                        await self._attempt()
                    finally:
                        for one in waiting:
                            one.set()
                    await self._rest()

    async def end(self) -> None:
        """Stop, let requests under way end for a while, and close the connector."""
        self._scope.cancel()
        for one in self._waiting:
            one.set()
        self.ready.set()
        idle = anyio.Event()
        self.connector.on_idle(idle.set)
        try:
            with anyio.move_on_after(CLOSE_S):
                await idle.wait()
        finally:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await self.connector.close()

    async def refresh(self) -> None:
        """List now, and return when that was tried."""
        if not self.spec.enabled or self._scope.cancel_called:
            return
        done = anyio.Event()
        self._waiting.append(done)
        self._wanted.set()
        await done.wait()

    def watch(self, uris: frozenset[str]) -> None:
        """Have updates of exactly these resources announced."""
        if uris != self._watched:
            self._watched = uris
            self._watch.set()

    def roots_changed(self, affinity: str) -> None:
        """Tell its conversations with these callers that their roots changed."""
        if self._conversing is not None:
            self._conversing.roots_changed(affinity)

    def left(self, affinity: str) -> None:
        """Have it end the conversations of a caller that will not come back."""
        if self._conversing is not None:
            self._conversing.left(affinity)

    async def watched(self) -> frozenset[str]:
        """The resources whose updates it agreed to announce; waits until it was asked."""
        while self._asked != self._watched and self.spec.enabled:
            await self._was_asked.wait()
        return self._honoured

    def adopt(self, listing: UpstreamListing) -> None:
        """Take over what the replica that refreshes has listed."""
        if not self.is_leased and self._is_news(listing.identity, listing.listing):
            self.listing = listing
            self._listed(self, True)

    async def _attempt(self) -> None:
        news = False
        try:
            self._renew_lease()
            if not self._is_made:
                self.connector = GuardedConnector(self.spec.name, self._connected(), self._circuit)
            with anyio.fail_after(ATTEMPT_S):
                identity = await self.connector.open()
                listing = await self.connector.list() if self.is_leased else None
            if listing is not None:
                news = await self._take(identity, listing)
            self._succeed()
        except ConnectorError as error:
            self._fail(str(error))
        except TimeoutError:
            self._fail(f"no answer within {ATTEMPT_S:.0f} s")
        except Exception:
            logger.exception("upstream %s could not be refreshed", self.spec.name)
            self._fail("failed in an unexpected way; the log says more")
        self.tried = True
        if self.listing is None:
            self.ready.set()
        self._listed(self, news)

    async def _take(self, identity: ServerIdentity, listing: Listing) -> bool:
        found = UpstreamListing(
            upstream=self.spec.name,
            identity=identity,
            listing=listing,
            listed_at=self._timestamp(),
        )
        news = self._is_news(identity, listing)
        if news:
            self.listing = found
        try:
            await self._around.store.save(self.tenant, found)
        except PorticoError as error:
            logger.warning("the listing of %s cannot be kept: %s", self.spec.name, error)
        return news

    async def _rest(self) -> None:
        """Wait until the next attempt is due, keeping the lease meanwhile."""
        due_s = self._around.clock() + self._pause_s()
        while (left_s := due_s - self._around.clock()) > 0 and not self._wanted.is_set():
            was_leased = self.is_leased
            with anyio.move_on_after(min(left_s, LEASE_S / 3)):
                await self._wanted.wait()
            self._renew_lease()
            if self.is_leased and not was_leased:
                return
        await anyio.sleep(FIRST_BACKOFF_S if self._lost else DEBOUNCE_S)

    def _pause_s(self) -> float:
        if self._failures == 0:
            return self.spec.refresh_s * (0.9 + 0.2 * self._around.jitter())
        doubled = FIRST_BACKOFF_S * 2.0 ** min(self._failures, 10)
        return min(doubled, LONGEST_BACKOFF_S) * (0.5 + 0.5 * self._around.jitter())

    async def _keep_watching(self) -> None:
        while True:
            await self._watch.wait()
            self._watch = anyio.Event()
            wanted, honoured = self._watched, frozenset[str]()
            try:
                with anyio.fail_after(ATTEMPT_S):
                    honoured = await self.connector.watch(wanted)
            except (ConnectorError, TimeoutError) as error:
                # It is asked again when the upstream is back.
                logger.info("resources of %s cannot be watched: %s", self.spec.name, error)
            except Exception:
                logger.exception("resources of %s could not be watched", self.spec.name)
            self._asked, self._honoured = wanted, honoured
            self._was_asked.set()
            self._was_asked = anyio.Event()

    def _changed(self, change: Change) -> None:
        if change.what == "resource":
            self._updated(self, change.uri)
        elif change.what == "elicitation":
            self._completed(change.affinity, change.uri)
        elif change.what != "closed":
            self._wanted.set()
        elif self._failures == 0:
            self._lost = True
            self._leave_live("the connection was lost")
            self._wanted.set()

    def _circuit_opened(self) -> None:
        if self._live:
            self._leave_live("calls fail again and again")
            self._wanted.set()

    def _state(self) -> UpstreamState:
        if not self.spec.enabled:
            return "disabled"
        if self._live:
            return "live"
        if self.listing is not None:
            return "stale"
        return "down" if self.tried else "pending"

    def _succeed(self) -> None:
        self._circuit.succeeded()
        self._failures, self._error = 0, ""
        if self._live:
            return
        self._live, self._since = True, self._timestamp()
        if self._watched:
            self._watch.set()
        if self._lost:
            # Whatever was missed while it was away is made up for by one announcement each.
            self._lost = False
            for uri in self._watched:
                self._updated(self, uri)

    def _fail(self, error: str) -> None:
        if not self.tried:
            self._since = self._timestamp()
        self._failures += 1
        self._leave_live(error)

    def _leave_live(self, error: str) -> None:
        self._error = error
        if self._live:
            self._live, self._since = False, self._timestamp()

    def _connected(self) -> Connector:
        """Its connector; one that cannot be made is tried again with each attempt."""
        if not self.spec.enabled:
            return NoConnector("The upstream is disabled.")
        try:
            made = self._around.connect(self.spec, self._changed)
        except ConnectorError as error:
            self._is_made = False
            return NoConnector(str(error))
        self._is_made = True
        self._conversing = made if isinstance(made, Conversing) else None
        return made

    def _is_news(self, identity: ServerIdentity, listing: Listing) -> bool:
        known = self.listing
        return known is None or known.identity != identity or known.listing != listing

    def _renew_lease(self) -> None:
        name = f"refresh/{self.tenant}/{self.spec.name}"
        self.is_leased = self._around.leases.acquire(name, self._around.holder, LEASE_S)

    def _timestamp(self) -> str:
        now = self._around.now().isoformat(timespec="milliseconds")
        return now.replace("+00:00", "Z")
