"""The running catalogue: whatever upstreams do, lists come at once and say how things are."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import anyio
import pytest
from msgspec import Raw

from connectors.circuit import THRESHOLD, Circuit
from connectors.errors import Misconfigured, Unreachable
from connectors.outcome import Failure, Result
from connectors.protocol import Credential, Request
from hub.admission import Admitted
from hub.cache import MAX_PAGE_BYTES, Page, PageCache, join
from hub.catalog.names import MemoryLedger
from hub.catalog.refresh import Surroundings
from hub.catalog.search import ToolSearch
from hub.catalog.upstreams import Upstreams
from hub.catalog.watching import Watching
from hub.compile import Compiler, Source, TenantSource
from hub.domain.announcement import Announcement, ResourceUpdated
from hub.domain.call import Action, Call, CallerTraits, Target, TargetKind
from hub.domain.desired import Desired, UpstreamSpec, VirtualServerSpec
from hub.domain.outcome import Refusal
from hub.domain.principal import ANONYMOUS, Evidence, Principal
from hub.live.leases import Leases
from hub.providers.catalogue import Catalogue
from hub.providers.self_description import SelfDescription
from hub.snapshot import Snapshot, SnapshotHolder
from hub.vault.key_ring import RingKey
from hub.vault.sealed import Sealer
from tests.listings import everything_of, listing, tool
from tests.upstreams import KeptListings, ScriptedUpstream, surroundings, unreachable

pytestmark = pytest.mark.anyio

RING_KEY = RingKey(id="0badc0de", created_at=datetime.now(UTC), secret=bytes(32))
ANYONE = Principal(tenant="default", name=ANONYMOUS, kind="anonymous")


class Running:
    """Upstreams, compiler and provider put together as the application does."""

    def __init__(
        self,
        scripted: Mapping[str, ScriptedUpstream],
        virtual_servers: Sequence[VirtualServerSpec],
        around: Surroundings,
    ) -> None:
        self.scripted = scripted
        self.snapshots = SnapshotHolder(Snapshot(tenants={}))
        self.published: list[Announcement] = []
        self.upstreams = Upstreams(
            around,
            self.snapshots,
            listings_changed=lambda: self._stale.set(),
            resource_updated=lambda *what: self.watching.updated(*what),
        )
        self.watching = Watching(self.snapshots, self.upstreams, self.published.append)
        self.compiles = 0
        self._stale = anyio.Event()
        self._compiler = Compiler(MemoryLedger(), statuses=self.upstreams.statuses)
        self._virtual_servers = tuple(virtual_servers)
        self._specs: tuple[UpstreamSpec, ...] = ()
        search = ToolSearch()
        self._catalogue = Catalogue(Sealer([RING_KEY], lambda: 0.0), search, PageCache())
        self._self_description = SelfDescription(search)

    async def apply(self, *specs: UpstreamSpec) -> None:
        self._specs = specs
        await self.upstreams.apply("default", specs)
        await self._compile()

    async def follow(self) -> None:
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            await self._compile()

    async def _compile(self) -> None:
        desired = Desired(upstreams=self._specs, virtual_servers=self._virtual_servers)
        source = TenantSource(desired=desired, listings=dict(self.upstreams.listings("default")))
        self.snapshots.swap(await self._compiler.compile(Source(tenants=(source,), anonymous=True)))
        self.compiles += 1

    def admitted(
        self,
        action: Action,
        kind: TargetKind,
        name: str = "",
        *,
        server: str = "default",
        **params: Any,
    ) -> Admitted:
        tenant = self.snapshots.current.tenants["default"]
        virtual_server = tenant.virtual_servers[server]
        encoded = {key: Raw(json.dumps(value).encode()) for key, value in params.items()}
        return Admitted(
            call=Call(
                id="1",
                surface="mcp",
                operation="tools/call" if action == "call" else action,
                action=action,
                target=Target(kind, name),
                evidence=Evidence(),
                virtual_server=server,
                params=encoded,
                traits=CallerTraits(revision="2025-11-25"),
            ),
            principal=ANYONE,
            tenant=tenant,
            snapshot=self.snapshots.current,
            provider="catalogue",
            params=encoded,
            view=tenant.tables.view_of(ANYONE),
            virtual_server=virtual_server,
            exposure=virtual_server.system_tools.get(name),
        )

    async def listed(self, kind: TargetKind = "tool", **params: Any) -> dict[str, Any]:
        outcome = self._catalogue.invoke(self.admitted("list", kind, **params))
        return await self._body(outcome)

    async def names(self, **params: Any) -> list[str]:
        return [item["name"] for item in (await self.listed(**params))["tools"]]

    async def states(self) -> dict[str, str]:
        meta = (await self.listed())["_meta"]["io.portico/upstreams"]
        return {name: status["state"] for name, status in meta.items()}

    async def describe(self, system_tool: str, **arguments: Any) -> dict[str, Any]:
        admitted = self.admitted("call", "tool", system_tool, server="portico", arguments=arguments)
        return await self._body(self._self_description.invoke(admitted))

    async def invoke(self, upstream: str) -> Result | Failure:
        request = Request(method="tools/call", params={}, name="x", revision="2026-07-28")
        outcome = self.upstreams.connector("default", upstream).invoke(request, Credential())
        async for event in outcome:
            assert isinstance(event, Result | Failure)
            return event
        raise AssertionError

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds that background work brings about."""
        with anyio.fail_after(5):
            while not await _value(holds):  # noqa: ASYNC110 -- states have no event of their own
                await anyio.sleep(0.005)

    async def _body(self, outcome: Any) -> dict[str, Any]:
        event = await outcome.__anext__()
        assert isinstance(event, Result)
        body: dict[str, Any] = json.loads(bytes(event.body))
        return body


