"""What rules did, counted: guardrails, limits, budgets, and what calls cost.

Names of rules become labels only when somebody configured them, and at most :data:`MAX_RULE_LABELS`
of them as long as the process lives; all others are counted together.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric

from hub.domain.record import Entry
from hub.domain.rules import RuleKind

OTHER: Final = "other"
"""Label of everything that no list holds, so that nobody can make series."""

MAX_RULE_LABELS: Final = 200
MAX_CURRENCY_LABELS: Final = 20

_MICRO: Final = 1_000_000
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_ACTIONS: Final = frozenset(("block", "redact", "monitor", "refuse", "alert"))
_ACTIONS_OF: Final[Mapping[RuleKind, tuple[str, ...]]] = {
    "guardrail": ("block", "redact", "monitor"),
    "rate": ("refuse",),
    "quota": ("refuse",),
    "concurrency": ("refuse",),
    "budget": ("refuse", "alert"),
}
"""What rules of a kind do; shown as zero before they did it, so that the first time is a rise."""

_Act = tuple[str, str, str]
"""Rule, kind and action, as labels have them."""


def _none_configured() -> Mapping[str, RuleKind]:
    return {}


class RuleCounts:
    """Plain tables, filled from entries that say that a rule acted or that something was charged."""

    def __init__(self) -> None:
        self.configured: Callable[[], Mapping[str, RuleKind]] = _none_configured
        """Names of the rules in force and their kinds; asked when a name is met for the first time."""
        self._acts: Counter[_Act] = Counter()
        self._micro: Counter[str] = Counter()
        self._known: dict[str, _Act] = {}
        """Note of an entry -> its labels; notes of configured rules only, so that it is bounded."""
        self._rules: set[str] = set()

    def count(self, entry: Entry) -> None:
        """Count what rules did to a call, and what it cost."""
        for note in entry.rules:
            self._acts[self._known.get(note) or self._labelled(note)] += 1
        if entry.cost:
            currency = entry.currency
            if currency not in self._micro and (
                len(self._micro) >= MAX_CURRENCY_LABELS or not _CURRENCY.fullmatch(currency)
            ):
                currency = OTHER
            self._micro[currency] += entry.cost

    def collect(self) -> Iterator[Metric]:
        """The families, as ``prometheus_client`` asks for them."""
        self._show_configured()
        blocks = CounterMetricFamily(
            "proxy_guardrail_blocks",
            "What guardrails did to calls: block, redact, or monitor for what they would have done.",
            labels=("rule", "action"),
        )
        refusals = CounterMetricFamily(
            "portico_refusals",
            "Calls that limits and budgets turned down, by the kind of what was used up.",
            labels=("rule", "reason"),
        )
        alerts = CounterMetricFamily(
            "portico_budget_alerts",
            "Shares of budgets that were reached and announced.",
            labels=("rule",),
        )
        announced: Counter[str] = Counter()
        for (rule, kind, action), count in self._acts.items():
            if action == "refuse":
                refusals.add_metric((rule, kind), count)
            elif action == "alert":
                announced[rule] += count
            else:
                blocks.add_metric((rule, action), count)
        for rule, count in announced.items():
            alerts.add_metric((rule,), count)
        cost = CounterMetricFamily(
            "portico_cost",
            "What calls cost by the configured prices, in units of the currency.",
            labels=("currency",),
        )
        for currency, micro in self._micro.items():
            cost.add_metric((currency,), micro / _MICRO)
        yield from (blocks, refusals, alerts, cost)

    def _show_configured(self) -> None:
        for name, kind in self.configured().items():
            for action in _ACTIONS_OF[kind]:
                note = f"{name}={action}"
                labels = self._known.get(note) or self._labelled(note)
                if labels[0] != OTHER:
                    self._acts[labels] += 0

    def _labelled(self, note: str) -> _Act:
        """Labels that neither callers nor those who rename rules can multiply."""
        name, _, action = note.rpartition("=")
        if action not in _ACTIONS:
            action = OTHER
        kind = self.configured().get(name)
        if kind is None:
            return OTHER, OTHER if action == "refuse" else "", action
        # One kind for each rule and family: a name that is another kind elsewhere makes no series.
        labelled_kind = kind if action == "refuse" else ""
        if name not in self._rules and len(self._rules) >= MAX_RULE_LABELS:
            return OTHER, labelled_kind, action
        self._rules.add(name)
        labels = self._known[note] = (name, labelled_kind, action)
        return labels
