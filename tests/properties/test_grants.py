"""One decision: what a caller sees, finds and calls is the same, and the rest does not exist for it.

Every question goes through the pipeline with all its stages, the real record and the real providers.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from connectors.protocol import Credential
from hub.audit.recorder import Recorder
from hub.cache import PageCache
from hub.catalog.names import MemoryLedger
from hub.catalog.search import ToolSearch
from hub.catalog.upstreams import Upstreams
from hub.compile import Compiler
from hub.domain.call import Action, Call, CallerTraits, Target, TargetKind
from hub.domain.catalog import KINDS, CapabilityId, Exposure, Kind, UpstreamListing, VirtualServer
from hub.domain.desired import (
    ArgumentRule,
    GrantSpec,
    Include,
    KeySpec,
    Override,
    VirtualServerSpec,
)
from hub.domain.outcome import Failure, Refusal, Result
from hub.domain.principal import Evidence, Principal
from hub.identity.api_keys import digest_of, new_key
from hub.live.revocation import Revocations
from hub.metering.local import LocalCounting
from hub.metering.meter import Meter
from hub.pipeline import Pipeline, Stages
from hub.providers.capabilities import Capabilities
from hub.providers.catalogue import Catalogue
from hub.providers.self_description import SelfDescription
from hub.snapshot import Snapshot, SnapshotHolder
from hub.telemetry.metrics import Metrics
from hub.vault.key_ring import KeyRing, load_or_create
from hub.vault.sealed import Sealer
from hub.wire_errors import refused
from mcp_wire.jsonrpc import raw
from tests.listings import compiled, desired, everything_of, listing, tool
from tests.upstreams import ScriptedUpstream, surroundings

pytestmark = pytest.mark.anyio

KEY = new_key()
GRANTEE = "ann"
TOOLS = ("get", "put", "a.b", "delete_all")
LISTS: Mapping[Kind, str] = {
    "tool": "tools", "resource": "resources", "template": "resourceTemplates", "prompt": "prompts",
}  # fmt: skip
OPERATIONS: Mapping[Kind, tuple[str, str]] = {
    "tool": ("tools/list", "tools/call"),
    "resource": ("resources/list", "resources/read"),
    "template": ("resources/templates/list", "completion/complete"),
    "prompt": ("prompts/list", "prompts/get"),
}


def now() -> datetime:
    return datetime.now(UTC)


class OwnCredentials:
    """One for each principal and upstream."""

    def credential(self, upstream: str, principal: Principal) -> Credential:
        return Credential(id=f"{principal.name}@{upstream}")


class Hub:
    """A pipeline over one snapshot, asked as the holder of one key would ask."""

    def __init__(self, snapshots: SnapshotHolder, pipeline: Pipeline) -> None:
        self.snapshots = snapshots
        self._pipeline = pipeline
        self._ids = count()

    async def ask(
        self,
        action: Action,
        operation: str,
        kind: TargetKind,
        name: str = "",
        *,
        server: str,
        params: Mapping[str, Any] | None = None,
    ) -> bytes:
        """What the caller gets, as bytes; a refusal in the words of the wire."""
        call = Call(
            id=str(next(self._ids)),
            surface="mcp",
            operation=operation,
            action=action,
            target=Target(kind, name),
            evidence=Evidence(secret=KEY),
            virtual_server=server,
            params={key: raw(value) for key, value in (params or {}).items()},
            traits=CallerTraits(revision="2026-07-28"),
        )
        try:
            async with self._pipeline.run(call) as running:
                end = await running.answer()
        except Refusal as refusal:
            words = refused(refusal, operation, "modern")
            return b"refused %d %b" % (words.code, words.message.encode())
        assert isinstance(end, Result | Failure)
        return bytes(end.body) if isinstance(end, Result) else end.message.encode()

    async def use(self, kind: Kind, name: str, server: str) -> bytes:
        """Call a tool, read a resource, get a prompt, or complete a template's argument."""
        if kind == "template":
            params: dict[str, Any] = {"ref": {"type": "ref/resource", "uri": name}}
        else:
            params = {"uri" if kind == "resource" else "name": name}
        return await self.ask("call", OPERATIONS[kind][1], kind, name, server=server, params=params)

    async def tool_body(self, name: str, arguments: Any, server: str) -> bytes:
        """What one of Portico's own tools answers."""
        params = {"name": name, "arguments": arguments}
        return await self.ask("call", "tools/call", "tool", name, server=server, params=params)

    async def listed(self, kind: Kind, server: str) -> bytes:
        return await self.ask("list", OPERATIONS[kind][0], kind, server=server)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return load_or_create(tmp_path_factory.mktemp("keys"), now())


