"""What rules did and what calls cost, as metrics: under labels that nobody can multiply."""

from collections.abc import Mapping
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.domain.call import Call, CallerTraits, Target
from hub.domain.principal import Evidence
from hub.domain.record import Entry
from hub.domain.rules import RuleKind
from hub.telemetry.metrics import Metrics
from hub.telemetry.rule_counts import MAX_CURRENCY_LABELS, MAX_RULE_LABELS

CONFIGURED: Mapping[str, RuleKind] = {
    "no-secrets": "guardrail",
    "schema": "guardrail",
    "burst": "rate",
    "day": "quota",
    "width": "concurrency",
    "support-month": "budget",
}
CALL = Call(
    id="c1",
    surface="mcp",
    operation="tools/call",
    action="call",
    target=Target("tool", "find_order"),
    evidence=Evidence(),
    traits=CallerTraits(revision="2026-07-28"),
)


def ended(metrics: Metrics, *rules: str, **fields: Any) -> None:
    """A call on which these rules acted."""
    metrics.ended(metrics.started(CALL), entry(*rules, **fields), None)


def entry(*rules: str, **fields: Any) -> Entry:
    known = {"outcome": "ok", "duration_us": 700, **fields}
    return Entry(
        call="c1",
        at=datetime.now(UTC),
        tenant="default",
        surface="mcp",
        operation="tools/call",
        rules=rules,
        **known,
    )


def counting() -> Metrics:
    metrics = Metrics(version="1")
    metrics.watch_rules(lambda: CONFIGURED)
    return metrics


def shown(metrics: Metrics, family: str, *, zeros: bool = False) -> dict[tuple[str, ...], float]:
    """Values by labels, in the order of the labels' names; without zeros unless they are wanted."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for each in text_string_to_metric_families(metrics.exposition()[0].decode())
        if each.name == family
        for sample in each.samples
        if sample.value or zeros
    }


def test_what_guardrails_did_is_counted_by_rule_and_action() -> None:
    metrics = counting()
    ended(metrics, "no-secrets=redact")
    ended(metrics, "no-secrets=redact", "schema=block", outcome="refused")
    ended(metrics, "schema=monitor")
    assert shown(metrics, "proxy_guardrail_blocks") == {
        ("redact", "no-secrets"): 2,
        ("block", "schema"): 1,
        ("monitor", "schema"): 1,
    }
    assert shown(metrics, "portico_refusals") == {}


def test_refusals_say_what_was_used_up_and_alerts_are_apart() -> None:
    metrics = counting()
    for rule in ("burst", "burst", "day", "width", "support-month"):
        ended(metrics, f"{rule}=refuse", outcome="refused", reason=rule)
    metrics.noted(entry("support-month=alert", outcome="aggregate"))
    assert shown(metrics, "portico_refusals") == {
        ("rate", "burst"): 2,
        ("quota", "day"): 1,
        ("concurrency", "width"): 1,
        ("budget", "support-month"): 1,
    }
    assert shown(metrics, "portico_budget_alerts") == {("support-month",): 1}
    assert shown(metrics, "proxy_guardrail_blocks") == {}
    assert sum(shown(metrics, "proxy_requests").values()) == 5, "an alert is no call"


def test_cost_is_shown_in_units_and_adds_up_exactly() -> None:
    metrics = counting()
    for _ in range(1000):
        ended(metrics, cost=2_001, currency="USD")
    ended(metrics, cost=5_000_000, currency="EUR")
    assert shown(metrics, "portico_cost") == {("USD",): 2.001, ("EUR",): 5.0}


def test_what_has_not_happened_yet_is_zero_so_that_the_first_time_is_a_rise() -> None:
    metrics = counting()
    assert shown(metrics, "portico_budget_alerts", zeros=True) == {("support-month",): 0}
    assert shown(metrics, "portico_refusals", zeros=True) == {
        ("rate", "burst"): 0,
        ("quota", "day"): 0,
        ("concurrency", "width"): 0,
        ("budget", "support-month"): 0,
    }
    assert len(shown(metrics, "proxy_guardrail_blocks", zeros=True)) == 6


def test_hostile_names_make_no_series() -> None:
    metrics = counting()
    for number in range(5000):
        ended(metrics, f"invented-{number}=block", cost=1, currency=f"X{number}")
        ended(metrics, f"invented-{number}=refuse", f"a=b=c{number}", "", f'"\n{number}')
        ended(metrics, f"no-secrets=invented-{number}")
    assert shown(metrics, "proxy_guardrail_blocks") == {
        ("block", "other"): 5000,
        ("other", "other"): 15_000,
        ("other", "no-secrets"): 5000,
    }
    assert shown(metrics, "portico_refusals") == {("other", "other"): 5000}
    assert shown(metrics, "portico_cost") == {("other",): 0.005}


def test_rules_that_are_renamed_again_and_again_make_a_bounded_number_of_series() -> None:
    names: dict[str, RuleKind] = {}
    metrics = Metrics(version="1")
    metrics.watch_rules(lambda: names)
    for number in range(3 * MAX_RULE_LABELS):
        names.clear()
        names[f"rule-{number}"] = "guardrail"
        ended(metrics, f"rule-{number}=block", cost=1, currency=f"C{number:02}"[:3])
        ended(metrics, f"rule-{number}=refuse")
    blocks = shown(metrics, "proxy_guardrail_blocks", zeros=True)
    assert len([action for action, _ in blocks if action == "block"]) == MAX_RULE_LABELS + 1
    assert len(blocks) <= 3 * (MAX_RULE_LABELS + 1)
    assert shown(metrics, "proxy_guardrail_blocks")["block", "other"] == 2 * MAX_RULE_LABELS
    assert len(shown(metrics, "portico_refusals")) == MAX_RULE_LABELS + 1
    letters = [f"A{one}{two}" for one in "ABCDEFGHIJ" for two in "ABCDEFGHIJ"]
    for currency in letters:
        ended(metrics, cost=1, currency=currency)
    assert len(shown(metrics, "portico_cost")) <= MAX_CURRENCY_LABELS + 1


def test_how_limits_are_counted_is_one_of_three_states() -> None:
    metrics = Metrics(version="1")
    assert shown(metrics, "portico_counting_state") == {}
    metrics.watch_counting(lambda: "local")
    assert shown(metrics, "portico_counting_state", zeros=True) == {
        ("shared",): 0,
        ("local",): 1,
        ("refused",): 0,
    }


@pytest.mark.alone
def test_a_call_without_rules_costs_no_more_than_looking() -> None:
    metrics = counting()
    plain, ruled = entry(), entry("no-secrets=redact", "burst=refuse", cost=2, currency="USD")
    rounds = 20_000

    def cost_us(one: Entry) -> float:
        began = perf_counter()
        for _ in range(rounds):
            metrics.started(CALL)
            metrics.ended(CALL, one, 300)
        return (perf_counter() - began) / rounds * 1e6

    assert min(cost_us(plain) for _ in range(5)) < 5
    assert min(cost_us(ruled) for _ in range(5)) < 10
    before = shown(metrics, "proxy_guardrail_blocks")
    cost_us(plain)
    assert shown(metrics, "proxy_guardrail_blocks") == before
