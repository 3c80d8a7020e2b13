"""One tenant compiled: definitions, parts, virtual servers and tables, each reused while it can be."""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Raw, Struct

from hub.catalog.aggregate import Contents, assemble, is_same
from hub.catalog.definitions import Definitions, read_listing
from hub.catalog.holding import Screening, screened
from hub.catalog.known_rules import KnownRules, MakeGuardrail, known_rules
from hub.catalog.names import Names
from hub.catalog.steps import Steps
from hub.catalog.system_tools import SELF_DESCRIPTION, system_tools_of
from hub.catalog.virtual_servers import Bits, Part, PartSpec, part_of, part_of_default
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import (
    SYSTEM_VIRTUAL_SERVER,
    CapabilityId,
    UpstreamListing,
    UpstreamStatus,
    VirtualServer,
)
from hub.domain.desired import Desired, GrantSpec, Include, VirtualServerSpec
from hub.policy.tables import Masks, Tables, is_whole
from hub.snapshot import TenantSnapshot

_SPARE_BITS: Final = 4096
"""Places of bitmaps that may lie idle beyond those in use before all are given out anew."""


class TenantSource(Struct, frozen=True, kw_only=True):
    """What one tenant is compiled from: plain serialisable data."""

    desired: Desired
    listings: Mapping[str, UpstreamListing] = {}
    """Last known good, by upstream."""


class _KnownTables(Struct, frozen=True):
    """Tables, and what they were made from."""

    tables: Tables
    grants: tuple[GrantSpec, ...]
    servers: Mapping[str, VirtualServer]
    anonymous: bool

    def is_of(
        self, grants: tuple[GrantSpec, ...], servers: Mapping[str, VirtualServer], anonymous: bool
    ) -> bool:
        """Whether these are made of the very same."""
        return (
            self.anonymous == anonymous
            and self.grants == grants
            and self.servers.keys() == servers.keys()
            and all(self.servers[name] is server for name, server in servers.items())
        )


