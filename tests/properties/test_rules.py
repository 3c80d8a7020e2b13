"""Rules narrow and never widen: a further rule lets no call through that was turned down without it."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from hub.audit.recorder import Recorder
from hub.catalog.names import MemoryLedger
from hub.compile import Compiler, Source, TenantSource
from hub.domain.catalog import KINDS
from hub.domain.desired import Desired, GrantSpec, KeySpec
from hub.domain.rules import Attach, BudgetSpec, GuardrailSpec, LimitSpec, PriceSpec
from hub.identity.api_keys import digest_of
from hub.snapshot import Snapshot
from hub.vault.key_ring import KeyRing
from tests.listings import desired
from tests.properties.test_grants import (
    GRANTEE,
    KEY,
    TOOLS,
    grants,
    hub_of,
    recorder,
    ring,
    specs,
    universe,
)

__all__ = ["recorder", "ring"]

pytestmark = pytest.mark.anyio

Rule = GuardrailSpec | LimitSpec | BudgetSpec
SERVERS = ("default", "one", "two")

attachments = st.builds(
    Attach,
    tenant=st.just("default"),
    group=st.sampled_from([None, "team", "others"]),
    virtual_server=st.sampled_from([None, *SERVERS]),
    tool=st.sampled_from([None, "one/found", "one/get", "two/get", "default/put"]),
)


def _words(*words: str) -> Raw:
    return Raw(json.dumps({"words": words}).encode())


def _named(rules: Sequence[Rule]) -> list[Rule]:
    return [replace(rule, name=f"rule{number}") for number, rule in enumerate(rules)]


rules = st.lists(
    st.one_of(
        st.builds(
            GuardrailSpec,
            name=st.just(""),
            check=st.just("words"),
            on=st.sampled_from([("request",), ("response",), ("request", "response")]),
            action=st.sampled_from(["block", "redact"]),
            mode=st.sampled_from(["enforce", "monitor"]),
            attach=attachments,
            options=st.sampled_from([_words("acme"), _words("beta"), _words("nothing")]),
        ),
        st.builds(
            LimitSpec,
            name=st.just(""),
            per=st.sampled_from(["key", "principal", "group", "virtual_server", "tool", "tenant"]),
            attach=attachments,
            quota=st.sampled_from(["1/day", "2/day", "9/day"]),
        ),
        st.builds(
            BudgetSpec,
            name=st.just(""),
            amount=st.sampled_from(["0.00 USD", "0.02 USD", "1.00 USD"]),
            period=st.just("day"),
            per=st.sampled_from(["principal", "group", "tenant"]),
            attach=attachments,
            on_limit=st.sampled_from(["block", "alert"]),
        ),
    ),
    max_size=4,
).map(_named)


async def snapshot_with(base: Desired, some: Sequence[Rule]) -> Snapshot:
    wanted = replace(
        base,
        guardrails=tuple(rule for rule in some if isinstance(rule, GuardrailSpec)),
        limits=tuple(rule for rule in some if isinstance(rule, LimitSpec)),
        budgets=tuple(rule for rule in some if isinstance(rule, BudgetSpec)),
        prices=(PriceSpec(upstream="alpha", per_call="0.01 USD"),),
    )
    key = KeySpec(id="k", tenant="default", principal=GRANTEE, digest=digest_of(KEY))
    source = TenantSource(desired=wanted, listings={item.upstream: item for item in universe()})
    return await Compiler(MemoryLedger()).compile(Source(tenants=(source,), keys=(key,)))


def is_refused(answer: bytes) -> bool:
    return answer.startswith(b"refused")


@settings(max_examples=25)
@given(some=rules, further=rules.filter(bool), granted=grants)
async def test_a_further_rule_never_adds_access(
    ring: KeyRing,
    recorder: Recorder,
    some: list[Rule],
    further: list[Rule],
    granted: list[GrantSpec],
) -> None:
    listings = universe()
    base = desired(
        listings,
        specs("full", "full"),
        grants=granted,
        groups={"team": [GRANTEE], "others": []},
        principals=[GRANTEE],
    )
    answers: list[dict[Any, bytes]] = []
    for wanted in (some, _named([*some, *further])):
        snapshot = await snapshot_with(base, wanted)
        asked: dict[Any, bytes] = {}
        async with hub_of(snapshot, listings, ring, recorder) as hub:
            for server in SERVERS:
                for kind in KINDS:
                    asked[server, kind] = await hub.listed(kind, server)
            # Each twice, so that counts come to their end.
            for turn in range(2):
                for server in SERVERS:
                    for name in (*TOOLS, "found"):
                        asked[turn, server, name] = await hub.use("tool", name, server)
        answers.append(asked)
    before, after = answers
    for what, answer in before.items():
        if what[1] in KINDS:
            assert after[what] == answer, what  # rules decide nothing about lists
        elif is_refused(answer) and _is_denied(answer):
            assert is_refused(after[what]), what


def _is_denied(answer: bytes) -> bool:
    """Denied by grants or blocked by a guardrail: what no count has a say in.

    A call that a further guardrail blocks leaves its money to a later one, which may then go on.
    """
    return b" Limit '" not in answer and b" Budget '" not in answer
