"""Resource updates: what readers want, in the upstreams' own URIs, and what comes back, in theirs."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from hub.catalog.names import original_uri
from hub.catalog.upstreams import Upstreams
from hub.domain.announcement import Announcement, ElicitationCompleted, ResourceUpdated
from hub.policy.authorize import find_exposure
from hub.snapshot import SnapshotHolder

HONOURED_WITHIN_S: Final = 2.0
"""How long it may take until upstreams have said which resources they will tell of."""

Honoured = Callable[[frozenset[str]], Awaitable[frozenset[str]]]


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
        upstreams.on_completion(
            lambda session, elicitation: publish(ElicitationCompleted(session, elicitation))
        )
        snapshots.on_swap(lambda *_: self._arrange())

    def changed(self, tenant: str, virtual_server: str, uris: frozenset[str]) -> Honoured:
        """These exposed URIs of a virtual server are wanted by now.

        What is given back tells which of some of them upstreams agreed to announce.
        """
        if uris:
            self._wanted[tenant, virtual_server] = uris
        else:
            self._wanted.pop((tenant, virtual_server), None)
        self._arrange()
        return partial(self._honoured, tenant, virtual_server)

    def updated(self, tenant: str, upstream: str, uri: str) -> None:
        """An upstream announced new content of one of its resources."""
        for virtual_server, exposed in self._readers.get((tenant, upstream, uri), ()):
            self._publish(ResourceUpdated(tenant, virtual_server, exposed))

    async def _honoured(
        self, tenant: str, virtual_server: str, uris: frozenset[str]
    ) -> frozenset[str]:
        """Ask upstreams what they agreed to; one that does not say so in time did not."""
        wanted: dict[str, list[tuple[str, str]]] = {}
        for (owner, upstream, uri), readers in self._readers.items():
            for server, exposed in readers:
                if (owner, server) == (tenant, virtual_server) and exposed in uris:
                    wanted.setdefault(upstream, []).append((uri, exposed))
        give_up_at = anyio.current_time() + HONOURED_WITHIN_S
        honoured: set[str] = set()
        for upstream, pairs in wanted.items():
            with anyio.move_on_after(max(0.0, give_up_at - anyio.current_time())):
                agreed = await self._upstreams.watched(tenant, upstream)
                honoured.update(exposed for uri, exposed in pairs if uri in agreed)
        return frozenset(honoured)

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
