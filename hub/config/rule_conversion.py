"""Sections on rules <-> desired state."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Raw

from hub.config.references import absolute_reference
from hub.config.rule_sections import (
    AttachSection,
    BudgetSection,
    GuardrailSection,
    LimitSection,
    PriceSection,
)
from hub.domain.rules import Attach, BudgetSpec, GuardrailSpec, LimitSpec, PriceSpec
from hub.domain.source import Source

RuleSpec = GuardrailSpec | LimitSpec | PriceSpec | BudgetSpec
_OWN: Final = frozenset(("source", "guarded"))


def guardrail_spec(
    section: GuardrailSection, source: Source, base: Path | None = None
) -> GuardrailSpec:
    """A guardrail as the rest of the hub sees it; files of secrets are taken from ``base``."""
    options = section.options()
    if base is not None:
        _with_base(options, base)
    text = json.dumps(options, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return GuardrailSpec(
        name=section.name,
        check=section.check,
        on=tuple(sorted(set(section.on))),
        action=section.action,
        mode=section.mode,
        order=section.order,
        attach=_attach(section.attach),
        options=Raw(text.encode()),
        source=source,
    )


def limit_spec(section: LimitSection, source: Source) -> LimitSpec:
    """A limit as the rest of the hub sees it."""
    given = section.model_dump(exclude={"attach"})
    return LimitSpec(attach=_attach(section.attach), source=source, **given)


def price_spec(section: PriceSection, source: Source) -> PriceSpec:
    """A price as the rest of the hub sees it."""
    return PriceSpec(source=source, **section.model_dump())


def budget_spec(section: BudgetSection, source: Source) -> BudgetSpec:
    """A budget as the rest of the hub sees it; where alerts are given is sorted."""
    given = section.model_dump(exclude={"attach", "alert_at"})
    alerts = tuple(sorted(set(section.alert_at)))
    return BudgetSpec(attach=_attach(section.attach), alert_at=alerts, source=source, **given)


def rule_section(spec: RuleSpec) -> dict[str, Any]:
    """A rule as its section of the file, without its owner; the options of a check stand beside it."""
    section: dict[str, Any] = json.loads(msgspec.json.encode(spec))
    options = section.pop("options", {})
    return {**{key: value for key, value in section.items() if key not in _OWN}, **options}


def _attach(section: AttachSection) -> Attach:
    return Attach(**section.model_dump())


def _with_base(options: dict[str, Any], base: Path) -> None:
    headers = options.get("headers")
    if isinstance(headers, Mapping):
        options["headers"] = {
            name: absolute_reference(value, base) for name, value in headers.items()
        }
    if isinstance(options.get("secret"), str):
        options["secret"] = absolute_reference(options["secret"], base)
