"""What an open stream is told of: changes of its caller's own lists, updates of its resources."""

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from hub.domain.announcement import LIST_KINDS, Announcement, ListChanged, ListKind, ResourceUpdated
from hub.domain.call import Call
from hub.domain.principal import Principal
from hub.surfaces.mcp.collaborators import Collaborators, Unregister

DEBOUNCE_S: Final = 0.1
"""How long changes of lists are collected before anybody is told of them."""


class Audience(Protocol):
    """Who is told; every method is called on the event loop and returns at once."""

    def list_changed(self, kind: ListKind) -> None:
        """The caller's exposed list is another one now."""
        ...

    def resource_updated(self, uri: str) -> None:
        """A resource that the caller asked for has new content."""
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
        self._timer: asyncio.TimerHandle | None = None
        self._watched: dict[str, Unregister] = {}
        self._closed = False
        self._unregister = [
            given.bus.on_lists(self._tenant, call.virtual_server, self._announced),
            given.revocations.on_change(self.check),
        ]

    def tell_lists(self, kinds: Iterable[ListKind]) -> None:
        """Tell of changes of these lists from now on."""
        for kind in kinds:
            self._told[kind] = self._given.views.digest(self._call, kind)

    def tell_resource(self, uri: str) -> None:
        """Tell of updates of this exposed resource from now on."""
        if uri in self._watched or self._closed:
            return
        server = self._call.virtual_server
        self._watched[uri] = self._given.bus.on_resource(self._tenant, server, uri, self._announced)
        self._given.subscriptions.add(self._tenant, server, uri)

    def forget_resource(self, uri: str) -> None:
        """Tell of updates of this resource no longer."""
        unregister = self._watched.pop(uri, None)
        if unregister is not None:
            unregister()
            self._given.subscriptions.remove(self._tenant, self._call.virtual_server, uri)

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
        for uri in list(self._watched):
            self.forget_resource(uri)

    def _announced(self, announcement: Announcement) -> None:
        if isinstance(announcement, ListChanged):
            self._pending.add(announcement.kind)
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(DEBOUNCE_S, self._tell_changed)
        elif isinstance(announcement, ResourceUpdated):
            self._audience.resource_updated(announcement.uri)

    def _tell_changed(self) -> None:
        self._timer = None
        kinds, self._pending = self._pending, set()
        if "resources" in kinds:
            self._drop_unreadable()
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
        for uri in list(self._watched):
            if not self._given.views.may_read(self._call, uri):
                self.forget_resource(uri)
