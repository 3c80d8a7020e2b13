"""How many open streams want updates of each resource, so that upstreams are watched for just those."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

Honoured = Callable[[frozenset[str]], Awaitable[frozenset[str]]]
"""Which of some exposed URIs upstreams will tell of, once they were asked; waits for them, not for long."""

WatchedChanged = Callable[[str, str, frozenset[str]], Honoured | None]
"""Takes tenant, virtual server and the exposed URIs that somebody wants updates of by now.

None is given back where everything is told of.
"""


class Subscriptions:
    """Counts readers per exposed resource; tells ``changed`` when the set of a virtual server does."""

    def __init__(self, changed: WatchedChanged) -> None:
        self._changed = changed
        self._readers: dict[tuple[str, str], Counter[str]] = {}
        self._honoured: dict[tuple[str, str], Honoured | None] = {}

    def add(self, tenant: str, virtual_server: str, uris: Iterable[str]) -> None:
        """One more stream wants updates of these."""
        readers = self._readers.setdefault((tenant, virtual_server), Counter())
        known = len(readers)
        readers.update(uris)
        if len(readers) > known:
            self._tell(tenant, virtual_server)

    def remove(self, tenant: str, virtual_server: str, uris: Iterable[str]) -> None:
        """One stream less does."""
        readers = self._readers.get((tenant, virtual_server), Counter())
        known = len(readers)
        readers.subtract(uri for uri in uris if uri in readers)
        for uri in [uri for uri, count in readers.items() if count <= 0]:
            del readers[uri]
        if len(readers) < known:
            self._tell(tenant, virtual_server)

    async def honoured(
        self, tenant: str, virtual_server: str, uris: frozenset[str]
    ) -> frozenset[str]:
        """Those of the wanted ones that upstreams will tell of, as far as that shows within 2 s."""
        ask = self._honoured.get((tenant, virtual_server))
        return await ask(uris) if ask is not None else uris

    def watched(self, tenant: str, virtual_server: str) -> frozenset[str]:
        """The exposed URIs that somebody wants updates of."""
        return frozenset(self._readers.get((tenant, virtual_server), ()))

    def _tell(self, tenant: str, virtual_server: str) -> None:
        key = tenant, virtual_server
        readers = self._readers[key]
        self._honoured[key] = self._changed(tenant, virtual_server, frozenset(readers))
        if not readers:
            del self._readers[key], self._honoured[key]
