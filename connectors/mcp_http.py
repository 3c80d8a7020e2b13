"""MCP upstreams over HTTP, of either era or both, and behind ``transport: auto`` of HTTP+SSE as well."""

import ssl
from collections.abc import Callable
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup
from msgspec import structs

from connectors.errors import ConnectorError, Inconclusive, Unreachable
from connectors.handshake import LISTING_CAPABILITIES
from connectors.http_message import Heads, endpoint_of, header_lines
from connectors.http_pool import HttpPool, Resolve
from connectors.http_settings import HttpSettings
from connectors.legacy_changes import LegacyChanges
from connectors.legacy_sessions import LegacySessions, RefusedError
from connectors.listing import fetch_listing
from connectors.mcp_legacy import LegacyUpstream
from connectors.mcp_modern import ModernUpstream
from connectors.mcp_sse import McpSseConnector
from connectors.modern_changes import ModernChanges
from connectors.opening import opened_first
from connectors.outcome import Outcome
from connectors.probe import (
    leads_to_sse,
    no_revision_in_common,
    probe_legacy,
    probe_modern,
)
from connectors.protocol import Credential, Listing, OnChange, Request, ServerIdentity
from mcp_wire.revisions import era_of

__all__ = ["HttpSettings", "McpHttpConnector"]

DOUBT_AFTER_S: Final = 10.0
"""What was found of an upstream is not questioned before."""


