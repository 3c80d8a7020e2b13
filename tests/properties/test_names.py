"""Exposed names follow from configuration and ledger, whatever else happens."""

import re
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.catalog.names import MemoryLedger, original_uri
from hub.compile import Compiler
from hub.domain.catalog import CapabilityId, Exposure, Kind, UpstreamListing, VirtualServer
from hub.domain.desired import Include, Override, Prefix, VirtualServerSpec
from tests.listings import compiled, everything_of, listing, served

pytestmark = pytest.mark.anyio

UPSTREAMS = ("alpha", "beta", "a-very-long-upstream-name-of-some-team", "Beta_")
LEGAL = re.compile(r"[A-Za-z0-9_-]{1,48}")

names = st.one_of(
    st.sampled_from([
        "get",
        "GET",
        "a.b",
        "a_b",
        "a-b",
        "beta_get",
        "alpha_get",
        "x" * 47,
        "x" * 90,
    ]),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60),
)
prefixes = st.sampled_from(["auto", "always", "never"])
uris = st.sampled_from(["file:///a", "file:///b", "portico://alpha/file:///a", "x:y"])
offers = st.fixed_dictionaries({
    upstream: st.tuples(
        st.lists(names, unique=True, max_size=5), st.lists(uris, unique=True, max_size=3)
    )
    for upstream in UPSTREAMS
})
Offers = Mapping[str, tuple[list[str], list[str]]]


def listings_of(offered: Offers) -> list[UpstreamListing]:
    return [
        listing(upstream, tools, resources=found, prompts=tools)
        for upstream, (tools, found) in offered.items()
    ]


def exposures(server: VirtualServer) -> Iterator[Exposure]:
    kinds: tuple[Kind, ...] = ("tool", "prompt", "resource", "template")
    for kind in kinds:
        yield from server.of_kind(kind).values()


def names_of(server: VirtualServer) -> dict[CapabilityId, str]:
    return {exposure.capability: exposure.name for exposure in exposures(server)}


@given(offers, prefixes)
async def test_every_name_is_legal_and_unique_in_any_case(offered: Offers, prefix: Prefix) -> None:
    spec = everything_of(*UPSTREAMS, prefix=prefix)
    snapshot = await compiled(listings_of(offered), [spec])
    for server in snapshot.tenants["default"].virtual_servers.values():
        for exposed in (server.tools, server.prompts):
            assert all(LEGAL.fullmatch(name) for name in exposed)
            assert len({name.casefold() for name in exposed}) == len(exposed)
        for exposure in server.resources.values():
            assert original_uri(exposure, exposure.name) == exposure.capability.name
    if prefix != "never":
        offered_count = sum(2 * len(tools) + len(found) for tools, found in offered.values())
        dev = snapshot.tenants["default"].virtual_servers["dev"]
        assert len(list(exposures(dev))) == offered_count


@given(offers, st.permutations(UPSTREAMS))
async def test_the_order_of_upstreams_has_no_say(offered: Offers, order: list[str]) -> None:
    spec = everything_of(*UPSTREAMS)
    other = everything_of(*order)
    one = await served(listings_of(offered), spec)
    two = await served(listings_of({name: offered[name] for name in order}), other)
    assert names_of(one) == names_of(two)
    assert list(one.tools) == list(two.tools)


@given(st.lists(offers, min_size=2, max_size=4))
async def test_an_assigned_name_stays_and_is_never_anothers(states: list[Offers]) -> None:
    """Upstreams come, go and change what they list; the hub restarts in between."""
    ledger = MemoryLedger()
    compiler = Compiler(ledger)
    first_owner: dict[tuple[str, str, str], CapabilityId] = {}
    for number, offered in enumerate(states):
        if number % 2:
            compiler = Compiler(ledger)
        snapshot = await compiled(
            listings_of(offered), [everything_of(*UPSTREAMS)], compiler=compiler
        )
        for server in snapshot.tenants["default"].virtual_servers.values():
            for exposure in exposures(server):
                folded = exposure.name
                if exposure.kind in ("tool", "prompt"):
                    folded = folded.casefold()
                key = (server.name, exposure.kind, folded)
                assert first_owner.setdefault(key, exposure.capability) == exposure.capability
    again = await compiled(listings_of(states[0]), [everything_of(*UPSTREAMS)], compiler=compiler)
    fresh = await compiled(
        listings_of(states[0]), [everything_of(*UPSTREAMS)], compiler=Compiler(ledger)
    )
    for name, server in again.tenants["default"].virtual_servers.items():
        assert names_of(server) == names_of(fresh.tenants["default"].virtual_servers[name])


async def test_who_comes_first_keeps_the_plain_name() -> None:
    compiler = Compiler(MemoryLedger())
    spec = everything_of("alpha", "beta")
    beta, alpha = listing("beta", ["get", "put"]), listing("alpha", ["get"])
    assert list((await served([beta], spec, compiler=compiler)).tools) == ["get", "put"]
    server = await served([alpha, beta], spec, compiler=compiler)
    assert server.tools["get"].capability.upstream == "beta"
    assert server.tools["alpha_get"].capability.upstream == "alpha"
    alone = await served([alpha], spec, compiler=compiler)
    assert list(alone.tools) == ["alpha_get"]


async def test_always_puts_the_upstream_in_front_but_not_of_written_names() -> None:
    include = Include(upstream="alpha", override={"put": Override(name="store")})
    spec = VirtualServerSpec(name="dev", prefix="always", include=(include,))
    server = await served([listing("alpha", ["get", "put"])], spec)
    assert list(server.tools) == ["alpha_get", "store"]


async def test_never_shadows_the_later_one_and_reports_it() -> None:
    spec = everything_of("alpha", "beta", prefix="never")
    found = [listing("alpha", ["get", "put"]), listing("beta", ["get", "b.c"])]
    snapshot = await compiled(found, [spec])
    tenant = snapshot.tenants["default"]
    server = tenant.virtual_servers["dev"]
    assert list(server.tools) == ["b_c", "get", "put"]
    assert server.tools["get"].capability.upstream == "alpha"
    assert [shadowed.capability.upstream for shadowed in server.shadowed] == ["beta"]
    assert any("shadowed" in problem for problem in tenant.problems["beta"])


async def test_two_hubs_on_one_ledger_give_the_same_names() -> None:
    ledger = MemoryLedger()
    one, two = Compiler(ledger), Compiler(ledger)
    spec = everything_of("alpha", "beta")
    alpha, beta = listing("alpha", ["get"]), listing("beta", ["get"])
    first = await served([alpha], spec, compiler=one)
    second = await served([beta], spec, compiler=two)
    both = [await served([alpha, beta], spec, compiler=compiler) for compiler in (one, two)]
    assert list(first.tools) == ["get"]
    assert list(second.tools) == ["beta_get"]
    assert names_of(both[0]) == names_of(both[1])


async def test_a_resource_keeps_its_uri_and_a_later_one_gets_a_prefix_that_comes_off() -> None:
    found = [
        listing("alpha", resources=["file:///a"], templates=["file:///{path}"]),
        listing("beta", resources=["file:///a", "mem:x"], templates=["file:///{path}"]),
    ]
    server = await served(found, everything_of("alpha", "beta"))
    assert list(server.resources) == ["file:///a", "mem:x", "portico://beta/file:///a"]
    assert server.renamed_uris == {"beta": {"file:///a": "portico://beta/file:///a"}}
    template = server.templates["portico://beta/file:///{path}"]
    assert original_uri(template, "portico://beta/file:///z") == "file:///z"
    assert server.templates["file:///{path}"].capability.upstream == "alpha"