async def _value(holds: Callable[[], Any]) -> Any:
    value = holds()
    return await value if hasattr(value, "__await__") else value


def spec(name: str, **settings: Any) -> UpstreamSpec:
    return UpstreamSpec(name=name, url=f"http://{name}.example/mcp", **settings)


@asynccontextmanager
async def running(
    *scripted: ScriptedUpstream,
    virtual_servers: Sequence[VirtualServerSpec] = (),
    store: KeptListings | None = None,
    around: Surroundings | None = None,
) -> AsyncIterator[Running]:
    """All of ``scripted`` applied and running; they need not have answered."""
    by_name = {one.offer.upstream: one for one in scripted}
    hub = Running(by_name, virtual_servers, around or surroundings(by_name, store))
    async with anyio.create_task_group() as tasks, hub.upstreams.running():
        tasks.start_soon(hub.follow)
        await hub.apply(*(spec(name) for name in by_name))
        yield hub
        tasks.cancel_scope.cancel()


def upstream(name: str, *tools: Any, **settings: Any) -> ScriptedUpstream:
    return ScriptedUpstream(name, listing(name, tools, **settings))


async def test_one_that_hangs_one_that_refuses_and_one_that_works_are_told_apart() -> None:
    hangs, refuses, works = upstream("hangs", "a"), upstream("refuses", "b"), upstream("works", "c")
    hangs.gate = anyio.Event()
    refuses.error = Unreachable("connection refused at 10.0.0.7")
    async with running(hangs, refuses, works) as hub:
        admitted = hub.admitted("list", "tool")
        assert admitted.virtual_server is not None
        first = hub.upstreams.first_listing(admitted.virtual_server)
        assert first is not None
        with anyio.fail_after(3):
            await first
        await hub.until(lambda: _is(hub.names(), ["c"]))
        assert hub.upstreams.first_listing(admitted.virtual_server) is None
        began = perf_counter()
        assert await hub.states() == {"hangs": "pending", "refuses": "down", "works": "live"}
        assert perf_counter() - began < 0.1
        assert "10.0.0.7" not in json.dumps(await hub.listed())
        assert "10.0.0.7" in hub.upstreams.statuses("default")["refuses"].error
        hangs.gate.set()
        await hub.until(lambda: _is(hub.names(), ["a", "c"]))


async def _is(awaitable: Any, expected: Any) -> bool:
    return bool(await awaitable == expected)


async def test_first_listings_are_named_together_whoever_is_faster() -> None:
    fast, slow = upstream("zeta", "same"), upstream("alpha", "same")
    slow.gate = anyio.Event()
    async with running(fast, slow) as hub:
        await hub.until(lambda: hub.upstreams.statuses("default")["zeta"].state == "live")
        assert await hub.names() == []
        slow.gate.set()
        await hub.until(lambda: _is(hub.names(), ["same", "zeta_same"]))


