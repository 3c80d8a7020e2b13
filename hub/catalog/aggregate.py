"""Parts put together: a whole virtual server, and what two states of one differ in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from operator import itemgetter

from msgspec import Raw, Struct

from hub.catalog.definitions import Definitions
from hub.catalog.steps import Steps
from hub.catalog.virtual_servers import Part
from hub.domain.announcement import LIST_KINDS, ListChanged, ListKind
from hub.domain.catalog import Exposure, Kind, VirtualServer
from hub.domain.desired import VirtualServerSpec
from hub.policy.uri_templates import parse
from hub.snapshot import Snapshot


class Contents(Struct, frozen=True, kw_only=True):
    """What a virtual server is put together from; equal contents make an equal one."""

    spec: VirtualServerSpec
    parts: Mapping[str, Part]
    """By upstream."""
    definitions: Mapping[str, Definitions]
    """By upstream, as far as they were listed."""
    system_tools: Mapping[str, Exposure]
    is_whole: bool
    """Whether everyone who gets in sees all of it."""


def assemble(tenant: str, contents: Contents, revision: int) -> Steps[VirtualServer]:
    """The virtual server made of ``contents``; lists are in the order of exposed names."""
    spec, parts = contents.spec, [contents.parts[name] for name in sorted(contents.parts)]
    by_kind: dict[Kind, dict[str, Exposure]] = {}
    for kind in ("tool", "resource", "template", "prompt"):
        by_kind[kind] = yield from _merged(kind, parts)
    identities = {name: found.listing.identity for name, found in contents.definitions.items()}
    return VirtualServer(
        name=spec.name,
        tenant=tenant,
        title=spec.title or spec.name,
        revision=revision,
        instructions=(spec.instructions or "").strip(),
        upstream_instructions={
            name: identity.instructions
            for name, identity in identities.items()
            if identity.instructions
        },
        anonymous=spec.anonymous,
        presentation=spec.presentation,
        tools=by_kind["tool"],
        resources=by_kind["resource"],
        templates=dict(
            sorted(by_kind["template"].items(), key=lambda item: parse(item[0]).specificity)
        ),
        prompts=by_kind["prompt"],
        system_tools=contents.system_tools,
        upstreams=tuple(sorted(contents.parts)),
        upstream_bits={name: bit for part in parts for name, bit in part.upstream_bits.items()},
        upstream_features={
            name: Raw(bytes(identity.protocol_capabilities))
            for name, identity in identities.items()
        },
        upstream_revisions={name: identity.revisions for name, identity in identities.items()},
        shadowed=tuple(exposure for part in parts for exposure in part.shadowed),
        renamed_uris=_renamed_uris(by_kind["resource"].values()),
        cacheable_publicly=contents.is_whole
        and all(found.listing.listing.public for found in contents.definitions.values()),
    )


def is_same(one: Contents, other: Contents) -> bool:
    """Whether two contents make the same virtual server; definitions are compared by identity."""
    return (
        one.spec == other.spec
        and one.parts == other.parts
        and one.definitions == other.definitions
        and one.system_tools == other.system_tools
        and one.is_whole == other.is_whole
    )


def list_changes(old: Snapshot, new: Snapshot) -> Iterator[ListChanged]:
    """Which lists may differ between two snapshots; whoever passes it on compares what it shows."""
    everyone_differs = old.keys != new.keys or old.anonymous != new.anonymous
    for name in old.tenants.keys() - new.tenants.keys():
        yield from (ListChanged(tenant=name, kind=kind) for kind in LIST_KINDS)
    for name, tenant in new.tenants.items():
        before = old.tenants.get(name)
        if before is None:
            continue
        if everyone_differs or before.tables.grants != tenant.tables.grants:
            yield from (ListChanged(tenant=name, kind=kind) for kind in LIST_KINDS)
            continue
        for server in tenant.virtual_servers.values():
            former = before.virtual_servers.get(server.name)
            if former is not None and former is not server:
                for kind in _changed_kinds(former, server):
                    yield ListChanged(tenant=name, kind=kind, virtual_server=server.name)


def _changed_kinds(former: VirtualServer, server: VirtualServer) -> Iterator[ListKind]:
    if (
        former.presentation != server.presentation
        or former.system_tools != server.system_tools
        or former.tools != server.tools
    ):
        yield "tools"
    if former.resources != server.resources or former.templates != server.templates:
        yield "resources"
    if former.prompts != server.prompts:
        yield "prompts"


def _merged(kind: Kind, parts: Sequence[Part]) -> Steps[dict[str, Exposure]]:
    found: dict[str, Exposure] = {}
    for name, exposure in merge(*(part.of_kind(kind).items() for part in parts), key=itemgetter(0)):
        found[name] = exposure
        yield
    return found


def _renamed_uris(resources: Iterable[Exposure]) -> Mapping[str, Mapping[str, str]]:
    """By upstream, the URIs that are exposed only under another one."""
    renamed: dict[str, dict[str, str]] = {}
    unchanged: set[tuple[str, str]] = set()
    for exposure in resources:
        upstream, original = exposure.capability.upstream, exposure.capability.name
        if exposure.name == original:
            unchanged.add((upstream, original))
        else:
            renamed.setdefault(upstream, {}).setdefault(original, exposure.name)
    return {
        upstream: kept
        for upstream, uris in renamed.items()
        if (kept := {uri: shown for uri, shown in uris.items() if (upstream, uri) not in unchanged})
    }