class Changes(Protocol):
    """What an upstream is listened to for, whatever its era."""

    async def start(self) -> None:
        """Begin to listen."""
        ...

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Hear of updates of exactly these resources."""
        ...

    def close(self) -> None:
        """Listen no more."""
        ...


class _Wires:
    """The connections to one upstream, and what it takes to speak either era over them."""

    def __init__(
        self,
        settings: HttpSettings,
        pool: HttpPool,
        *,
        tasks: TaskGroup,
        on_change: OnChange,
        on_doubt: Callable[[], None],
    ) -> None:
        self.pool = pool
        heads = Heads(endpoint_of(settings.url), settings.headers)
        self.modern = ModernUpstream(
            pool,
            heads,
            own=Credential(),
            timeout_s=settings.timeout_s,
            cap_s=settings.timeout_cap_s,
            on_change=on_change,
            on_doubt=on_doubt,
        )
        self.legacy = LegacyUpstream(
            LegacySessions(pool, heads, tasks, cap_s=settings.timeout_cap_s),
            own=Credential(),
            own_capabilities=LISTING_CAPABILITIES,
            timeout_s=settings.timeout_s,
            on_change=on_change,
            on_doubt=on_doubt,
        )

    async def close(self) -> None:
        """End sessions and connections; bounded to 4 s."""
        await self.legacy.sessions.close()
        await self.pool.close()


class _Live:
    """What an upstream was found to speak."""

    def __init__(
        self,
        identity: ServerIdentity,
        *,
        modern: ModernUpstream | None = None,
        legacy: LegacyUpstream | None = None,
        untried: LegacyUpstream | None = None,
        sse: McpSseConnector | None = None,
        changes: Changes | None = None,
    ) -> None:
        self.identity = identity
        self.changes = changes
        self._modern = modern
        self._legacy = legacy
        self._untried = untried
        """The other era of a modern upstream, until the first caller of that era asks for it."""
        self._trying = anyio.Lock()
        self._sse = sse

    def invoke(self, request: Request, credential: Credential) -> Outcome:
        """Send a request in the caller's era, where the upstream speaks it."""
        if self._sse is not None:
            return self._sse.invoke(request, credential)
        if self._modern is not None and era_of(request.revision) == "modern":
            return self._modern.call(request, credential)
        if self._untried is not None:
            return opened_first(lambda: self._try_and_invoke(request, credential), None)
        upstream = self._legacy or self._modern
        if upstream is None:
            raise AssertionError("an upstream of no era")
        return upstream.call(request, credential)

    async def list(self) -> Listing:
        """All definitions. Raises ConnectorError."""
        if self._sse is not None:
            return await self._sse.list()
        upstream = self._modern or self._legacy
        if upstream is None:
            raise AssertionError("an upstream of no era")
        return await fetch_listing(upstream.ask, self.identity.protocol_capabilities)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Have updates of these resources announced."""
        if self._sse is not None:
            return await self._sse.watch(uris)
        return await self.changes.watch(uris) if self.changes is not None else frozenset()

    async def _try_and_invoke(self, request: Request, credential: Credential) -> Outcome:
        async with self._trying:
            if self._untried is not None:
                await self._try(self._untried, request.timeout_s)
                self._untried = None
        return self.invoke(request, credential)

    async def _try(self, untried: LegacyUpstream, within_s: float) -> None:
        """Find out whether the upstream speaks the legacy era as well; that session is ended again.

        A modern server that is never called in the other era is never sent ``initialize``, which
        it would have to refuse.
        """
        try:
            session = await probe_legacy(untried, within_s)
        except ConnectorError:
            return  # no verdict is needed: it is asked in the era it is known to speak
        untried.sessions.end_soon(session)
        self._legacy = untried
        revisions = (*self.identity.revisions, *session.identity.revisions)
        self.identity = structs.replace(self.identity, revisions=revisions)


class McpHttpConnector:
    """One HTTP upstream; see :class:`connectors.protocol.Connector`.

    ``resolve`` says which addresses may be connected to; ``tasks`` runs what outlives a call (the
    streams of changes, notices of cancellation) and must outlive the connector; ``tls`` is shared.
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        resolve: Resolve,
        tasks: TaskGroup,
        on_change: OnChange,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._tasks = tasks
        self._on_change = on_change
        self._tls = tls
        self._opening = anyio.Lock()
        self._wires: _Wires | None = None
        self._sse: McpSseConnector | None = None
        self._live: _Live | None = None
        self._found_at = 0.0
        self._changes: Changes | None = None
        self._is_closed = False

    @property
    def pool(self) -> HttpPool | None:
        """The connections of Streamable HTTP; None before the upstream was first reached for."""
        return self._wires.pool if self._wires is not None else None

    async def open(self) -> ServerIdentity:
        """Find out what the upstream speaks, and listen for changes. Idempotent.

        An upstream that has shown since that it speaks otherwise is asked anew. Raises
        ConnectorError: Inconclusive when it must be asked again, Misconfigured for settings that
        cannot work.
        """
        return (await self._opened()).identity

    async def list(self) -> Listing:
        """All definitions. Raises ConnectorError."""
        return await (await self._opened()).list()

    def invoke(self, request: Request, credential: Credential) -> Outcome:
        """Send one request; see :meth:`connectors.protocol.Connector.invoke`."""
        if self._live is None:
            return opened_first(
                lambda: self._open_and_invoke(request, credential), request.timeout_s
            )
        return self._live.invoke(request, credential)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Have updates of exactly these resources announced; those the upstream agreed to."""
        if not uris and self._live is None:
            return frozenset()
        try:
            live = await self._opened()
        except ConnectorError:
            return frozenset()
        return await live.watch(uris)

    def roots_changed(self, affinity: str) -> None:
        """See :class:`connectors.protocol.Conversing`."""
        if self._sse is not None:
            self._sse.roots_changed(affinity)
        elif self._wires is not None:
            self._wires.legacy.sessions.roots_changed(affinity)

    def left(self, affinity: str) -> None:
        """See :class:`connectors.protocol.Conversing`."""
        if self._sse is not None:
            self._sse.left(affinity)
        elif self._wires is not None:
            self._wires.legacy.sessions.left(affinity)

    async def close(self) -> None:
        """End streams, sessions and connections; bounded to 5 s. Idempotent."""
        self._is_closed = True
        self._stop_listening()
        if self._sse is not None:
            await self._sse.close()
        if self._wires is not None:
            await self._wires.close()

    async def _opened(self) -> _Live:
        if self._live is not None and not self._is_closed:
            return self._live
        async with self._opening:
            if self._is_closed:
                raise Unreachable("The upstream was closed.")
            if self._live is None:
                self._stop_listening()
                live = await self._find()
                if self._is_closed:
                    raise Unreachable("The upstream was closed.")
                if live.changes is not None:
                    self._changes = live.changes
                    await live.changes.start()
                self._live = live
                self._found_at = anyio.current_time()
            return self._live

    async def _open_and_invoke(self, request: Request, credential: Credential) -> Outcome:
        return (await self._opened()).invoke(request, credential)

    async def _find(self) -> _Live:
        if self._settings.transport == "sse":
            return await self._open_sse()
        wires = self._wires = self._wires or self._wire()
        wires.legacy.sessions.start_over()
        found = await probe_modern(wires.modern)
        if found is not None and found.is_proven:
            return self._live_modern(wires, found.identity, untried=wires.legacy)
        try:
            session = await probe_legacy(wires.legacy)
        except RefusedError as error:
            if found is not None:
                return self._live_modern(wires, found.identity)
            return await self._fall_back_to_sse(error)
        changes = LegacyChanges(wires.legacy, self._tasks)
        return _Live(session.identity, legacy=wires.legacy, changes=changes)

    def _live_modern(
        self, wires: _Wires, identity: ServerIdentity, *, untried: LegacyUpstream | None = None
    ) -> _Live:
        changes = ModernChanges(wires.modern, self._tasks, identity.protocol_capabilities)
        return _Live(identity, modern=wires.modern, untried=untried, changes=changes)

    async def _fall_back_to_sse(self, refusal: RefusedError) -> _Live:
        failure = refusal.failure
        if self._settings.transport == "auto" and leads_to_sse(failure):
            try:
                return await self._open_sse()
            except Inconclusive:
                raise
            except ConnectorError:
                pass  # no such server either: the first refusal is what an administrator can act on
        raise no_revision_in_common(failure) from refusal

    async def _open_sse(self) -> _Live:
        sse = McpSseConnector(
            self._settings,
            resolve=self._resolve,
            tasks=self._tasks,
            on_change=self._on_change,
            tls=self._tls,
        )
        try:
            identity = await sse.open()
        except BaseException:
            await sse.close()
            raise
        self._sse = sse
        return _Live(identity, sse=sse)

    def _wire(self) -> _Wires:
        settings = self._settings
        header_lines(settings.headers)
        pool = HttpPool(endpoint_of(settings.url), settings.limits, self._resolve, self._tls)
        return _Wires(
            settings, pool, tasks=self._tasks, on_change=self._on_change, on_doubt=self._doubt
        )

    def _doubt(self) -> None:
        """An answer showed that the upstream speaks otherwise than it did (mcp.md C3)."""
        recently = self._found_at + DOUBT_AFTER_S > anyio.current_time()
        if self._sse is None and not recently:
            self._live = None

    def _stop_listening(self) -> None:
        if self._changes is not None:
            self._changes.close()
            self._changes = None
