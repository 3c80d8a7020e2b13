"""Grants compiled to views, and the one decision made from them."""

import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import KINDS, Exposure, Kind, VirtualServer
from hub.domain.desired import GrantSpec
from hub.domain.grant import Decision, View
from hub.domain.principal import ANONYMOUS, Principal

EMPTY_VIEW = View(id="none", bits=b"")


class Tables:
    """What grants allow, by principal. Views are made on first use and shared by equal grants."""

    def __init__(
        self,
        grants: Iterable[GrantSpec],
        virtual_servers: Mapping[str, VirtualServer],
        *,
        anonymous_everywhere: bool = False,
    ) -> None:
        self._grants = tuple(grants)
        self._virtual_servers = virtual_servers
        self._anonymous_everywhere = anonymous_everywhere
        self._size = 1 + max(
            (exposure.bit for exposure in exposures_of(virtual_servers.values())), default=-1
        )
        self._by_group: dict[str, list[int]] = {}
        self._by_principal: dict[str, list[int]] = {}
        for index, grant in enumerate(self._grants):
            if grant.group is not None:
                self._by_group.setdefault(grant.group, []).append(index)
            elif grant.principal is not None:
                self._by_principal.setdefault(grant.principal, []).append(index)
        self._views: dict[tuple[int, ...], View] = {}
        self._anonymous: View | None = None

    def view_of(self, principal: Principal) -> View:
        """The view of a principal. Equal grants give the same object."""
        if principal.kind == ANONYMOUS:
            return self._anonymous_view()
        indexes = self._grants_of(principal)
        view = self._views.get(indexes)
        if view is None:
            view = self._views[indexes] = self._compile(indexes)
        return view

    def decide(self, principal: Principal, exposure: Exposure) -> Decision:
        """Whether ``principal`` may list, search and call ``exposure``; denied unless granted."""
        if not self.view_of(principal).allows(exposure.bit):
            return Decision(allowed=False, layer="grant")
        if principal.kind == ANONYMOUS:
            return Decision(allowed=True, layer="virtual_server", rule="anonymous")
        for index in self._grants_of(principal):
            if exposure.bit in self._bits_of(self._grants[index]):
                return Decision(allowed=True, layer="grant", rule=self._grants[index].name)
        raise AssertionError("a view allows what no grant names")

    def _grants_of(self, principal: Principal) -> tuple[int, ...]:
        indexes = set(self._by_principal.get(principal.name, ()))
        for group in principal.groups:
            indexes.update(self._by_group.get(group, ()))
        return tuple(sorted(indexes))

    def _compile(self, indexes: tuple[int, ...]) -> View:
        grants = [self._grants[index] for index in indexes]
        bits = {bit for grant in grants for bit in self._bits_of(grant)}
        return self._view(bits, frozenset(grant.virtual_server for grant in grants))

    def _anonymous_view(self) -> View:
        if self._anonymous is None:
            open_to_all = [
                server
                for server in self._virtual_servers.values()
                if server.anonymous or self._anonymous_everywhere
            ]
            self._anonymous = self._view(
                {exposure.bit for exposure in exposures_of(open_to_all)},
                frozenset(server.name for server in open_to_all),
            )
        return self._anonymous

    def _bits_of(self, grant: GrantSpec) -> set[int]:
        server = self._virtual_servers.get(grant.virtual_server)
        if server is None:
            return set()
        return {
            exposure.bit
            for kind in KINDS
            for exposure in server.of_kind(kind).values()
            if _names(grant, kind, exposure.name)
        }

    def _view(self, bits: set[int], virtual_servers: frozenset[str]) -> View:
        bitmap = bytearray((self._size + 7) // 8)
        for bit in bits:
            bitmap[bit >> 3] |= 1 << (bit & 7)
        digest = hashlib.sha256(bitmap)
        digest.update("\0".join(sorted(virtual_servers)).encode())
        reach = virtual_servers | {DEFAULT_VIRTUAL_SERVER} if virtual_servers else virtual_servers
        return View(id=digest.hexdigest()[:16], bits=bytes(bitmap), virtual_servers=reach)


def exposures_of(virtual_servers: Iterable[VirtualServer]) -> Iterable[Exposure]:
    """Every exposure of every kind."""
    for server in virtual_servers:
        for kind in KINDS:
            yield from server.of_kind(kind).values()


def _names(grant: GrantSpec, kind: Kind, name: str) -> bool:
    if grant.tools is None and grant.resources is None and grant.prompts is None:
        return True
    patterns = {
        "tool": grant.tools,
        "resource": grant.resources,
        "template": grant.resources,
        "prompt": grant.prompts,
    }[kind]
    return patterns is not None and any(fnmatchcase(name, pattern) for pattern in patterns)