async def test_a_listing_outlives_its_upstream_and_the_process() -> None:
    store, works = KeptListings(), upstream("u", "a")
    async with running(works, store=store) as hub:
        await hub.until(lambda: _is(hub.names(), ["a"]))
        works.error = Unreachable("gone")
        status = await hub.upstreams.refresh("default", "u")
        assert status.state == "stale"
        assert status.error == "gone"
        assert await hub.names() == ["a"]
    dead = upstream("u")
    dead.error = Unreachable("still gone")
    async with running(dead, store=store) as hub:
        assert await hub.names() == ["a"]
        assert hub.upstreams.first_listing(hub.admitted("list", "tool").virtual_server) is None  # type: ignore[arg-type]  # it is there
        assert (await hub.states())["u"] == "stale"


async def test_a_change_is_fetched_once_and_soon() -> None:
    works = upstream("u", "a")
    async with running(works) as hub:
        await hub.until(lambda: _is(hub.names(), ["a"]))
        lists, compiles = works.lists, hub.compiles
        works.offer = listing("u", ["a", "b"])
        began = perf_counter()
        for _ in range(20):
            works.change("tools")
        await hub.until(lambda: _is(hub.names(), ["a", "b"]))
        assert perf_counter() - began < 0.8
        assert works.lists == lists + 1
        assert hub.compiles == compiles + 1
        await hub.upstreams.refresh("default", "u")
        assert hub.compiles == compiles + 1


async def test_a_lost_connection_is_made_again_and_missed_updates_are_announced() -> None:
    works = ScriptedUpstream("u", listing("u", resources=["r:1"], templates=["t:{x}"]))
    async with running(works) as hub:
        await hub.until(lambda: hub.upstreams.statuses("default")["u"].state == "live")
        await hub.until(lambda: _has(hub, "r:1"))
        hub.watching.changed("default", "default", frozenset({"r:1", "t:9"}))
        await hub.until(lambda: works.watched == [frozenset({"r:1", "t:9"})])
        works.change("resource", "r:1")
        assert hub.published == [ResourceUpdated("default", "default", "r:1")]
        works.change("closed")
        assert hub.upstreams.statuses("default")["u"].state == "stale"
        await hub.until(lambda: hub.upstreams.statuses("default")["u"].state == "live")
        assert {change.uri for change in hub.published[1:]} == {"r:1", "t:9"}  # type: ignore[union-attr]  # only updates are published here
        hub.watching.changed("default", "default", frozenset())
        await hub.until(lambda: works.watched[-1] == frozenset())


async def _has(hub: Running, uri: str) -> bool:
    return any(item["uri"] == uri for item in (await hub.listed("resource"))["resources"])