@pytest.fixture(scope="module")
async def recorder(
    tmp_path_factory: pytest.TempPathFactory, ring: KeyRing
) -> AsyncIterator[Recorder]:
    record: Path = tmp_path_factory.mktemp("data") / "record"
    recorder = Recorder(record, signer=ring.signer(), digest_key=ring.digest_key, now=now)
    async with recorder.running():
        yield recorder


@asynccontextmanager
async def hub_of(
    snapshot: Snapshot, listings: Sequence[UpstreamListing], ring: KeyRing, recorder: Recorder
) -> AsyncIterator[Hub]:
    snapshots = SnapshotHolder(Snapshot(tenants={}))
    scripted = {item.upstream: ScriptedUpstream(item.upstream, item) for item in listings}
    upstreams = Upstreams(
        surroundings(scripted),
        snapshots,
        listings_changed=lambda: None,
        resource_updated=lambda *_: None,
    )
    await upstreams.apply("default", desired(listings).upstreams)
    search = ToolSearch()
    pipeline = Pipeline(
        Stages(
            snapshots=snapshots,
            revoked=Revocations(),
            catalogue=upstreams,
            recorder=recorder,
            meter=Meter(LocalCounting(now), now),
            observer=Metrics(version="0"),
            providers={
                "capabilities": Capabilities(upstreams, OwnCredentials()),
                "catalogue": Catalogue(
                    Sealer(ring.sealing, lambda: now().timestamp()), search, PageCache()
                ),
                "self_description": SelfDescription(search),
            },
            now=now,
        )
    )
    snapshots.swap(snapshot)
    yield Hub(snapshots, pipeline)


names = st.sampled_from([*TOOLS, "beta_get", "found", "file:///a", "mem:{x}", "greet", "nothing"])
patterns = st.sampled_from(["*", "*get*", "p*", "file:*", "mem:*", "[ag]*"])
lists = st.one_of(
    st.none(), st.lists(st.one_of(names, patterns), max_size=3, unique=True).map(tuple)
)
servers = st.sampled_from(["default", "one", "two", "gone"])
grants = st.lists(
    st.builds(
        GrantSpec,
        virtual_server=servers,
        group=st.just("team"),
        tools=lists,
        resources=lists,
        prompts=lists,
    ),
    max_size=4,
)
presentations = st.sampled_from(["full", "search"])


def universe() -> list[UpstreamListing]:
    """Three upstreams with names in common, so that some are prefixed and some stand in for others."""
    return [
        listing(
            upstream,
            [tool(name, f"{name} of {upstream}", properties={"t": {}}) for name in TOOLS],
            resources=["file:///a", f"file:///{upstream}"],
            templates=["mem:{x}", f"{upstream}:{{+path}}"],
            prompts=["greet", f"greet_{upstream}"],
            instructions=f"Use {upstream} with care.",
        )
        for upstream in ("alpha", "beta", "gamma")
    ]


def specs(one: Any, two: Any) -> list[VirtualServerSpec]:
    rules = {"t": ArgumentRule(fix=Raw(b'"acme"'), hide=True)}
    override = {"get": Override(name="found", arguments=rules)}
    include = (Include(upstream="alpha"), Include(upstream="beta", override=override))
    return [
        VirtualServerSpec(name="one", presentation=one, include=include),
        everything_of("beta", name="two", presentation=two, instructions="For two."),
    ]