class Compiled:
    """What is taken over from one compile to the next."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.bits = Bits()
        self.definitions: dict[str, Definitions] = {}
        self.parts: dict[tuple[str, str], tuple[object, Part]] = {}
        """By virtual server and upstream: what it was made from, and the part."""
        self.servers: dict[str, tuple[Contents, VirtualServer]] = {}
        self.tables: _KnownTables | None = None
        self.screenings: dict[str, Screening] = {}
        """By upstream: what guardrails let through of its definitions."""
        self.rules: KnownRules | None = None

    @property
    def is_wasteful(self) -> bool:
        """Whether most places of the bitmaps belong to nothing any more."""
        used = sum(len(part.made) + len(part.shadowed) for _, part in self.parts.values())
        return len(self.bits) > 2 * used + _SPARE_BITS


class Draft:
    """One compile of one tenant on top of what the last one left."""

    def __init__(
        self,
        before: Compiled,
        source: TenantSource,
        *,
        anonymous: bool,
        revision: int,
        make: MakeGuardrail,
    ) -> None:
        """``make`` makes guardrails of what was written."""
        self._before = before
        self._after = Compiled(before.names)
        self._after.bits = before.bits
        self._listings = source.listings
        self._desired = source.desired
        self._anonymous = anonymous
        self._revision = revision
        self._specs = {spec.name: spec for spec in source.desired.virtual_servers}
        self._specs.pop(SYSTEM_VIRTUAL_SERVER, None)
        self._specs.setdefault(
            DEFAULT_VIRTUAL_SERVER, VirtualServerSpec(name=DEFAULT_VIRTUAL_SERVER)
        )
        self._upstreams = {spec.name: spec for spec in source.desired.upstreams}
        self._after.rules = known_rules(before.rules, source.desired, make)

    @property
    def names(self) -> Names:
        """The tenant's names."""
        return self._before.names

    @property
    def tenant(self) -> str:
        """The tenant's name."""
        return self._desired.tenant

    def kept(self) -> Compiled:
        """What the next compile starts from."""
        return self._after

    def build(self) -> Steps[None]:
        """Every part, in an order that no configuration file or database has a say in."""
        self._after.parts = {}
        for name, upstream in sorted(self._upstreams.items()):
            listing = self._listings.get(name)
            if listing is None or not upstream.enabled:
                continue
            screening = self._before.screenings.get(name)
            known = None if screening is None else screening.found
            if known is None or known.listing is not listing:
                known = yield from read_listing(listing, known)
            self._after.definitions[name] = yield from self._screened(name, known)
        others: dict[str, list[Part]] = {name: [] for name in self._upstreams}
        for server in sorted(self._specs.keys() - {DEFAULT_VIRTUAL_SERVER}):
            for spec in self._part_specs(server):
                others[spec.upstream].append((yield from self._part(spec)))
        for spec in self._part_specs(DEFAULT_VIRTUAL_SERVER):
            yield from self._part(spec, tuple(others[spec.upstream]))

    def _screened(self, name: str, found: Definitions) -> Steps[Definitions]:
        screen = self._rules.screen
        screening = self._before.screenings.get(name)
        if screening is None or not screening.is_of(found, screen):
            screening = yield from screened(found, screen)
        self._after.screenings[name] = screening
        return screening.passed

    @property
    def _rules(self) -> KnownRules:
        rules = self._after.rules
        if rules is None:
            raise RuntimeError("rules are known from the start")
        return rules

    def assembled(self, statuses: Mapping[str, UpstreamStatus]) -> Steps[TenantSnapshot]:
        """The tenant's part of the snapshot, once every name is settled."""
        servers = {SYSTEM_VIRTUAL_SERVER: self._system_server()}
        for name, spec in sorted(self._specs.items()):
            servers[name] = yield from self._server(spec)
        tables = yield from self._tables(servers)
        return TenantSnapshot(
            name=self.tenant,
            virtual_servers=servers,
            tables=tables,
            rules=self._rules.compiled(self.tenant, servers, self._body_of),
            statuses=statuses,
            problems=self._problems(),
            held={name: one.held for name, one in self._after.screenings.items() if one.held},
        )

    def _body_of(self, capability: CapabilityId) -> Raw | None:
        found = self._after.definitions.get(capability.upstream)
        return None if found is None else found.body_of(capability)

    def _part_specs(self, server: str) -> Iterator[PartSpec]:
        spec = self._specs[server]
        includes: dict[str, list[Include]] = {}
        if server == DEFAULT_VIRTUAL_SERVER:
            includes = {name: [] for name in self._upstreams}
        for include in spec.include:
            if include.upstream in self._upstreams:
                includes.setdefault(include.upstream, []).append(include)
        reserved = system_tools_of(spec.presentation, spec.include)
        for upstream in sorted(includes):
            yield PartSpec(
                virtual_server=server,
                upstream=upstream,
                includes=tuple(includes[upstream]),
                prefix=spec.prefix,
                reserved=frozenset(name.casefold() for name in reserved),
            )

    def _part(self, spec: PartSpec, others: tuple[Part, ...] = ()) -> Steps[Part]:
        definitions = self._after.definitions.get(spec.upstream)
        origin = (spec, definitions, others)
        place = (spec.virtual_server, spec.upstream)
        known_origin, known = self._before.parts.get(place, (None, None))
        if known is None or known_origin != origin:
            bits = self._after.bits
            if spec.virtual_server == DEFAULT_VIRTUAL_SERVER:
                known = yield from part_of_default(
                    spec, definitions, others, self.names, bits, known
                )
            else:
                known = yield from part_of(spec, definitions, self.names, bits, known)
        self._after.parts[place] = (origin, known)
        return known

    def _server(self, spec: VirtualServerSpec) -> Steps[VirtualServer]:
        parts = {
            place[1]: part
            for place, (_, part) in self._after.parts.items()
            if place[0] == spec.name
        }
        grants = [grant for grant in self._desired.grants if grant.virtual_server == spec.name]
        contents = Contents(
            spec=spec,
            parts=parts,
            definitions={
                name: found for name, found in self._after.definitions.items() if name in parts
            },
            system_tools=system_tools_of(spec.presentation, spec.include),
            is_whole=spec.anonymous
            and spec.name != DEFAULT_VIRTUAL_SERVER
            and all(is_whole(grant) for grant in grants),
        )
        known = self._before.servers.get(spec.name)
        if known is None or not is_same(known[0], contents):
            known = (contents, (yield from assemble(self.tenant, contents, self._revision)))
        self._after.servers[spec.name] = known
        return known[1]

    def _system_server(self) -> VirtualServer:
        return VirtualServer(
            name=SYSTEM_VIRTUAL_SERVER,
            tenant=self.tenant,
            title="Portico",
            system_tools=SELF_DESCRIPTION,
        )

    def _tables(self, servers: Mapping[str, VirtualServer]) -> Steps[Tables]:
        grants = tuple(grant for grant in self._desired.grants if grant.virtual_server in servers)
        known = self._before.tables
        made_of = {name: server for name, (_, server) in self._after.servers.items()}
        if known is None or not known.is_of(grants, made_of, self._anonymous):
            masks = yield from self._masks(grants)
            tables = Tables(grants, servers, anonymous_everywhere=self._anonymous, masks=masks)
            known = _KnownTables(tables, grants, made_of, self._anonymous)
        self._after.tables = known
        return known.tables

    def _masks(self, grants: tuple[GrantSpec, ...]) -> Steps[Masks]:
        parts: dict[str, list[Part]] = {SYSTEM_VIRTUAL_SERVER: []}
        parts.update((name, []) for name in self._specs)
        for (server, _), (_, part) in self._after.parts.items():
            parts[server].append(part)
        whole: dict[str, int] = {}
        for server, drawn in parts.items():
            whole[server] = 0
            for part in drawn:
                whole[server] |= part.mask_of_all()
                yield
        named: dict[str, int] = {}
        for grant in grants:
            if is_whole(grant):
                named[grant.name] = whole[grant.virtual_server]
                continue
            mask = 0
            for part in parts[grant.virtual_server]:
                mask |= part.mask_of(grant)
                yield
            named[grant.name] = mask
        return Masks(grants=named, servers=whole)

    def _problems(self) -> Mapping[str, tuple[str, ...]]:
        problems = {name: list(found.problems) for name, found in self._after.definitions.items()}
        for (server, upstream), (_, part) in self._after.parts.items():
            problems.setdefault(upstream, []).extend(
                f"virtual server {server!r}: {problem}" for problem in part.problems
            )
        return {upstream: tuple(found) for upstream, found in problems.items() if found}
