"""Grants compiled to views, and the one decision made from them.

A mask is an integer whose set bits are those of exposures and upstreams: the sum of a grant. A view
is the sum of the masks of a principal's grants. Each exposure has a bit of its own in its virtual
server, and names in ``default_bit`` the one of its appearance in ``default``, so that a grant on a
virtual server reaches the same through ``/mcp``, while a grant on ``default`` opens nothing else.
Each upstream has one bit, which says who may know how it is doing.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import KINDS, Exposure, Kind, VirtualServer
from hub.domain.desired import GrantSpec
from hub.domain.grant import Decision, View
from hub.domain.principal import ANONYMOUS, Principal, Role
from hub.policy.patterns import Patterns, patterns_of

PLATFORM: Final[Role] = "platform_admin"
"""Whoever runs the installation may use everything in it; every call is recorded as theirs."""

MAX_KNOWN: Final = 4096
"""Principals whose view is found without looking at their grants."""

ViewKey = tuple[int, ...] | Literal["all", "open"]
"""What a view is made from: indexes of grants, everything, or what is open to anybody."""


class Exposing(Protocol):
    """A virtual server, or the part of it that draws on one upstream."""

    @property
    def shadowed(self) -> Sequence[Exposure]:
        """What a name of another capability keeps out."""
        ...

    @property
    def upstream_bits(self) -> Mapping[str, int]:
        """By upstream: its bit."""
        ...

    def of_kind(self, kind: Kind) -> Mapping[str, Exposure]:
        """The exposures of one kind, by exposed name."""
        ...


class Masks(Struct, frozen=True):
    """What grants and whole virtual servers sum up to."""

    grants: Mapping[str, int]
    """By name of the grant."""
    servers: Mapping[str, int]
    """By name of the virtual server: all of it."""


class Tables:
    """What grants allow, by principal. Views are made on first use and shared by equal grants."""

    def __init__(
        self,
        grants: Iterable[GrantSpec],
        virtual_servers: Mapping[str, VirtualServer],
        *,
        anonymous_everywhere: bool = False,
        masks: Masks | None = None,
    ) -> None:
        self.grants = tuple(grant for grant in grants if grant.virtual_server in virtual_servers)
        """What the tables were made from."""
        self._masks = masks or masks_of(self.grants, virtual_servers)
        self._open = frozenset(
            server.name
            for server in virtual_servers.values()
            if server.anonymous or anonymous_everywhere
        )
        self._by_group: dict[str, list[int]] = {}
        self._by_principal: dict[str, list[int]] = {}
        for index, grant in enumerate(self.grants):
            if grant.group is not None:
                self._by_group.setdefault(grant.group, []).append(index)
            elif grant.principal is not None:
                self._by_principal.setdefault(grant.principal, []).append(index)
        self._views: dict[ViewKey, View] = {}
        self._known: dict[int, tuple[Principal, View]] = {}
        """Views of the principals that called last, by the identity of what stands for them."""

    def view_of(self, principal: Principal) -> View:
        """The view of a principal. Equal grants give the same object."""
        known = self._known.get(id(principal))
        if known is not None and known[0] is principal:
            return known[1]
        key = self._view_key(principal)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._compile(key)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[id(principal)] = principal, view
        return view

    def decide(self, principal: Principal, exposure: Exposure) -> Decision:
        """Whether ``principal`` may list, search and call ``exposure``; denied unless granted."""
        if not self.view_of(principal).allows(exposure.bit):
            return Decision(allowed=False, layer="grant")
        key = self._view_key(principal)
        if key == "open":
            return Decision(allowed=True, layer="virtual_server", rule="anonymous")
        if key == "all":
            return Decision(allowed=True, layer="role", rule=PLATFORM)
        return Decision(
            allowed=True, layer="grant", rule=self.grants_naming(principal, exposure)[0]
        )

    def grants_naming(self, principal: Principal, exposure: Exposure) -> tuple[str, ...]:
        """The grants of a principal that give an exposure; for explaining, not for deciding."""
        names = (self.grants[index].name for index in self._grants_of(principal))
        return tuple(name for name in names if self._masks.grants[name] >> exposure.bit & 1)

    def all_naming(self, exposure: Exposure) -> tuple[str, ...]:
        """The grants of anybody that give an exposure; for explaining, not for deciding."""
        names = (grant.name for grant in self.grants)
        return tuple(name for name in names if self._masks.grants[name] >> exposure.bit & 1)

    def _view_key(self, principal: Principal) -> ViewKey:
        if principal.kind == ANONYMOUS:
            return "open"
        return "all" if PLATFORM in principal.roles else self._grants_of(principal)

    def _grants_of(self, principal: Principal) -> tuple[int, ...]:
        indexes = set(self._by_principal.get(principal.name, ()))
        for group in principal.groups:
            indexes.update(self._by_group.get(group, ()))
        return tuple(sorted(indexes))

    def _compile(self, key: ViewKey) -> View:
        if isinstance(key, str):
            names = self._open if key == "open" else frozenset(self._masks.servers)
            return _view((self._masks.servers[name] for name in names), names)
        grants = [self.grants[index] for index in key]
        return _view(
            (self._masks.grants[grant.name] for grant in grants),
            frozenset(grant.virtual_server for grant in grants),
        )


def masks_of(grants: Iterable[GrantSpec], virtual_servers: Mapping[str, VirtualServer]) -> Masks:
    """The masks, from scratch; ``hub.compile`` sums them up from parts that did not change."""
    servers = {name: mask_of_all(server) for name, server in virtual_servers.items()}
    return Masks(
        grants={
            grant.name: servers[grant.virtual_server]
            if is_whole(grant)
            else mask_of(grant, virtual_servers[grant.virtual_server])
            for grant in grants
        },
        servers=servers,
    )


def is_whole(grant: GrantSpec) -> bool:
    """Whether a grant gives everything of its virtual server, now and later."""
    return grant.tools is None and grant.resources is None and grant.prompts is None


def mask_of_all(exposing: Exposing) -> int:
    """Every bit of a virtual server or part."""
    exposures = [exposure for kind in KINDS for exposure in exposing.of_kind(kind).values()]
    return _sum((*exposures, *exposing.shadowed), exposing.upstream_bits.values())


def mask_of(grant: GrantSpec, exposing: Exposing) -> int:
    """The bits of what a grant names, and of the upstreams it comes from.

    An upstream that exposes nothing yet is within a grant that names everything of some kind.
    """
    patterns = _patterns(grant)
    if not patterns:
        return 0
    named = [
        exposure
        for kind, wanted in patterns.items()
        for name, exposure in exposing.of_kind(kind).items()
        if wanted.match(name)
    ]
    named += [
        exposure
        for exposure in exposing.shadowed
        if exposure.kind in patterns and patterns[exposure.kind].match(exposure.name)
    ]
    known = {exposure.capability.upstream for exposure in named}
    if any(wanted.everything for wanted in patterns.values()):
        known.update(exposing.upstream_bits)
    bits = [bit for upstream, bit in exposing.upstream_bits.items() if upstream in known]
    return _sum(named, bits)


def _patterns(grant: GrantSpec) -> dict[Kind, Patterns]:
    lists: dict[Kind, tuple[str, ...] | None] = {
        "tool": grant.tools,
        "resource": grant.resources,
        "template": grant.resources,
        "prompt": grant.prompts,
    }
    return {kind: patterns_of(items) for kind, items in lists.items() if items}


def _sum(exposures: Sequence[Exposure], more: Iterable[int]) -> int:
    bits = [exposure.bit for exposure in exposures]
    bits += (exposure.default_bit for exposure in exposures if exposure.default_bit is not None)
    bits += more
    if not bits:
        return 0
    bitmap = bytearray((max(bits) >> 3) + 1)
    for bit in bits:
        bitmap[bit >> 3] |= 1 << (bit & 7)
    return int.from_bytes(bitmap, "little")


def _view(masks: Iterable[int], virtual_servers: frozenset[str]) -> View:
    total = 0
    for mask in masks:
        total |= mask
    bitmap = total.to_bytes((total.bit_length() + 7) // 8, "little")
    digest = hashlib.sha256(bitmap)
    digest.update("\0".join(sorted(virtual_servers)).encode())
    reach = virtual_servers | {DEFAULT_VIRTUAL_SERVER} if virtual_servers else virtual_servers
    return View(id=digest.hexdigest()[:16], bits=bitmap, virtual_servers=reach)
