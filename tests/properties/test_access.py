"""One decision over random tenants: who sees, finds, calls, and is explained to may do the same.

Every question goes through the door that a caller or an administrator has: the pipeline with all its
stages, and the administration behind it.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

import pytest
from msgspec import Struct

from hub.administration.answering import Administration
from hub.administration.desk import Desk
from hub.catalog.names import MemoryLedger
from hub.compile import Compiler, Source, TenantSource
from hub.domain.call import Action, Call, CallerTraits, Target, TargetKind
from hub.domain.catalog import KINDS, Kind, UpstreamListing, UpstreamStatus
from hub.domain.desired import Desired, GrantSpec, GroupSpec, KeySpec, PrincipalSpec
from hub.domain.outcome import Refusal, Result
from hub.domain.principal import Evidence, Principal, Role
from hub.errors import NotFoundError
from hub.identity.api_keys import digest_of, new_key
from hub.policy.roles import PLATFORM
from hub.snapshot import Snapshot, TenantSnapshot
from hub.stores.documents import NOUNS, noun_of
from hub.stores.objects import Change, Stored, StoredObject
from mcp_wire.jsonrpc import raw
from tests.listings import desired
from tests.properties.test_grants import (
    LISTS,
    OPERATIONS,
    Hub,
    hub_of,
    names_in,
    recorder,
    ring,
    specs,
    universe,
)

__all__ = ["recorder", "ring"]

pytestmark = pytest.mark.anyio

PAIRS: Final = 10_000
WORLDS: Final = 3
PEOPLE: Final = 60
GROUPS: Final = ("red", "green", "blue", "gold")
NAMES: Final = ("get", "put", "a.b", "delete_all", "beta_get", "found", "file:///a", "mem:{x}",
                "greet", "*", "*get*", "p*", "file:*", "mem:*", "[ag]*")  # fmt: skip
ROOT: Final = Principal(tenant="default", name="root", kind="person", roles=frozenset((PLATFORM,)))
_ids = count()


class Person(Struct, frozen=True):
    """Somebody with a key."""

    name: str
    key: str
    key_id: str
    limited_to: tuple[str, ...] | None


class World:
    """One random tenant: people, groups, grants, roles, keys with and without limits."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)  # noqa: S311 -- repeatable, nothing secret
        choose = self.choose
        self.listings = universe()
        self.servers = specs(*choose.choices(("full", "search"), k=2))
        self.people = [Person(f"p{n}", new_key(), f"key-{n}", self._limit()) for n in range(PEOPLE)]
        names = [person.name for person in self.people]
        base = desired(self.listings, self.servers)
        self.desired = Desired(
            upstreams=base.upstreams,
            virtual_servers=base.virtual_servers,
            principals=tuple(
                PrincipalSpec(name=name, roles=self._roles(), groups=self._some(GROUPS, 0.1))
                for name in names
            ),
            groups=tuple(GroupSpec(name=name, members=self._some(names, 0.2)) for name in GROUPS),
            grants=tuple({grant.name: grant for grant in self._grants(18)}.values()),
        )
        self.keys = tuple(
            KeySpec(
                id=person.key_id,
                tenant="default",
                principal=person.name,
                digest=digest_of(person.key),
                virtual_servers=person.limited_to,
            )
            for person in self.people
        )
        self.compiler = Compiler(MemoryLedger())

    def more(self) -> Desired:
        """The same with further grants."""
        grants = {grant.name: grant for grant in (*self.desired.grants, *self._grants(4))}
        return Desired(
            upstreams=self.desired.upstreams,
            virtual_servers=self.desired.virtual_servers,
            principals=self.desired.principals,
            groups=self.desired.groups,
            grants=tuple(grants.values()),
        )

    async def compiled(self, state: Desired) -> Snapshot:
        listings: Mapping[str, UpstreamListing] = {item.upstream: item for item in self.listings}
        tenant = TenantSource(desired=state, listings=dict(listings))
        return await self.compiler.compile(Source(tenants=(tenant,), keys=self.keys))

    def _grants(self, number: int) -> Iterator[GrantSpec]:
        choose = self.choose
        for _ in range(number):
            to_group = choose.random() < 0.6
            yield GrantSpec(
                virtual_server=choose.choice(("default", "one", "two")),
                group=choose.choice(GROUPS) if to_group else None,
                principal=None if to_group else choose.choice(self.people).name,
                tools=self._names(),
                resources=self._names(),
                prompts=self._names(),
            )

    def _names(self) -> tuple[str, ...] | None:
        if self.choose.random() < 0.3:
            return None
        return tuple(self.choose.sample(NAMES, k=self.choose.randrange(4)))

    def _roles(self) -> tuple[Role, ...]:
        if self.choose.random() < 0.8:
            return ()
        roles: tuple[Role, ...] = ("viewer", "operator", "admin", "auditor", PLATFORM)
        return (self.choose.choice(roles),)

    def _limit(self) -> tuple[str, ...] | None:
        if self.choose.random() < 0.6:
            return None
        return self._some(("default", "one", "two"), 0.5)

    def _some(self, items: Sequence[str], share: float) -> tuple[str, ...]:
        return tuple(item for item in items if self.choose.random() < share)


