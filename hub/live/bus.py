"""Publish and subscribe inside the process: hints only, delivered to whoever listens right now."""

from collections.abc import Callable
from typing import TypeVar

from hub.domain.announcement import Announcement, ListChanged, ResourceUpdated

Key = TypeVar("Key")
Listener = Callable[[Announcement], None]
"""Called on the event loop; returns at once and does not raise."""


class Bus:
    """Takes announcements and hands them to the listeners of their tenant and virtual server.

    Resource updates are looked up by URI, so that an update costs as much as it has readers.
    """

    def __init__(self) -> None:
        self._lists: dict[tuple[str, str], dict[object, Listener]] = {}
        self._resources: dict[tuple[str, str, str], dict[object, Listener]] = {}
        self._sessions: dict[str, dict[object, Listener]] = {}

    def publish(self, announcement: Announcement) -> None:
        """Hand ``announcement`` to everyone it concerns."""
        if isinstance(announcement, ListChanged):
            self._publish_list(announcement)
        elif isinstance(announcement, ResourceUpdated):
            self._publish_resource(announcement)
        else:
            for listener in list(self._sessions.get(announcement.session, {}).values()):
                listener(announcement)

    def on_lists(self, tenant: str, virtual_server: str, listener: Listener) -> Callable[[], None]:
        """Hear of list changes of one virtual server; what is returned ends it, and is idempotent."""
        return _register(self._lists, (tenant, virtual_server), listener)

    def on_resource(
        self, tenant: str, virtual_server: str, uri: str, listener: Listener
    ) -> Callable[[], None]:
        """Hear of updates of one exposed resource; what is returned ends it, and is idempotent."""
        return _register(self._resources, (tenant, virtual_server, uri), listener)

    def on_session(self, session: str, listener: Listener) -> Callable[[], None]:
        """Hear of what concerns one legacy session; what is returned ends it, and is idempotent."""
        return _register(self._sessions, session, listener)

    def _publish_list(self, changed: ListChanged) -> None:
        for (tenant, virtual_server), listeners in list(self._lists.items()):
            if tenant == changed.tenant and changed.virtual_server in (None, virtual_server):
                for listener in list(listeners.values()):
                    listener(changed)

    def _publish_resource(self, updated: ResourceUpdated) -> None:
        key = (updated.tenant, updated.virtual_server, updated.uri)
        for listener in list(self._resources.get(key, {}).values()):
            listener(updated)


def _register(
    table: dict[Key, dict[object, Listener]], key: Key, listener: Listener
) -> Callable[[], None]:
    token = object()
    table.setdefault(key, {})[token] = listener

    def unregister() -> None:
        listeners = table.get(key)
        if listeners is not None and listeners.pop(token, None) is not None and not listeners:
            del table[key]

    return unregister
