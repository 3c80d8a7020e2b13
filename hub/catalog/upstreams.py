"""The running upstreams of all tenants: what answers calls, and what lists are made of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from connectors.protocol import Connector
from hub.catalog.guarded import NoConnector
from hub.catalog.refresh import LiveUpstream, Surroundings
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import UpstreamListing, UpstreamStatus, VirtualServer
from hub.domain.desired import UpstreamSpec
from hub.errors import NotFoundError
from hub.snapshot import Snapshot, SnapshotHolder

FIRST_LISTING_S: Final = 2.0
"""How long an upstream that was never listed may delay lists, counted from its start."""

END_S: Final = 5.0
"""How long closing everything may take when the hub stops."""

_ANY_TIMEOUT_S: Final = 60.0
_CLOCK_GRAIN_S: Final = 0.05
"""By how much a timer may be early."""


class Statuses(Mapping[str, UpstreamStatus]):
    """How the upstreams of one tenant are doing right now."""

    def __init__(self, upstreams: Mapping[str, LiveUpstream]) -> None:
        self._upstreams = upstreams

    def __getitem__(self, upstream: str) -> UpstreamStatus:
        return self._upstreams[upstream].status

    def __iter__(self) -> Iterator[str]:
        return iter(self._upstreams)

    def __len__(self) -> int:
        return len(self._upstreams)


class Upstreams:
    """Starts, replaces and ends upstreams, each apart from the others; nobody waits for any of them.

    Listings that are had for the first time are handed out together: at once when every upstream
    has been tried, or 2 s after the last was started. So names do not depend on who starts fastest.
    """

    def __init__(
        self,
        around: Surroundings,
        snapshots: SnapshotHolder,
        *,
        listings_changed: Callable[[], None],
        resource_updated: Callable[[str, str, str], None],
    ) -> None:
        """``listings_changed`` asks for a compile; ``resource_updated`` takes tenant, upstream, URI.

        Both are called on the event loop and return at once.
        """
        self._around = around
        self._tenants: dict[str, dict[str, LiveUpstream]] = {}
        self._listings_changed = listings_changed
        self._resource_updated = resource_updated
        self._completed: Callable[[str, str], None] = lambda _session, _elicitation: None
        self._tasks: TaskGroup | None = None
        self._lock = anyio.Lock()
        snapshots.on_swap(lambda _, new: self._served(new))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run upstreams until the end of the block; those applied before start now."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for upstream in self._all():
                self._start(upstream)
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()
                await self._close_all()

    async def apply(self, tenant: str, specs: Sequence[UpstreamSpec]) -> None:
        """Run exactly these: start what is new, end what is gone, replace what changed.

        Returns before any of them answers. Raises what the store of listings raises.
        """
        async with self._lock:
            running = self._tenants.setdefault(tenant, {})
            stored: dict[str, UpstreamListing] = {}
            if not running or any(
                one.spec.enabled and not one.is_leased for one in running.values()
            ):
                stored = {item.upstream: item for item in await self._around.store.load(tenant)}
            for name in running.keys() - {spec.name for spec in specs}:
                self._end(running.pop(name))
                await self._around.store.forget(tenant, name)
            for spec in specs:
                self._apply(running, tenant, spec, stored.get(spec.name))

    def listings(self, tenant: str) -> Mapping[str, UpstreamListing]:
        """The last known good listing of each upstream that ever had one, for compiling."""
        upstreams = self._tenants.get(tenant, {}).values()
        settled = not any(self._is_awaited(upstream) for upstream in upstreams)
        found: dict[str, UpstreamListing] = {}
        for upstream in upstreams:
            if upstream.listing is not None and (upstream.released or settled):
                upstream.released = True
                found[upstream.spec.name] = upstream.listing
        return found

    def statuses(self, tenant: str) -> Mapping[str, UpstreamStatus]:
        """How upstreams are doing: a mapping that stays true."""
        return Statuses(self._tenants.setdefault(tenant, {}))

    def first_listing(self, virtual_server: VirtualServer) -> Awaitable[None] | None:
        """See :class:`hub.pipeline.Catalogue`."""
        upstreams = self._tenants.get(virtual_server.tenant, {})
        awaited = [
            upstream
            for name in virtual_server.upstreams
            if (upstream := upstreams.get(name)) is not None and not upstream.ready.is_set()
        ]
        now_s = self._around.clock()
        left_s = max((FIRST_LISTING_S + one.began_s - now_s for one in awaited), default=0.0)
        return self._first(awaited, left_s) if left_s > 0 else None

    def reached(self, tenant: str, upstream: str) -> LiveUpstream | None:
        """An upstream with its specification and what reaches it; None for one that is gone."""
        tenants = self._tenants.get(tenant)
        return None if tenants is None else tenants.get(upstream)

    def connector(self, tenant: str, upstream: str) -> Connector:
        """What reaches an upstream; one that is gone or left alone fails with ``unreachable``."""
        found = self._tenants.get(tenant, {}).get(upstream)
        return found.connector if found is not None else NoConnector("The upstream was removed.")

    def timeout_s(self, tenant: str, upstream: str) -> float:
        """How long requests of an upstream may be silent."""
        found = self._tenants.get(tenant, {}).get(upstream)
        return found.spec.timeout_s if found is not None else _ANY_TIMEOUT_S

    def isolates(self, tenant: str, upstream: str) -> bool:
        """Whether each principal has conversations of its own with an upstream."""
        found = self._tenants.get(tenant, {}).get(upstream)
        return found is not None and found.spec.isolation == "principal"

    async def refresh(self, tenant: str, upstream: str) -> UpstreamStatus:
        """List an upstream now; its status when that was tried. Raises NotFoundError."""
        found = self._tenants.get(tenant, {}).get(upstream)
        if found is None:
            raise NotFoundError(f"There is no upstream '{upstream}'.")
        await found.refresh()
        return found.status

    def logs(self, tenant: str, upstream: str) -> Sequence[str]:
        """The last lines that an upstream's children wrote to standard error, oldest first."""
        found = self._tenants.get(tenant, {}).get(upstream)
        return found.connector.logs if found is not None else ()

    async def tried(self, tenant: str, within_s: float) -> None:
        """Wait until each upstream answered or failed once, but no longer than that."""
        with anyio.move_on_after(within_s):
            for upstream in list(self._tenants.get(tenant, {}).values()):
                await upstream.ready.wait()

    def watch(self, tenant: str, upstream: str, uris: frozenset[str]) -> None:
        """Have updates of exactly these resources of an upstream announced."""
        found = self._tenants.get(tenant, {}).get(upstream)
        if found is not None:
            found.watch(uris)

    def on_completion(self, listener: Callable[[str, str], None]) -> None:
        """Have ``listener`` told of elicitations that are settled: whose conversation, and the id."""
        self._completed = listener

    def roots_changed(self, tenant: str, principal: str, session: str) -> None:
        """Tell upstreams, each in its own conversation with this legacy session, of changed roots."""
        for name, upstream in self._tenants.get(tenant, {}).items():
            own = f"{tenant}/{principal}" if self.isolates(tenant, name) else session
            upstream.roots_changed(own)

    def left(self, tenant: str, session: str) -> None:
        """Have upstreams end their conversations with a legacy session that is over."""
        for upstream in self._tenants.get(tenant, {}).values():
            upstream.left(session)

    async def watched(self, tenant: str, upstream: str) -> frozenset[str]:
        """The resources whose updates an upstream agreed to announce, once it was asked."""
        found = self._tenants.get(tenant, {}).get(upstream)
        return await found.watched() if found is not None else frozenset()

    def _apply(
        self,
        running: dict[str, LiveUpstream],
        tenant: str,
        spec: UpstreamSpec,
        stored: UpstreamListing | None,
    ) -> None:
        known = running.get(spec.name)
        if known is not None and _settings(known.spec) == _settings(spec):
            known.spec = spec
            if stored is not None:
                known.adopt(stored)
            return
        running[spec.name] = LiveUpstream(
            tenant,
            spec,
            self._around,
            listing=known.listing if known is not None else stored,
            listed=self._listed,
            updated=lambda one, uri: self._resource_updated(tenant, one.spec.name, uri),
            completed=lambda session, elicitation: self._completed(session, elicitation),
        )
        self._start(running[spec.name])
        if known is not None:
            self._end(known)

    def _start(self, upstream: LiveUpstream) -> None:
        if self._tasks is None or not upstream.spec.enabled:
            return
        upstream.began_s = self._around.clock()
        self._tasks.start_soon(upstream.run, name=f"upstream {upstream.spec.name}")
        if not upstream.tried:
            later_s = FIRST_LISTING_S + _CLOCK_GRAIN_S
            asyncio.get_running_loop().call_later(later_s, self._listed, upstream, False)

    def _end(self, upstream: LiveUpstream) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(upstream.end)

    async def _close_all(self) -> None:
        with anyio.move_on_after(END_S, shield=True):
            async with anyio.create_task_group() as tasks:
                for upstream in self._all():
                    tasks.start_soon(upstream.connector.close)

    def _all(self) -> list[LiveUpstream]:
        return [one for upstreams in self._tenants.values() for one in upstreams.values()]

    async def _first(self, awaited: Sequence[LiveUpstream], left_s: float) -> None:
        with anyio.move_on_after(left_s):
            for upstream in awaited:
                await upstream.ready.wait()

    def _listed(self, upstream: LiveUpstream, news: bool) -> None:
        """Ask for a compile when there is something for it."""
        others = self._tenants.get(upstream.tenant, {}).values()
        held_back = [one for one in others if one.listing is not None and not one.released]
        settled = not any(self._is_awaited(one) for one in others)
        if (news and upstream.released) or (held_back and settled):
            self._listings_changed()

    def _is_awaited(self, upstream: LiveUpstream) -> bool:
        waited_s = self._around.clock() - upstream.began_s
        return not upstream.tried and waited_s < FIRST_LISTING_S

    def _served(self, snapshot: Snapshot) -> None:
        """Let go of whoever waits for what this snapshot brings; take over what compiling found."""
        for tenant in snapshot.tenants.values():
            listed = tenant.virtual_servers[DEFAULT_VIRTUAL_SERVER].upstream_features
            for name, upstream in self._tenants.get(tenant.name, {}).items():
                upstream.problems = tenant.problems.get(name, ())
                if name in listed:
                    upstream.ready.set()


def _settings(spec: UpstreamSpec) -> UpstreamSpec:
    """What of an upstream makes another connector when it changes."""
    return replace(spec, refresh_s=0.0, source="api")