class Held:
    """Objects and keys of one tenant, as the administration asks for them."""

    def __init__(self, state: Desired, keys: Sequence[KeySpec]) -> None:
        sections = (state.upstreams, state.principals, state.groups, state.virtual_servers)
        items = [spec for section in (*sections, state.grants) for spec in section]
        found = {(noun_of(spec), spec.name): StoredObject(spec) for spec in items}
        assert {noun for noun, _ in found} <= set(NOUNS)
        self._stored = Stored("default", 1, found)
        self._keys = {key.id: key for key in keys}

    async def tenants(self) -> Sequence[str]:
        return ("default",)

    async def load(self, tenant: str) -> Stored:
        assert tenant == "default"
        return self._stored

    async def change(self, tenant: str, change: Change, *, expected: int | None = None) -> int:
        raise AssertionError(f"nothing is changed here: {tenant}, {change}, {expected}")

    async def list(self, tenant: str | None = None) -> Sequence[KeySpec]:
        return tuple(key for key in self._keys.values() if tenant in (None, key.tenant))

    async def get(self, tenant: str, key_id: str) -> KeySpec:
        if key_id not in self._keys:
            raise NotFoundError(f"{tenant}: {key_id}")
        return self._keys[key_id]

    async def add(self, key: KeySpec) -> None:
        raise AssertionError(f"nothing is changed here: {key}")

    async def limit(
        self, tenant: str, key_id: str, *, expires_at: str | None, revoked_at: str | None
    ) -> None:
        ends = (expires_at, revoked_at)
        raise AssertionError(f"nothing is changed here: {tenant}, {key_id}, {ends}")


class Serving:
    """What serves, as administrators look into it."""

    url = ""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def tenant(self, name: str) -> TenantSnapshot | None:
        return self._hub.snapshots.current.tenants.get(name)

    async def refresh(self, tenant: str, upstream: str) -> UpstreamStatus:
        raise AssertionError(f"nothing is refreshed here: {tenant}, {upstream}")

    def logs(self, tenant: str, upstream: str) -> Sequence[str]:
        raise AssertionError(f"nothing is read here: {tenant}, {upstream}")