async def snapshot_of(
    listings: Sequence[UpstreamListing],
    servers: Sequence[VirtualServerSpec],
    granted: Sequence[GrantSpec],
    ledger: MemoryLedger,
    limited_to: tuple[str, ...] | None = None,
) -> Snapshot:
    key = KeySpec(
        id="k",
        tenant="default",
        principal=GRANTEE,
        digest=digest_of(KEY),
        virtual_servers=limited_to,
    )
    return await compiled(
        listings,
        servers,
        compiler=Compiler(ledger),
        keys=(key,),
        principals=[GRANTEE],
        groups={"team": [GRANTEE]},
        grants=granted,
    )


def every_exposure(server: VirtualServer) -> Iterator[Exposure]:
    for kind in KINDS:
        yield from server.of_kind(kind).values()


def names_in(body: bytes, kind: Kind) -> list[str]:
    member = {"resource": "uri", "template": "uriTemplate"}.get(kind, "name")
    return [item[member] for item in json.loads(body)[LISTS[kind]]]


def is_granted(granted: Sequence[GrantSpec], server: str, exposure: Exposure) -> bool:
    """The meaning of grants, spelled out."""
    for grant in granted:
        given = (grant.tools, grant.resources, grant.prompts)
        wanted = {"tool": grant.tools, "prompt": grant.prompts}.get(exposure.kind, grant.resources)
        if grant.virtual_server != server:
            continue
        if given == (None, None, None):
            return True
        if any(exposure.name == one or fnmatchcase(exposure.name, one) for one in wanted or ()):
            return True
    return False


@given(granted=grants, one=presentations, two=presentations)
async def test_visible_and_searchable_and_callable_are_one_set(
    granted: list[GrantSpec], one: str, two: str, ring: KeyRing, recorder: Recorder
) -> None:
    snapshot = await snapshot_of(universe(), specs(one, two), granted, MemoryLedger())
    async with hub_of(snapshot, universe(), ring, recorder) as hub:
        for server in snapshot.tenants["default"].virtual_servers.values():
            if server.name == "portico":
                continue
            for kind in KINDS:
                body = await hub.listed(kind, server.name)
                if body.startswith(b"refused"):
                    assert b"-31403" in body
                    visible = set[str]()
                else:
                    visible = set(names_in(body, kind)) - set(server.system_tools)
                usable = {
                    name
                    for name in server.of_kind(kind)
                    if not (await hub.use(kind, name, server.name)).startswith(b"refused")
                }
                if kind == "tool":
                    searchable = await found_by_search(hub, server)
                    assert searchable == usable
                    visible = searchable if server.presentation == "search" else visible
                if kind == "resource":
                    # A resource that no grant names may still be an expansion of a granted template.
                    assert visible <= usable
                else:
                    assert visible == usable
                if server.name != "default":
                    assert visible == {
                        name
                        for name, exposure in server.of_kind(kind).items()
                        if is_granted(granted, server.name, exposure)
                    }


async def found_by_search(hub: Hub, server: VirtualServer) -> set[str]:
    """Names of tools that come up when each is asked for by its own name."""
    found: set[str] = set()
    for name in server.tools:
        body = await hub.ask(
            "search", "search", "tool", server=server.name, params={"query": name, "limit": 50}
        )
        if body.startswith(b"refused"):
            return set()
        structured = json.loads(body)["structuredContent"]
        hits = {item["name"] for item in structured["tools"]}
        if server.presentation == "search":
            arguments = {"query": name, "limit": 50}
            assert await hub.tool_body("search_tools", arguments, server.name) == body
            used = await hub.tool_body("call_tool", {"name": name}, server.name)
            assert used == await hub.use("tool", name, server.name)
        if name in hits:
            found.add(name)
        assert hits <= set(server.tools)
    return found


