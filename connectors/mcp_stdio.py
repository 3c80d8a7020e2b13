"""MCP upstreams that are child processes, of either era.

A dual-era server keeps to the era its first request was of, as the SDK's do, so that each child
serves one era, and callers get theirs (2026-07-28 versioning, Backward Compatibility).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw, structs

from connectors.child_groups import ChildGroups
from connectors.errors import (
    ConnectorError,
    ErrorAnswer,
    Misconfigured,
    ProtocolViolation,
    Unreachable,
)
from connectors.handshake import LISTING_CAPABILITIES
from connectors.listing import fetch_listing
from connectors.outcome import Event, Failure
from connectors.protocol import Change, Credential, Listing, OnChange, Request, ServerIdentity
from connectors.stdio_changes import Changes
from connectors.stdio_pool import SessionPool
from connectors.stdio_session import (
    StartFailed,
    StdioSession,
    StdioSettings,
)
from connectors.stdio_slots import Resting, SessionKey, Slot, Wanted
from mcp_wire.jsonrpc import decode_members, string_of
from mcp_wire.revisions import LATEST_MODERN, Era, era_of

__all__ = ["McpStdioConnector", "StdioSettings"]

_INTERACTIVE: Final = frozenset(("elicitation", "sampling", "roots"))
_STATEFUL: Final = "roots"
_STATIC: Final = Credential()
_NAME_MEMBERS: Final = {
    "tools": "name",
    "resources": "uri",
    "templates": "uriTemplate",
    "prompts": "name",
}
LEGACY_CHECK_S: Final = 10.0
"""How long a modern server may take to say that it speaks the legacy era as well."""


class McpStdioConnector:
    """One stdio upstream; see :class:`connectors.protocol.Connector`.

    ``groups`` is the hub's one watchdog; ``tasks`` runs what outlives a call (starting, stopping,
    listening) and must outlive the connector.
    """

    def __init__(
        self,
        settings: StdioSettings,
        *,
        groups: ChildGroups,
        tasks: TaskGroup,
        on_change: OnChange,
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._pool = SessionPool(
            settings, groups, tasks, on_change=on_change, on_closed=self._primary_closed
        )
        self._changes = Changes(tasks, on_change)
        self._opening = anyio.Lock()
        self._attaching = anyio.Lock()
        self._identity: ServerIdentity | None = None
        self._eras: tuple[Era, ...] = ()
        self._undecided = False
        """Whether a modern upstream has yet to show if it speaks the legacy era as well."""
        self._hides = True
        """Whether the upstream may list less to clients that cannot be asked anything."""

    @property
    def logs(self) -> tuple[str, ...]:
        """The last lines that the children wrote to their standard error, oldest first."""
        return self._pool.log.lines

    @property
    def children(self) -> tuple[int, ...]:
        """Process ids of the children that run."""
        return self._pool.pids

    async def open(self) -> ServerIdentity:
        """Start the primary child, find out the eras, listen for changes.

        A primary child that has ended since is started again. Raises ConnectorError.
        """
        async with self._opening, self._primary() as session:
            if self._identity is None:
                await self._settle(session)
        if self._identity is None:
            raise Unreachable("The upstream was closed.")
        return self._identity

    async def list(self) -> Listing:
        """All definitions, from the primary child. Raises ConnectorError."""
        identity = await self.open()
        async with self._primary() as session:
            listing = await fetch_listing(session.ask, identity.protocol_capabilities)
        if session.peer.era == "modern" or not self._hides or self._settings.max_children == 1:
            return listing
        return await self._with_hidden(listing, identity)

    async def invoke(self, request: Request, credential: Credential) -> AsyncGenerator[Event]:
        """Send one request; see :meth:`connectors.protocol.Connector.invoke`.

        A caller of a legacy server that may be asked back has the child to itself meanwhile, so
        that whoever is asked is beyond doubt; a child whose caller left early is not used again.
        """
        try:
            async with asyncio.timeout(request.timeout_s):
                if not self._eras:
                    await self.open()
                wanted = self._wanted(request, credential)
                slot = await self._acquire(wanted, request.timeout_s)
        except (ConnectorError, TimeoutError) as error:
            yield _refused(error)
            return
        session = slot.live
        exchange = session.exchange(request, interactive=wanted.exclusive)
        try:
            if request.log_level is not None:
                await session.allow_logs(request.log_level)
            async for event in exchange:
                yield event
        finally:
            exchange.give_up("The caller gave the request up.")
            answered = not isinstance(exchange.end, Failure) or exchange.end.kind == "error"
            self._pool.release(slot, reusable=answered or not wanted.exclusive)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Have updates of exactly these resources announced by the primary child."""
        self._changes.want(uris)
        if not uris and not self._eras:
            return frozenset()
        try:
            await self.open()
            async with self._primary(), self._attaching:
                return await self._changes.follow()
        except ConnectorError:
            return frozenset()

    def roots_changed(self, affinity: str) -> None:
        """See :class:`connectors.protocol.Conversing`."""
        self._pool.tell(
            lambda key: key.affinity == affinity and _STATEFUL in _declared(Raw(key.capabilities)),
            "notifications/roots/list_changed",
        )

    def left(self, affinity: str) -> None:
        """See :class:`connectors.protocol.Conversing`."""
        self._pool.stop_resting(lambda key: key.affinity == affinity)

    async def close(self) -> None:
        """Stop all children; bounded to 5 s. Idempotent."""
        await self._pool.close()

    @asynccontextmanager
    async def _primary(self) -> AsyncIterator[StdioSession]:
        """The session that lists and announces, listened to. Raises ConnectorError."""
        era = self._eras[0] if self._eras else ""
        key = SessionKey((_STATIC.id, _STATIC.version), era)
        timeout_s = self._settings.start_timeout_s + self._settings.timeout_s
        slot = await self._acquire(Wanted(key=key, primary=True), timeout_s)
        try:
            session = slot.live
            async with self._attaching:
                if not self._changes.hears(session):
                    await self._changes.attach(session)
            slot.kept = self._changes.wants_updates
            yield session
        finally:
            self._pool.release(slot)

    async def _settle(self, session: StdioSession) -> None:
        """Note what the upstream is; for a modern server, whether a child of the other era opens."""
        identity, eras = session.identity, session.eras
        if identity is None:
            raise Unreachable("The child has ended.")
        revisions = identity.revisions
        if eras == ("legacy", "modern"):
            revisions = (*revisions, LATEST_MODERN)
        elif eras == ("modern",) and self._settings.max_children > 1:
            legacy = await self._legacy_identity()
            if legacy is not None:
                eras, revisions = ("modern", "legacy"), (*revisions, *legacy.revisions)
        self._eras = eras
        self._identity = structs.replace(identity, revisions=revisions)

    async def _with_hidden(self, listing: Listing, identity: ServerIdentity) -> Listing:
        """The same with what a legacy server lists only to clients that declare capabilities.

        A child that declares them all lists once; where that makes no difference it is let go, and
        not asked again.
        """
        key = SessionKey(
            (_STATIC.id, _STATIC.version), "legacy", capabilities=bytes(LISTING_CAPABILITIES)
        )
        try:
            slot = await self._pool.acquire(
                Wanted(key=key, exclusive=True), self._settings.start_timeout_s
            )
        except ConnectorError:
            return listing
        try:
            other = await fetch_listing(slot.live.ask, identity.protocol_capabilities)
            fuller = _with_more(listing, other)
            self._hides = fuller != listing
        except ConnectorError:
            return listing
        finally:
            self._pool.release(slot, reusable=self._hides)
        return fuller

    async def _legacy_identity(self) -> ServerIdentity | None:
        """What the server says in a handshake, if it takes one; the child is kept for callers.

        A child that was not ready in time says nothing: it is asked again with the next opening.
        """
        key = SessionKey((_STATIC.id, _STATIC.version), "legacy")
        self._undecided = False
        try:
            slot = await self._pool.acquire(Wanted(key=key, tentative=True), LEGACY_CHECK_S)
        except ConnectorError as error:
            self._undecided = not isinstance(error.__cause__, ErrorAnswer | ProtocolViolation)
            return None
        identity = slot.live.identity
        self._pool.release(slot, reusable=self._settings.isolation == "shared")
        return identity

    async def _acquire(self, wanted: Wanted, timeout_s: float) -> Slot:
        """A place in a session; an upstream that no longer starts as it did is probed anew."""
        try:
            return await self._pool.acquire(wanted, timeout_s)
        except StartFailed:
            if wanted.key.credential == (_STATIC.id, _STATIC.version):
                self._eras, self._identity, self._hides = (), None, True
            raise

    def _wanted(self, request: Request, credential: Credential) -> Wanted:
        era = era_of(request.revision)
        if era not in self._eras or self._settings.max_children == 1:
            era = self._eras[0]
        affinity = request.affinity if self._settings.isolation == "principal" else ""
        capabilities, exclusive = b"{}", False
        if era == "legacy":
            declared = _declared(request.client_capabilities)
            exclusive = not declared.isdisjoint(_INTERACTIVE)
            capabilities = bytes(request.client_capabilities) if declared else b"{}"
            affinity = request.affinity if _STATEFUL in declared else affinity
        return Wanted(
            key=SessionKey((credential.id, credential.version), era, affinity, capabilities),
            environment=credential.environment,
            exclusive=exclusive,
        )

    def _primary_closed(self) -> None:
        self._on_change(Change("closed"))


