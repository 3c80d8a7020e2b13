"""What the caller of an open stream may see by now, decided from the snapshot in force."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from hub.domain.announcement import ListKind
from hub.domain.call import Call
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Refusal
from hub.domain.principal import Principal
from hub.identity.resolve import Revoked, identify
from hub.policy.authorize import authorize, find_exposure
from hub.snapshot import SnapshotHolder

MAX_DIGESTS: Final = 4096
"""List digests kept, over all views and virtual servers of one snapshot."""


class CallerViews:
    """Answers for open streams what admission answers for calls, by the same functions.

    Digests are shared by all callers of a view, and made once per snapshot.
    """

    def __init__(
        self, snapshots: SnapshotHolder, revoked: Revoked, now: Callable[[], datetime]
    ) -> None:
        self._snapshots = snapshots
        self._revoked = revoked
        self._now = now
        self._digests: dict[tuple[str, str, str, ListKind], int] = {}
        snapshots.on_swap(lambda _old, _new: self._digests.clear())

    def principal(self, call: Call) -> Principal:
        """Who calls. Raises Refusal; being known is no right to any virtual server."""
        return identify(call, self._snapshots.current, self._revoked, self._now)

    def admits(self, call: Call) -> bool:
        """Whether the caller is still known and may still use its virtual server."""
        return self._reach(call) is not None

    def digest(self, call: Call, kind: ListKind) -> object | None:
        """Equal for equal exposed lists of the caller; None once it is not admitted any more."""
        reach = self._reach(call)
        if reach is None:
            return None
        server, view = reach
        key = (server.tenant, server.name, view.id, kind)
        digest = self._digests.get(key)
        if digest is None:
            listed = ((e.name, e.fragment) for e in _listed(server, view, kind))
            digest = hash(tuple(listed))
            if len(self._digests) < MAX_DIGESTS:
                self._digests[key] = digest
        return digest

    def may_read(self, call: Call, uri: str) -> bool:
        """Whether the caller may read an exposed resource."""
        reach = self._reach(call)
        return reach is not None and find_exposure(reach[0], "resource", uri, reach[1]) is not None

    def _reach(self, call: Call) -> tuple[VirtualServer, View] | None:
        try:
            principal = self.principal(call)
            tenant = self._snapshots.current.tenants.get(principal.tenant)
            if tenant is None:
                return None
            reach = authorize(call, principal, tenant.virtual_servers, tenant.tables)
        except Refusal:
            return None
        if reach.virtual_server is None or reach.view is None:
            return None
        return reach.virtual_server, reach.view


def _listed(server: VirtualServer, view: View, kind: ListKind) -> Iterable[Exposure]:
    """What a list shows; searching replaces the tools themselves by those that find them."""
    if kind == "tools":
        yield from server.system_tools.values()
        shown = [server.tools] if server.presentation == "full" else []
    else:
        shown = [server.resources, server.templates] if kind == "resources" else [server.prompts]
    for exposures in shown:
        yield from (exposure for exposure in exposures.values() if view.allows(exposure.bit))