@given(
    granted=grants,
    presentation=presentations,
    limited_to=st.sampled_from([None, ("one",), ("default", "two")]),
)
async def test_what_is_denied_reads_byte_for_byte_like_what_does_not_exist(
    granted: list[GrantSpec],
    presentation: str,
    limited_to: tuple[str, ...] | None,
    ring: KeyRing,
    recorder: Recorder,
) -> None:
    """The same hub twice: once as it is, once without anything this caller may not know of."""
    ledger, servers = MemoryLedger(), specs(presentation, presentation)
    whole = await snapshot_of(universe(), servers, granted, ledger, limited_to)
    tenant = whole.tenants["default"]
    view = tenant.tables.view_of(whole.keys[digest_of(KEY)].principal)
    exposed = [e for server in tenant.virtual_servers.values() for e in every_exposure(server)]
    allowed = {exposure.capability for exposure in exposed if view.allows(exposure.bit)}
    asked = sorted({(exposure.kind, exposure.name) for exposure in exposed})
    known = {
        name
        for name, bit in tenant.virtual_servers["default"].upstream_bits.items()
        if view.allows(bit)
    }
    rest = [only(item, allowed) for item in universe() if item.upstream in known]
    part = await snapshot_of(rest, servers, granted, ledger, limited_to)
    transcripts = []
    for snapshot, listings in ((whole, universe()), (part, rest)):
        async with hub_of(snapshot, listings, ring, recorder) as hub:
            transcripts.append([line async for line in transcript(hub, asked)])
    for one, other in zip(*transcripts, strict=True):
        assert one == other


def only(item: UpstreamListing, allowed: set[CapabilityId]) -> UpstreamListing:
    """The listing without capabilities that are not allowed."""
    kept: dict[Kind, list[Any]] = {kind: [] for kind in KINDS}
    found = item.listing
    members = {"tool": "name", "prompt": "name", "resource": "uri", "template": "uriTemplate"}
    for kind, definitions in zip(
        KINDS, (found.tools, found.resources, found.templates, found.prompts), strict=True
    ):
        for definition in definitions:
            value = json.loads(bytes(definition))
            if CapabilityId(item.upstream, kind, value[members[kind]]) in allowed:
                kept[kind].append(value)
    return listing(
        item.upstream,
        kept["tool"],
        resources=kept["resource"],
        templates=kept["template"],
        prompts=kept["prompt"],
        instructions=item.identity.instructions,
    )


async def transcript(hub: Hub, asked: Sequence[tuple[Kind, str]]) -> AsyncIterator[bytes]:
    for server in ("default", "one", "two", "portico", "nowhere"):
        yield await hub.ask("discover", "server/discover", "virtual_server", server=server)
        yield await hub.tool_body("describe_access", {}, server)
        for kind in KINDS:
            yield await hub.listed(kind, server)
        for kind, name in asked:
            yield await hub.use(kind, name, server)
            query = {"query": f"{name} care", "limit": 50}
            yield await hub.ask("search", "search", "tool", server=server, params=query)
            arguments = {"name": name, "kind": kind, "virtual_server": server}
            yield await hub.tool_body("describe_capability", arguments, "portico")
    yield await hub.tool_body("describe_access", {}, "portico")


async def test_a_denied_resource_is_looked_up_among_templates_as_an_absent_one_is(
    ring: KeyRing, recorder: Recorder
) -> None:
    found = listing(
        "u",
        resources=["doc:secret"],
        templates=["doc:{name}", "doc:s{rest}", "{+anything}"],
    )
    granted = [GrantSpec(virtual_server="dev", group="team", resources=("doc:{name}",))]
    snapshot = await snapshot_of([found], [everything_of("u")], granted, MemoryLedger())
    async with hub_of(snapshot, [found], ring, recorder) as hub:
        for uri in ("doc:secret", "doc:other"):
            body = await hub.use("resource", uri, "dev")
            assert not body.startswith(b"refused")
        assert (await hub.use("resource", "web:x", "dev")).startswith(b"refused")


@given(grants, grants)
async def test_another_grant_never_takes_anything_away(
    granted: list[GrantSpec], more: list[GrantSpec]
) -> None:
    ledger = MemoryLedger()
    less = await snapshot_of(universe(), specs("full", "full"), granted, ledger)
    all_of_it = await snapshot_of(universe(), specs("full", "full"), [*granted, *more], ledger)
    bits = []
    for snapshot in (less, all_of_it):
        view = snapshot.tenants["default"].tables.view_of(snapshot.keys[digest_of(KEY)].principal)
        bits.append(int.from_bytes(view.bits, "little"))
    assert bits[0] & ~bits[1] == 0