class Asker:
    """One person's questions to the hub."""

    def __init__(self, hub: Hub, person: Person, administration: Administration) -> None:
        self._pipeline = hub._pipeline
        self._person = person
        self._administration = administration

    async def ask(
        self,
        action: Action,
        operation: str,
        kind: TargetKind,
        name: str,
        server: str,
        params: Mapping[str, Any],
    ) -> bytes | None:
        """What the caller gets; None where it is refused."""
        call = Call(
            id=str(next(_ids)),
            surface="mcp",
            operation=operation,
            action=action,
            target=Target(kind, name),
            evidence=Evidence(secret=self._person.key),
            virtual_server=server,
            params={key: raw(value) for key, value in params.items()},
            traits=CallerTraits(revision="2026-07-28"),
        )
        try:
            async with self._pipeline.run(call) as running:
                end = await running.answer()
        except Refusal:
            return None
        assert isinstance(end, Result)
        return bytes(end.body)

    async def visible(self, kind: Kind, server: str) -> set[str]:
        body = await self.ask("list", OPERATIONS[kind][0], kind, "", server, {})
        assert body is None or LISTS[kind] in json.loads(body)
        return set() if body is None else set(names_in(body, kind))

    async def found(self, name: str, server: str) -> bool:
        """Whether a tool comes up when it is searched for."""
        query = {"query": name, "limit": 50}
        body = await self.ask("search", "search", "tool", "", server, query)
        hits = [] if body is None else json.loads(body)["structuredContent"]["tools"]
        return name in {item["name"] for item in hits}

    async def called(self, kind: Kind, name: str, server: str) -> bool:
        params: dict[str, Any] = {"uri" if kind == "resource" else "name": name}
        if kind == "template":
            params = {"ref": {"type": "ref/resource", "uri": name}}
        return await self.ask("call", OPERATIONS[kind][1], kind, name, server, params) is not None

    async def explained(self, kind: Kind, name: str, server: str) -> bool:
        asked = {"principal": self._person.name, "capability": name, "kind": kind,
                 "virtual_server": server, "key": self._person.key_id}  # fmt: skip
        answer = await self._administration.answer(ROOT, "default", "access.explain", asked)
        return bool(answer.model_dump()["allowed"])


Pair = tuple[Person, str, Kind, str]


def pairs_of(world: World, snapshot: Snapshot) -> Iterator[Pair]:
    """Everybody with every exposure and some names that nothing has."""
    for person in world.people:
        for server in snapshot.tenants["default"].virtual_servers.values():
            if server.name == "portico":
                continue
            for kind in KINDS:
                for name in (*server.of_kind(kind), f"no_{kind}"):
                    yield person, server.name, kind, name


async def test_visible_and_searchable_and_callable_and_explained_are_one_for_10000_pairs(
    ring: Any, recorder: Any
) -> None:
    seen = allowed = 0
    for seed in range(WORLDS):
        world = World(seed)
        snapshot = await world.compiled(world.desired)
        held = Held(world.desired, world.keys)
        async with hub_of(snapshot, world.listings, ring, recorder) as hub:
            administration = Administration(Desk(objects=held, keys=held, running=Serving(hub)))
            askers = {item.name: Asker(hub, item, administration) for item in world.people}
            lists: dict[tuple[str, str, Kind], set[str]] = {}
            servers = snapshot.tenants["default"].virtual_servers
            for person, server, kind, name in pairs_of(world, snapshot):
                asker = askers[person.name]
                place = (person.name, server, kind)
                if place not in lists:
                    lists[place] = await asker.visible(kind, server)
                callable_ = await asker.called(kind, name, server)
                shown = name in lists[place]
                assert await asker.explained(kind, name, server) is callable_, (place, name)
                if kind == "tool":
                    assert await asker.found(name, server) is callable_, (place, name)
                if kind == "resource":
                    # One that no grant names may still be an expansion of a granted template.
                    assert callable_ or not shown
                elif kind != "tool" or servers[server].presentation == "full":
                    assert shown is callable_, (place, name)
                seen += 1
                allowed += callable_
    assert seen >= PAIRS
    assert seen // 10 < allowed < seen * 9 // 10, "both answers come up often enough to mean much"


@pytest.mark.parametrize("seed", range(WORLDS))
async def test_a_further_grant_never_removes_access(seed: int, ring: Any, recorder: Any) -> None:
    world = World(seed)
    before, after = world.desired, world.more()
    answers: list[list[bool]] = []
    for state in (before, after):
        snapshot = await world.compiled(state)
        held = Held(state, world.keys)
        async with hub_of(snapshot, world.listings, ring, recorder) as hub:
            administration = Administration(Desk(objects=held, keys=held, running=Serving(hub)))
            askers = {item.name: Asker(hub, item, administration) for item in world.people}
            answers.append([
                await askers[person.name].called(kind, name, server)
                for person, server, kind, name in pairs_of(world, snapshot)
            ])
    less, more = answers
    assert all(later for earlier, later in zip(less, more, strict=True) if earlier)
    assert sum(more) > sum(less)
