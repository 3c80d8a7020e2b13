"""From desired state and listings to a snapshot: only what changed is made anew, and nobody waits."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from time import perf_counter

import anyio
import anyio.lowlevel
import pytest

from hub.catalog.aggregate import list_changes
from hub.catalog.names import MemoryLedger
from hub.catalog.views import instructions_for, listed, protocol_capabilities_for
from hub.compile import Compiler, TenantSource, reachable
from hub.domain.announcement import ListChanged
from hub.domain.catalog import NameClaim
from hub.domain.desired import GrantSpec, Include, KeySpec, Override, VirtualServerSpec
from hub.domain.principal import Principal
from hub.errors import StoreUnavailableError
from hub.policy.explain import explain
from hub.snapshot import TenantSnapshot
from tests.listings import compiled, desired, everything_of, listing, tool

pytestmark = pytest.mark.anyio


def person(name: str, *groups: str, reach: frozenset[str] | None = None) -> Principal:
    return Principal(
        tenant="default", name=name, kind="person", groups=frozenset(groups), reach=reach
    )


def visible(tenant: TenantSnapshot, server: str, principal: Principal) -> list[str]:
    view = tenant.tables.view_of(principal)
    return [found.name for found in listed(tenant.virtual_servers[server], view, "tool")]


async def test_what_did_not_change_is_taken_over_as_it_is() -> None:
    compiler = Compiler(MemoryLedger())
    specs = [everything_of("a", name="one"), everything_of("b", name="two")]
    a, b = listing("a", ["x", "y"]), listing("b", ["x", "z"])
    before = (await compiled([a, b], specs, compiler=compiler)).tenants["default"]
    same = (await compiled([a, b], specs, compiler=compiler)).tenants["default"]
    assert same.tables is before.tables
    for name in ("one", "two", "default"):
        assert same.virtual_servers[name] is before.virtual_servers[name]
    changed = listing("b", ["x", tool("z", "now with words")])
    after = (await compiled([a, changed], specs, compiler=compiler)).tenants["default"]
    assert after.virtual_servers["one"] is before.virtual_servers["one"]
    two, former = after.virtual_servers["two"], before.virtual_servers["two"]
    assert two.revision > former.revision
    assert two.tools["x"] is former.tools["x"]
    assert two.tools["z"].fragment != former.tools["z"].fragment
    assert two.tools["z"].bit == former.tools["z"].bit
    everything = after.virtual_servers["default"]
    assert everything.tools["b_x"] is before.virtual_servers["default"].tools["b_x"]


@pytest.mark.alone
async def test_the_event_loop_serves_others_meanwhile() -> None:
    many = [
        listing(f"u{index}", [tool(f"t{n}", "words " * 20) for n in range(200)])
        for index in range(10)
    ]
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        began = perf_counter()
        snapshot = await compiled(many, [everything_of(*(item.upstream for item in many))])
        took_ms = (perf_counter() - began) * 1000
        tasks.cancel_scope.cancel()
    assert len(snapshot.tenants["default"].virtual_servers["default"].tools) == 2000
    assert took_ms / turns <= 10, f"{took_ms:.0f} ms in {turns} slices"


class AwayLedger(MemoryLedger):
    """A ledger whose database goes away and comes back."""

    away = False

    async def claim(self, tenant: str, claims: Sequence[NameClaim]) -> Sequence[NameClaim]:
        if self.away:
            raise StoreUnavailableError("the database is away")
        return await super().claim(tenant, claims)


async def test_a_compile_that_fails_spoils_nothing() -> None:
    ledger = AwayLedger()
    compiler = Compiler(ledger)
    spec = everything_of("a", "b")
    a, b = listing("a", ["x"]), listing("b", ["x", "y"])
    before = (await compiled([a], [spec], compiler=compiler)).tenants["default"]
    ledger.away = True
    with pytest.raises(StoreUnavailableError):
        await compiled([a, b], [spec], compiler=compiler)
    again = (await compiled([a], [spec], compiler=compiler)).tenants["default"]
    assert again.virtual_servers["dev"] is before.virtual_servers["dev"]
    ledger.away = False
    after = (await compiled([a, b], [spec], compiler=compiler)).tenants["default"]
    assert list(after.virtual_servers["dev"].tools) == ["b_x", "x", "y"]


class ContestedLedger(MemoryLedger):
    """A ledger in which another replica is a moment faster, once."""

    rival: NameClaim | None = None

    async def claim(self, tenant: str, claims: Sequence[NameClaim]) -> Sequence[NameClaim]:
        rival, self.rival = self.rival, None
        if rival is not None:
            await super().claim(tenant, [rival])
        return await super().claim(tenant, claims)


async def test_a_name_that_another_replica_took_meanwhile_stays_its() -> None:
    ledger = ContestedLedger()
    other = (await compiled([listing("b", ["x"])], [everything_of("b")])).tenants["default"]
    ledger.rival = NameClaim("dev", "x", other.virtual_servers["dev"].tools["x"].capability)
    snapshot = await compiled(
        [listing("a", ["x", "y"])], [everything_of("a")], compiler=Compiler(ledger)
    )
    assert list(snapshot.tenants["default"].virtual_servers["dev"].tools) == ["a_x", "y"]


async def test_principals_with_equal_grants_share_one_view() -> None:
    grants = [
        GrantSpec(virtual_server="dev", group="team"),
        GrantSpec(virtual_server="dev", principal="bob", tools=("x",)),
    ]
    snapshot = await compiled([listing("a", ["x", "y"])], [everything_of("a")], grants=grants)
    tables = snapshot.tenants["default"].tables
    ann, eve = tables.view_of(person("ann", "team")), tables.view_of(person("eve", "team"))
    assert ann is eve
    assert tables.view_of(person("bob", "team")).bits == ann.bits
    assert visible(snapshot.tenants["default"], "dev", person("bob")) == ["x"]
    assert visible(snapshot.tenants["default"], "default", person("bob")) == ["x"]
    assert tables.view_of(person("nobody")).virtual_servers == frozenset()


async def test_a_grant_on_default_opens_no_other_virtual_server() -> None:
    grants = [
        GrantSpec(virtual_server="default", principal="ann", tools=("x",)),
        GrantSpec(virtual_server="dev", principal="ann", tools=("y",)),
    ]
    tenant = (
        await compiled([listing("a", ["x", "y"])], [everything_of("a")], grants=grants)
    ).tenants["default"]
    assert visible(tenant, "default", person("ann")) == ["x", "y"]
    assert visible(tenant, "dev", person("ann")) == ["y"]


async def test_keys_prove_principals_with_groups_limits_and_ends() -> None:
    keys = (
        KeySpec(id="1", tenant="default", principal="ann", digest=b"1"),
        KeySpec(
            id="2",
            tenant="default",
            principal="ann",
            digest=b"2",
            virtual_servers=("dev",),
            expires_at="2030-01-01T00:00:00.000Z",
        ),
        KeySpec(
            id="3",
            tenant="default",
            principal="ann",
            digest=b"3",
            revoked_at="2026-01-01T00:00:00Z",
        ),
        KeySpec(id="4", tenant="default", principal="gone", digest=b"4"),
        KeySpec(id="5", tenant="other", principal="ann", digest=b"5"),
    )
    snapshot = await compiled(
        [], keys=keys, principals=["ann"], groups={"team": ["ann"], "empty": []}
    )
    assert set(snapshot.keys) == {b"1", b"2"}
    entry = snapshot.keys[b"2"]
    assert entry.principal.groups == {"team"}
    assert entry.principal.reach == frozenset({"dev"})
    assert entry.expires_at == datetime(2030, 1, 1, tzinfo=UTC).timestamp()


async def test_plans_compare_what_each_principal_could_use() -> None:
    found = [listing("a", ["x", "y"])]
    state = desired(
        found,
        [everything_of("a"), everything_of("a", name="open", anonymous=True)],
        principals=["ann", "bob"],
        grants=[GrantSpec(virtual_server="dev", principal="ann", tools=("x",))],
    )
    ledger = MemoryLedger()
    use = await reachable(TenantSource(desired=state, listings={"a": found[0]}), ())
    assert use["ann"] == {("dev", "tool", "x"), ("default", "tool", "x")}
    assert use["bob"] == frozenset()
    assert use["anonymous"] >= {("open", "tool", "x"), ("open", "tool", "y")}
    assert not any(server == "dev" for server, _, _ in use["anonymous"])
    assert await ledger.load("default") == ()


async def test_instructions_are_the_virtual_servers_first_and_never_too_long() -> None:
    found = [
        listing("a", ["x"], instructions="A says."),
        listing("b", ["y"], instructions="B " * 2000),
    ]
    grants = [
        GrantSpec(virtual_server="dev", principal="ann"),
        GrantSpec(virtual_server="dev", principal="bob", tools=("x",)),
    ]
    spec = everything_of("a", "b", instructions=" Mine. ")
    tenant = (await compiled(found, [spec], grants=grants)).tenants["default"]
    server = tenant.virtual_servers["dev"]
    whole = instructions_for(server, tenant.tables.view_of(person("ann")))
    assert whole.startswith("Mine.\n\na: A says.\n\nb: B B")
    assert len(whole) <= 2000
    assert whole.endswith("…")
    own = instructions_for(server, tenant.tables.view_of(person("bob")))
    assert own == "Mine.\n\na: A says."


async def test_only_what_is_served_is_advertised() -> None:
    plain = listing("a", ["x"])
    tenant = (
        await compiled([plain], [everything_of("a", anonymous=True)], anonymous=True)
    ).tenants["default"]
    anyone = tenant.tables.view_of(Principal(tenant="default", name="anonymous", kind="anonymous"))
    assert protocol_capabilities_for(tenant.virtual_servers["dev"], anyone, {}) == {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
    }
    portico = tenant.virtual_servers["portico"]
    assert protocol_capabilities_for(portico, anyone, {}) == {"tools": {}}
    assert list(portico.system_tools) == ["describe_access", "describe_capability"]


async def test_lists_are_public_only_when_they_are_the_same_for_everyone() -> None:
    public, private = listing("a", ["x"], public=True), listing("b", ["y"])
    specs = [
        everything_of("a", name="open", anonymous=True),
        everything_of("a", name="closed"),
        everything_of("a", name="partly", anonymous=True),
        everything_of("a", "b", name="mixed", anonymous=True),
    ]
    grants = [GrantSpec(virtual_server="partly", principal="ann", tools=("x",))]
    tenant = (await compiled([public, private], specs, grants=grants)).tenants["default"]
    assert {
        name for name, server in tenant.virtual_servers.items() if server.cacheable_publicly
    } == {"open"}


async def test_what_changed_is_announced_by_list() -> None:
    compiler = Compiler(MemoryLedger())
    spec = everything_of("a")
    states = [
        await compiled([listing("a", ["x"])], [spec], compiler=compiler),
        await compiled([listing("a", ["x", "y"])], [spec], compiler=compiler),
        await compiled([listing("a", ["x", "y"], resources=["r:1"])], [spec], compiler=compiler),
        await compiled(
            [listing("a", ["x", "y"], resources=["r:1"])],
            [spec],
            compiler=compiler,
            grants=[GrantSpec(virtual_server="dev", group="team")],
        ),
    ]
    changes = [set(list_changes(old, new)) for old, new in pairwise(states)]
    assert changes[0] == {ListChanged("default", "tools", server) for server in ("default", "dev")}
    assert {change.kind for change in changes[1]} == {"resources"}
    assert changes[2] == {
        ListChanged("default", kind) for kind in ("tools", "resources", "prompts")
    }
    assert set(list_changes(states[3], states[3])) == set()


async def test_administrators_learn_why() -> None:
    found = [listing("a", ["x"]), listing("b", ["x"])]
    spec = everything_of("a", "b", prefix="never")
    grants = [GrantSpec(virtual_server="dev", group="team", tools=("x",))]
    tenant = (await compiled(found, [spec], grants=grants)).tenants["default"]

    def why(principal: Principal, server: str, name: str) -> tuple[bool, str, str]:
        told = explain(
            principal,
            server,
            "tool",
            name,
            virtual_servers=tenant.virtual_servers,
            tables=tenant.tables,
        )
        return told.decision.allowed, told.decision.layer, told.existence

    assert why(person("ann", "team"), "dev", "x") == (True, "grant", "exposed")
    assert why(person("bob"), "dev", "x") == (False, "virtual_server", "exposed")
    limited = person("ann", "team", reach=frozenset({"default"}))
    assert why(limited, "dev", "x") == (False, "key_scope", "exposed")
    assert why(person("ann", "team"), "dev", "nothing") == (False, "virtual_server", "absent")
    assert why(person("ann", "team"), "nowhere", "x") == (False, "virtual_server", "absent")
    assert why(person("ann", "team"), "portico", "describe_access")[0]


async def test_a_prompt_with_the_name_of_portico_s_own_tool_is_explained_as_what_it_is() -> None:
    spec = everything_of("a", presentation="search")
    found = [listing("a", ["x"], prompts=["search_tools"])]
    grants = [GrantSpec(virtual_server="dev", principal="ann", tools=("x",))]
    tenant = (await compiled(found, [spec], grants=grants)).tenants["default"]
    ann, servers = person("ann"), tenant.virtual_servers
    for kind, allowed in (("tool", True), ("prompt", False)):
        told = explain(
            ann,
            "dev",
            kind,  # type: ignore[arg-type]  # both are kinds
            "search_tools",
            virtual_servers=servers,
            tables=tenant.tables,
        )
        assert told.decision.allowed is allowed


@pytest.mark.parametrize("depth", [300, 450, 460, 900, 960])
async def test_a_definition_that_is_nested_without_end_is_left_out(depth: int) -> None:
    inner = '{"type":"string","x-mcp-header":5}'
    schema = '{"type":"object","properties":{"a":' * (depth // 2) + inner + "}}" * (depth // 2)
    deep = f'{{"name":"deep","inputSchema":{schema}}}'.encode()
    flat = (
        f'{{"name":"flat","_meta":{{"v":{"[" * depth + "]" * depth}}},"inputSchema":{{}}}}'.encode()
    )
    for transport in ("http", "stdio"):
        found = listing("a", [deep, flat, "x"], transport=transport)
        tenant = (await compiled([found], [everything_of("a")])).tenants["default"]
        assert list(tenant.virtual_servers["dev"].tools) == ["x"]
        assert all("nested" in problem or "read" in problem for problem in tenant.problems["a"])


async def test_overrides_that_cannot_be_had_are_reported_and_spoil_nothing() -> None:
    include = Include(
        upstream="a",
        tools=("x", "missing"),
        override={"x": Override(name="y"), "typo": Override(title="T")},
    )
    specs = [VirtualServerSpec(name="dev", include=(include, Include(upstream="nowhere")))]
    snapshot = await compiled([listing("a", ["x"])], specs)
    tenant = snapshot.tenants["default"]
    assert list(tenant.virtual_servers["dev"].tools) == ["y"]
    assert tenant.problems["a"] == (
        "virtual server 'dev': tool 'missing' is included and not listed",
        "virtual server 'dev': 'typo' is overridden and not listed",
    )
