"""Listings and desired state for tests of the catalogue, and what is compiled of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Raw

from hub.catalog.names import MemoryLedger
from hub.compile import Compiler, Source, TenantSource
from hub.domain.catalog import Listing, ServerIdentity, UpstreamListing, VirtualServer
from hub.domain.desired import (
    Desired,
    GrantSpec,
    GroupSpec,
    Include,
    KeySpec,
    PrincipalSpec,
    UpstreamSpec,
    VirtualServerSpec,
)
from hub.snapshot import Snapshot

FEATURES = Raw(b'{"tools":{"listChanged":true},"resources":{"subscribe":true},"prompts":{}}')


def tool(name: str, description: str = "", **members: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": members.pop("properties", {})}
    return {"name": name, "description": description, "inputSchema": schema, **members}


def listing(
    upstream: str,
    tools: Iterable[Any] = (),
    *,
    resources: Iterable[Any] = (),
    templates: Iterable[Any] = (),
    prompts: Iterable[Any] = (),
    transport: str = "http",
    instructions: str = "",
    public: bool = False,
) -> UpstreamListing:
    """What an upstream listed; a name stands for a plain definition of that name."""
    return UpstreamListing(
        upstream=upstream,
        identity=ServerIdentity(
            revisions=("2026-07-28",),
            name=upstream,
            instructions=instructions,
            protocol_capabilities=FEATURES,
            transport=transport,
        ),
        listing=Listing(
            tools=_encoded(tool(item) if isinstance(item, str) else item for item in tools),
            resources=_encoded(_named("uri", item) for item in resources),
            templates=_encoded(_named("uriTemplate", item) for item in templates),
            prompts=_encoded(_named("name", item) for item in prompts),
            public=public,
        ),
        listed_at="2026-01-01T00:00:00.000Z",
    )


def desired(
    listings: Sequence[UpstreamListing],
    virtual_servers: Iterable[VirtualServerSpec] = (),
    *,
    grants: Iterable[GrantSpec] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    principals: Iterable[str] = (),
) -> Desired:
    """Desired state with the upstreams of ``listings``, in their order."""
    return Desired(
        upstreams=tuple(
            UpstreamSpec(name=item.upstream, url=f"http://{item.upstream}.example/mcp")
            for item in listings
        ),
        virtual_servers=tuple(virtual_servers),
        grants=tuple(grants),
        groups=tuple(
            GroupSpec(name=name, members=tuple(members)) for name, members in (groups or {}).items()
        ),
        principals=tuple(PrincipalSpec(name=name) for name in principals),
    )


def everything_of(*upstreams: str, name: str = "dev", **settings: Any) -> VirtualServerSpec:
    """A virtual server with all of some upstreams."""
    include = tuple(Include(upstream=upstream) for upstream in upstreams)
    return VirtualServerSpec(name=name, include=include, **settings)


async def compiled(
    listings: Sequence[UpstreamListing],
    virtual_servers: Iterable[VirtualServerSpec] = (),
    *,
    compiler: Compiler | None = None,
    keys: tuple[KeySpec, ...] = (),
    anonymous: bool = False,
    **settings: Any,
) -> Snapshot:
    """The snapshot of one tenant; ``settings`` are those of :func:`desired`."""
    source = TenantSource(
        desired=desired(listings, virtual_servers, **settings),
        listings={item.upstream: item for item in listings},
    )
    compiler = compiler or Compiler(MemoryLedger())
    return await compiler.compile(Source(tenants=(source,), keys=keys, anonymous=anonymous))


async def served(
    listings: Sequence[UpstreamListing],
    *virtual_servers: VirtualServerSpec,
    name: str = "dev",
    compiler: Compiler | None = None,
) -> VirtualServer:
    """One virtual server of what is compiled."""
    snapshot = await compiled(listings, virtual_servers, compiler=compiler)
    return snapshot.tenants["default"].virtual_servers[name]


def shown(server: VirtualServer, name: str) -> dict[str, Any]:
    """A tool as it is listed."""
    definition: dict[str, Any] = json.loads(server.tools[name].fragment)
    return definition


def _encoded(definitions: Iterable[Any]) -> tuple[Raw, ...]:
    return tuple(
        Raw(item if isinstance(item, bytes) else json.dumps(item).encode()) for item in definitions
    )


def _named(member: str, item: Any) -> Any:
    return {member: item, "name": item} if isinstance(item, str) else item