async def test_upstreams_come_go_and_change_while_calls_are_under_way() -> None:
    old, other = upstream("u", "a"), upstream("v", "b")
    async with running(old, other) as hub:
        await hub.until(lambda: _is(hub.names(), ["a", "b"]))
        old.holding = anyio.Event()
        results: list[Result | Failure] = []

        async def call() -> None:
            results.append(await hub.invoke("u"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await hub.until(lambda: len(old.requests) == 1)
            await hub.apply(spec("v", timeout_s=5))
            assert await hub.names() == ["b"]
            assert old.closed == 0
            old.holding.set()
        assert isinstance(results[0], Result)
        await hub.until(lambda: old.closed == 1)
        await hub.until(lambda: other.closed == 1)
        assert hub.upstreams.timeout_s("default", "v") == 5
        gone = await hub.invoke("u")
        assert isinstance(gone, Failure)
        assert gone.kind == "unreachable"
        await hub.apply(spec("v", timeout_s=5, enabled=False))
        assert await hub.names() == []
        assert await hub.states() == {"v": "disabled"}


async def test_whoever_waits_for_a_refresh_of_one_that_goes_is_let_go() -> None:
    slow = upstream("u", "a")
    slow.gate = anyio.Event()
    async with running(slow) as hub, anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def refresh() -> None:
            await hub.upstreams.refresh("default", "u")
            done.set()

        tasks.start_soon(refresh)
        slow.gate.set()
        await hub.until(lambda: slow.lists)
        slow.gate = anyio.Event()
        await hub.until(lambda: slow.opened == 2)
        await hub.apply()
        with anyio.fail_after(3):
            await done.wait()


async def test_one_that_cannot_be_watched_spoils_nothing() -> None:
    broken = ScriptedUpstream("u", listing("u", ["a"], resources=["r:1"]))
    broken.watch_error = RuntimeError("as asked")
    async with running(broken) as hub:
        await hub.until(lambda: _has(hub, "r:1"))
        hub.watching.changed("default", "default", frozenset({"r:1"}))
        await hub.until(lambda: broken.watched)
        assert isinstance(await hub.invoke("u"), Result)
        broken.watch_error = None
        hub.watching.changed("default", "default", frozenset())
        await hub.until(lambda: broken.watched[-1] == frozenset())


async def test_one_that_cannot_even_be_made_spoils_nothing() -> None:
    works, broken = upstream("works", "a"), upstream("broken", "b")
    good = surroundings({"works": works, "broken": broken})
    is_broken = True

    def connect(wanted: UpstreamSpec, on_change: Any) -> Any:
        if wanted.name == "broken" and is_broken:
            raise Misconfigured("there is no such executable")
        return good.connect(wanted, on_change)

    around = Surroundings(
        connect=connect,
        store=good.store,
        leases=good.leases,
        holder=good.holder,
        now=good.now,
        clock=good.clock,
        jitter=good.jitter,
    )
    async with running(broken, works, around=around) as hub:
        await hub.until(lambda: _is(hub.names(), ["a"]))
        assert await hub.states() == {"broken": "down", "works": "live"}
        failed = await hub.invoke("broken")
        assert isinstance(failed, Failure)
        is_broken = False
        await hub.upstreams.refresh("default", "broken")
        await hub.until(lambda: _is(hub.names(), ["a", "b"]))
        assert isinstance(await hub.invoke("broken"), Result)


async def test_failures_in_a_row_open_the_circuit_and_a_probe_closes_it() -> None:
    works = upstream("u", "a")
    async with running(works) as hub:
        await hub.until(lambda: _is(hub.names(), ["a"]))
        works.answer = unreachable
        works.error = Unreachable("gone")
        for _ in range(THRESHOLD):
            assert isinstance(await hub.invoke("u"), Failure)
        sent = len(works.requests)
        turned_away = await hub.invoke("u")
        assert isinstance(turned_away, Failure)
        assert turned_away.kind == "unreachable"
        assert turned_away.retry_after_s is not None
        assert len(works.requests) == sent
        await hub.until(lambda: hub.upstreams.statuses("default")["u"].state == "stale")
        works.error = None
        works.answer = upstream("u").answer
        await hub.upstreams.refresh("default", "u")
        assert isinstance(await hub.invoke("u"), Result)


def test_a_half_open_circuit_lets_one_probe_through() -> None:
    now = 0.0
    opened = []
    circuit = Circuit(lambda: now, lambda: 1.0, lambda: opened.append(now))
    for _ in range(THRESHOLD):
        assert circuit.admits()
        circuit.failed()
    assert not circuit.admits()
    now = 1.0
    assert circuit.admits()
    assert not circuit.admits()
    circuit.given_up()
    assert circuit.admits()
    circuit.failed()
    assert opened == [0.0, 1.0]
    assert circuit.retry_after_s == 2.0
    now = 3.0
    assert circuit.admits()
    circuit.succeeded()
    assert circuit.admits()
    assert circuit.admits()


async def test_one_replica_lists_and_the_other_takes_over_what_it_found() -> None:
    store, leases = KeptListings(), Leases(anyio.current_time)
    first, second = upstream("u", "a"), upstream("u")
    one = surroundings({"u": first}, store, leases, "one")
    two = surroundings({"u": second}, store, leases, "two")
    async with running(first, around=one) as busy:
        await busy.until(lambda: _is(busy.names(), ["a"]))
        async with running(second, around=two) as idle:
            assert await idle.names() == ["a"]
            await idle.until(lambda: idle.upstreams.statuses("default")["u"].state == "live")
            first.offer = listing("u", ["a", "b"])
            await busy.upstreams.refresh("default", "u")
            await idle.apply(spec("u"))
            await idle.until(lambda: _is(idle.names(), ["a", "b"]))
            assert second.lists == 0


async def test_pages_are_bounded_and_cursors_survive_changes() -> None:
    large = [tool(f"t{number:02}", "x" * 100_000) for number in range(25)]
    works = upstream("u", *large)
    async with running(works) as hub:
        await hub.until(lambda: _is(_page_length(hub), 10))
        first = await hub.listed()
        assert len(json.dumps(first)) < 1.1 * MAX_PAGE_BYTES
        assert await hub.listed() == first  # every page is kept whole, its cursor included
        last = first["tools"][-1]["name"]
        works.offer = listing("u", [item for item in large if item["name"] != last])
        await hub.upstreams.refresh("default", "u")
        await hub.until(lambda: hub.compiles >= 3)
        seen = [item["name"] for item in first["tools"]]
        page = first
        while "nextCursor" in page:
            page = await hub.listed(cursor=page["nextCursor"])
            seen += [item["name"] for item in page["tools"]]
        assert seen == [item["name"] for item in large]
        for cursor in ("", "nonsense", first["nextCursor"][:-2], 5, {"a": 1}):
            with pytest.raises(Refusal) as refused:
                await hub.listed(cursor=cursor)
            assert refused.value.reason == "invalid"
        with pytest.raises(Refusal):
            await hub.listed("resource", cursor=first["nextCursor"])


async def _page_length(hub: Running) -> int:
    return len((await hub.listed())["tools"])


def test_the_cache_of_pages_keeps_what_fits() -> None:
    cache = PageCache(max_bytes=15_000)
    for number in range(20):
        cache.put(number, Page(b"x" * 1000))
        cache.get(0)
    assert cache.size_bytes <= 15_000
    assert cache.get(0) is not None
    assert cache.get(19) is not None
    assert cache.get(5) is None
    assert join([("a", b"1"), ("b", b"2")]) == Page(b"[1,2]")
    assert join([("a", b"1" * 50), ("b", b"2" * 50)], max_bytes=60) == Page(
        b"[%b]" % (b"1" * 50), "a"
    )
    assert join([]) == Page(b"[]")


async def test_discovery_and_subscriptions_are_answered_without_upstreams() -> None:
    works = upstream("u", "a", prompts=["p"], instructions="Be kind.")
    async with running(works, virtual_servers=[everything_of("u", title="Development")]) as hub:
        await hub.until(lambda: _is(hub.names(), ["a"]))
        provider = hub._catalogue
        asked = hub.admitted("discover", "virtual_server", server="dev")
        found = await hub._body(provider.invoke(asked))
        assert found["title"] == "Development"
        assert found["instructions"] == "u: Be kind."
        assert found["capabilities"]["prompts"] == {"listChanged": True}
        subscribed = hub.admitted("subscribe", "resource", "r:1", server="dev")
        assert await hub._body(provider.invoke(subscribed)) == {}
        assert works.requests == []


async def test_the_hub_tells_callers_about_their_own_view() -> None:
    works = upstream("u", tool("a", execution={"taskSupport": "required"}), "b")
    never = everything_of("u", "v", name="never", prefix="never")
    async with running(works, upstream("v", "b"), virtual_servers=[never]) as hub:
        await hub.until(lambda: _is(hub.names(server="never"), ["a", "b"]))
        access = (await hub.describe("describe_access"))["structuredContent"]
        assert access["principal"]["name"] == "anonymous"
        assert [server["path"] for server in access["virtual_servers"]] == ["/mcp", "/v/never/mcp"]
        assert access["virtual_servers"][0]["tools"] == 3
        assert access["virtual_servers"][0]["upstreams"]["u"]["state"] == "live"
        works.error = Unreachable("gone")
        await hub.upstreams.refresh("default", "u")
        told = (await hub.describe("describe_capability", name="a"))["structuredContent"]
        assert told["upstream"] == "u"
        assert told["state"] == "stale"
        assert {finding["what"] for finding in told["findings"]} == {"stale", "missing_in_revision"}
        told = await hub.describe("describe_capability", name="b", virtual_server="never")
        assert "shadowed" in {finding["what"] for finding in told["structuredContent"]["findings"]}
        absent = await hub.describe("describe_capability", name="zz")
        elsewhere = await hub.describe("describe_capability", name="zz", virtual_server="nowhere")
        assert absent["isError"]
        assert elsewhere["isError"]
        assert (await hub.describe("describe_capability"))["isError"]


async def test_nothing_is_left_open_when_it_ends() -> None:
    works, hangs = upstream("u", "a"), upstream("v")
    hangs.gate = anyio.Event()
    async with running(works, hangs) as hub:
        await hub.until(lambda: works.lists == 1)
    assert works.closed == 1
    assert hangs.closed == 1
    assert datetime.now(UTC).isoformat() > hub.upstreams.statuses("default")["u"].since
