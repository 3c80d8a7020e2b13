"""What an open stream is told of: changes of its caller's own lists, updates of its resources."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from hub.domain.announcement import LIST_KINDS, Announcement, ListChanged, ListKind, ResourceUpdated
from hub.domain.call import Call
from hub.domain.principal import Principal
from hub.surfaces.mcp.collaborators import Collaborators, Unregister

DEBOUNCE_S: Final = 0.1
"""How long changes are collected before anybody is told of them."""


class Audience(Protocol):
    """Who is told; every method is called on the event loop and returns at once."""

    def list_changed(self, kind: ListKind) -> None:
        """The caller's exposed list is another one now."""
        ...

    def resource_updated(self, uri: str) -> None:
        """A resource that the caller asked for has new content."""
        ...

    def elicitation_completed(self, elicitation: str) -> None:
        """What the caller was asked by URL is settled."""
        ...

    def dismissed(self) -> None:
        """The caller may not be here any longer."""
        ...


class Feed:
    """Tells one audience of changes in its caller's own view, until it is closed.

    A list counts as changed when its digest differs from the one last told; what was revoked is
    noticed at once, what ran out at the next :meth:`check`.
    """

    def __init__(
        self, given: Collaborators, call: Call, principal: Principal, audience: Audience
    ) -> None:
        self._given = given
        self._call = call
        self._tenant = principal.tenant
        self._audience = audience
        self._told: dict[ListKind, object | None] = {}
        self._pending: set[ListKind] = set()
        self._updated: dict[str, None] = {}
        """Resources that changed and nobody was told of yet, in the order they did."""
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self._watched: dict[str, Unregister] = {}
        self._closed = False
        self._unregister = [
            given.streams.take(principal, call),
            given.bus.on_lists(self._tenant, call.virtual_server, self._announced),
            given.revocations.on_change(self.check),
        ]

    def tell_session(self, session: str) -> None:
        """Tell of what concerns a legacy session, by its nonce."""
        self._unregister.append(self._given.bus.on_session(session, self._announced))

    @property
    def told(self) -> dict[ListKind, object | None]:
        """What the audience knows of lists."""
        return dict(self._told)

    def tell_lists(
        self,
        kinds: Iterable[ListKind],
        known: Mapping[ListKind, object | None] | None = None,
    ) -> None:
        """Tell of changes of these lists from now on, or since what an earlier stream has ``told``."""
        for kind in kinds:
            self._told[kind] = self._given.views.digest(self._call, kind)
            if known is not None and kind in known:
                self._told[kind] = known[kind]
                self._pending.add(kind)
        if self._pending:
            self._plan()

    def tell_resources(self, uris: Iterable[str]) -> None:
        """Tell of updates of these exposed resources from now on."""
        new = [uri for uri in dict.fromkeys(uris) if uri not in self._watched]
        if self._closed or not new:
            return
        server = self._call.virtual_server
        for uri in new:
            self._watched[uri] = self._given.bus.on_resource(
                self._tenant, server, uri, self._announced
            )
        self._given.subscriptions.add(self._tenant, server, new)

    def forget_resources(self, uris: Iterable[str]) -> None:
        """Tell of updates of these resources no longer."""
        known = [uri for uri in uris if uri in self._watched]
        for uri in known:
            self._watched.pop(uri)()
        if known:
            self._given.subscriptions.remove(self._tenant, self._call.virtual_server, known)

    async def confirm(self) -> tuple[str, ...]:
        """The resources whose updates will really be told of; the others are forgotten.

        Nothing is told before this returns; what happens meanwhile is told soon after.
        """
        self._held = True
        try:
            uris = tuple(self._watched)
            honoured = await self.settled() if uris else frozenset[str]()
            self.forget_resources([uri for uri in uris if uri not in honoured])
            return tuple(uri for uri in uris if uri in self._watched)
        finally:
            self._held = False
            if self._pending or self._updated:
                self._plan()

    async def catch_up(self) -> None:
        """Tell once of each resource, as soon as upstreams announce them: updates may have been missed."""
        uris = frozenset(self._watched)
        if uris:
            await self.settled()
            self._updated.update(dict.fromkeys(uris & self._watched.keys()))
            self._plan()

    async def settled(self) -> frozenset[str]:
        """Wait until upstreams were asked for all watched resources; those they will tell of."""
        server, uris = self._call.virtual_server, frozenset(self._watched)
        return await self._given.subscriptions.honoured(self._tenant, server, uris)

    def check(self) -> None:
        """Dismiss the audience when its caller may not be here any longer."""
        if not self._closed and not self._given.views.admits(self._call):
            self._audience.dismissed()

    def dismiss(self) -> None:
        """Send the audience away, whoever it is."""
        self._audience.dismissed()

    def close(self) -> None:
        """Tell nobody anything any more. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for unregister in self._unregister:
            unregister()
        self.forget_resources(list(self._watched))

    def _announced(self, announcement: Announcement) -> None:
        if isinstance(announcement, ListChanged):
            self._pending.add(announcement.kind)
        elif isinstance(announcement, ResourceUpdated):
            self._updated[announcement.uri] = None
        else:
            self._audience.elicitation_completed(announcement.elicitation)
            return
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and not self._closed and not self._held:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(DEBOUNCE_S, self._tell_changed)

    def _tell_changed(self) -> None:
        self._timer = None
        if self._held:
            return
        kinds, self._pending = self._pending, set()
        updated, self._updated = self._updated, {}
        if "resources" in kinds:
            self._drop_unreadable()
        for uri in updated:
            if uri in self._watched:
                self._audience.resource_updated(uri)
        for kind in LIST_KINDS:
            if kind not in kinds:
                continue
            digest = self._given.views.digest(self._call, kind)
            if digest is None:
                self._audience.dismissed()
                return
            if kind in self._told and digest != self._told[kind]:
                self._told[kind] = digest
                self._audience.list_changed(kind)

    def _drop_unreadable(self) -> None:
        views, call = self._given.views, self._call
        self.forget_resources([uri for uri in self._watched if not views.may_read(call, uri)])
