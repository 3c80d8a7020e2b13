"""Resource updates: what readers want, in the upstreams' own URIs, and what comes back, in theirs."""

from collections.abc import Callable

from hub.catalog.names import original_uri
from hub.catalog.upstreams import Upstreams
from hub.domain.announcement import Announcement, ResourceUpdated
from hub.policy.authorize import find_exposure
from hub.snapshot import SnapshotHolder


class Watching:
    """Keeps upstreams announcing updates of exactly those resources that anybody reads.

    Who reads what is counted elsewhere (``hub.live.subscriptions``) and told to :meth:`changed`.
    """

    def __init__(
        self,
        snapshots: SnapshotHolder,
        upstreams: Upstreams,
        publish: Callable[[Announcement], None],
    ) -> None:
        self._snapshots = snapshots
        self._upstreams = upstreams
        self._publish = publish
        self._wanted: dict[tuple[str, str], frozenset[str]] = {}
        """By tenant and virtual server: exposed URIs."""
        self._readers: dict[tuple[str, str, str], set[tuple[str, str]]] = {}
        """By tenant, upstream and its own URI: virtual servers and exposed URIs."""
        self._watched: set[tuple[str, str]] = set()
        """Tenants and upstreams that watch anything."""
        snapshots.on_swap(lambda *_: self._arrange())

    def changed(self, tenant: str, virtual_server: str, uris: frozenset[str]) -> None:
        """These exposed URIs of a virtual server are wanted by now."""
        if uris:
            self._wanted[tenant, virtual_server] = uris
        else:
            self._wanted.pop((tenant, virtual_server), None)
        self._arrange()

    def updated(self, tenant: str, upstream: str, uri: str) -> None:
        """An upstream announced new content of one of its resources."""
        for virtual_server, exposed in self._readers.get((tenant, upstream, uri), ()):
            self._publish(ResourceUpdated(tenant, virtual_server, exposed))

    def _arrange(self) -> None:
        """Find out anew which resource of which upstream each wanted URI is, and watch those."""
        if not self._wanted and not self._watched:
            return
        self._readers = {}
        uris: dict[tuple[str, str], set[str]] = {place: set() for place in self._watched}
        for (tenant, name), wanted in self._wanted.items():
            known = self._snapshots.current.tenants.get(tenant)
            server = known.virtual_servers.get(name) if known is not None else None
            if server is None:
                continue
            for exposed in wanted:
                exposure = find_exposure(server, "resource", exposed, None)
                if exposure is not None:
                    upstream, uri = exposure.capability.upstream, original_uri(exposure, exposed)
                    uris.setdefault((tenant, upstream), set()).add(uri)
                    self._readers.setdefault((tenant, upstream, uri), set()).add((name, exposed))
        self._watched = {place for place, some in uris.items() if some}
        for (tenant, upstream), some in uris.items():
            self._upstreams.watch(tenant, upstream, frozenset(some))
