"""How many open streams want updates of each resource, so that upstreams are watched for just those."""

from collections import Counter
from collections.abc import Callable

WatchedChanged = Callable[[str, str, frozenset[str]], None]
"""Takes tenant, virtual server and the exposed URIs that somebody wants updates of by now."""


class Subscriptions:
    """Counts readers per exposed resource; tells ``changed`` when the set of a virtual server does."""

    def __init__(self, changed: WatchedChanged) -> None:
        self._changed = changed
        self._readers: dict[tuple[str, str], Counter[str]] = {}

    def add(self, tenant: str, virtual_server: str, uri: str) -> None:
        """One more stream wants updates of ``uri``."""
        readers = self._readers.setdefault((tenant, virtual_server), Counter())
        readers[uri] += 1
        if readers[uri] == 1:
            self._changed(tenant, virtual_server, frozenset(readers))

    def remove(self, tenant: str, virtual_server: str, uri: str) -> None:
        """One stream less does."""
        readers = self._readers.get((tenant, virtual_server))
        if readers is None or uri not in readers:
            return
        readers[uri] -= 1
        if readers[uri] > 0:
            return
        del readers[uri]
        if not readers:
            del self._readers[tenant, virtual_server]
        self._changed(tenant, virtual_server, frozenset(readers))

    def watched(self, tenant: str, virtual_server: str) -> frozenset[str]:
        """The exposed URIs that somebody wants updates of."""
        return frozenset(self._readers.get((tenant, virtual_server), ()))