def _with_more(listing: Listing, other: Listing) -> Listing:
    """A listing with what another child has beside it; what both have may have changed in the first."""
    more: dict[str, tuple[Raw, ...]] = {}
    for kind, member in _NAME_MEMBERS.items():
        definitions: tuple[Raw, ...] = getattr(listing, kind)
        known = {_name_of(definition, member) for definition in definitions}
        others: tuple[Raw, ...] = getattr(other, kind)
        added = (one for one in others if _name_of(one, member) not in known)
        more[kind] = (*definitions, *added)
    return structs.replace(listing, **more)


def _name_of(definition: Raw, member: str) -> str | bytes:
    try:
        name = string_of(decode_members(definition).get(member))
    except msgspec.DecodeError:
        name = None
    return bytes(definition) if name is None else name


def _declared(client_capabilities: Raw) -> frozenset[str]:
    try:
        return frozenset(decode_members(client_capabilities))
    except msgspec.DecodeError:
        return frozenset()


def _refused(error: ConnectorError | TimeoutError) -> Failure:
    """Nothing was sent. What a child wrote is for administrators: ``open`` and ``list`` tell it."""
    if isinstance(error, Resting):
        message = "The upstream failed lately and is started again soon."
        return Failure("unreachable", message, retry_after_s=error.retry_after_s)
    if isinstance(error, StartFailed | Misconfigured):
        return Failure("unreachable", "The upstream could not be started.")
    return Failure("unreachable", str(error) or "The upstream was not ready in time.")
