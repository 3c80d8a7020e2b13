"""Sections of the file <-> desired state.

``document_of`` gives the shortest document that reads back as the same desired state.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from hub.config.models import (
    ArgumentSection,
    GrantSection,
    GroupSection,
    IncludeSection,
    OverrideSection,
    PorticoFile,
    PrincipalSection,
    UpstreamSection,
    VirtualServerSection,
)
from hub.config.references import absolute, absolute_reference
from hub.config.rule_conversion import (
    RuleSpec,
    budget_spec,
    guardrail_spec,
    limit_spec,
    price_spec,
    rule_section,
)
from hub.domain.desired import (
    ArgumentRule,
    Desired,
    GrantSpec,
    GroupSpec,
    Include,
    Override,
    PrincipalSpec,
    TenantSpec,
    UpstreamSpec,
    VirtualServerSpec,
)
from hub.domain.rules import BudgetSpec, GuardrailSpec, LimitSpec, PriceSpec
from hub.domain.source import Source

Document = dict[str, Any]
"""Plain values in the shape of the file."""

LISTS: Final = ("grants", "guardrails", "limits", "prices", "budgets")
"""Sections that are lists, in the order of their objects' names."""

_Named = TypeVar("_Named", GuardrailSpec, LimitSpec, PriceSpec, BudgetSpec)


def desired_of(file: PorticoFile, base: Path | None = None) -> Desired:
    """The desired state that a file describes, owned by the file and sorted by name.

    Relative paths (OpenAPI documents, secret files, working directories) are taken from ``base``,
    the folder of the file; without it they stay as they are written.
    """
    return Desired(
        tenant=file.tenant,
        upstreams=tuple(
            upstream_spec(name, section, "file", base)
            for name, section in sorted(file.upstreams.items())
        ),
        virtual_servers=tuple(
            virtual_server_spec(name, section, "file")
            for name, section in sorted(file.virtual_servers.items())
        ),
        principals=tuple(
            principal_spec(name, section, "file")
            for name, section in sorted(file.principals.items())
        ),
        groups=tuple(
            group_spec(name, section, "file") for name, section in sorted(file.groups.items())
        ),
        grants=tuple(
            sorted((grant_spec(grant, "file") for grant in file.grants), key=lambda g: g.name)
        ),
        guardrails=_by_name(guardrail_spec(section, "file", base) for section in file.guardrails),
        limits=_by_name(limit_spec(section, "file") for section in file.limits),
        prices=_by_name(price_spec(section, "file") for section in file.prices),
        budgets=_by_name(budget_spec(section, "file") for section in file.budgets),
    )


def upstream_spec(
    name: str, section: UpstreamSection, source: Source, base: Path | None = None
) -> UpstreamSpec:
    """An upstream as the rest of the hub sees it."""
    given = section.model_dump(exclude_unset=True, exclude_none=True)
    if base is not None:
        given = _with_base(given, base)
    return UpstreamSpec(name=name, source=source, **given)


def virtual_server_spec(
    name: str, section: VirtualServerSection, source: Source
) -> VirtualServerSpec:
    """A virtual server as the rest of the hub sees it."""
    return VirtualServerSpec(
        name=name,
        source=source,
        include=tuple(_include(include) for include in section.include),
        **section.model_dump(exclude_unset=True, exclude={"include"}),
    )


def principal_spec(name: str, section: PrincipalSection, source: Source) -> PrincipalSpec:
    """A principal as the rest of the hub sees it."""
    return PrincipalSpec(
        name=name,
        kind=section.kind,
        roles=tuple(sorted(set(section.roles))),
        groups=tuple(sorted(section.groups)),
        source=source,
    )


def group_spec(name: str, section: GroupSection, source: Source) -> GroupSpec:
    """A group as the rest of the hub sees it; members are sorted."""
    return GroupSpec(name=name, source=source, members=tuple(sorted(section.members)))


def grant_spec(section: GrantSection, source: Source) -> GrantSpec:
    """A grant as the rest of the hub sees it; what it names is sorted."""
    return GrantSpec(
        virtual_server=section.virtual_server,
        group=section.group,
        principal=section.principal,
        tools=_sorted(section.tools),
        resources=_sorted(section.resources),
        prompts=_sorted(section.prompts),
        source=source,
    )


def document_of(desired: Desired) -> Document:
    """The document that :func:`desired_of` reads back as ``desired``, defaults left out."""
    document: Document = {"version": 1, "tenant": desired.tenant}
    for section in ("upstreams", "principals", "groups", "virtual_servers"):
        specs = getattr(desired, section)
        if specs:
            ordered = sorted(specs, key=lambda spec: str(spec.name))
            document[section] = {spec.name: section_of(spec) for spec in ordered}
    for section in LISTS:
        specs = getattr(desired, section)
        if specs:
            ordered = sorted(specs, key=lambda spec: str(spec.name))
            document[section] = [section_of(spec) for spec in ordered]
    return document


def section_of(
    spec: UpstreamSpec
    | VirtualServerSpec
    | PrincipalSpec
    | GroupSpec
    | GrantSpec
    | RuleSpec
    | TenantSpec,
) -> Document:
    """One object as its section of the file, without its owner, and its name where that is a key."""
    if isinstance(spec, GuardrailSpec | LimitSpec | PriceSpec | BudgetSpec):
        return rule_section(spec)
    section: Document = json.loads(msgspec.json.encode(spec))
    section.pop("source", None)
    section.pop("guarded", None)
    if not isinstance(spec, GrantSpec):
        section.pop("name", None)
    return section


def _by_name(specs: Iterable[_Named]) -> tuple[_Named, ...]:
    return tuple(sorted(specs, key=lambda spec: spec.name))


def _sorted(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(set(names)))


def _with_base(given: Document, base: Path) -> Document:
    resolved = dict(given)
    if "cwd" in resolved:
        resolved["cwd"] = absolute(resolved["cwd"], base)
    openapi = resolved.get("openapi")
    if openapi is not None and not openapi.startswith(_URLS):
        resolved["openapi"] = absolute(openapi, base)
    for key in ("env", "headers"):
        if key in resolved:
            values = resolved[key].items()
            resolved[key] = {name: absolute_reference(value, base) for name, value in values}
    return resolved


_URLS: Final = ("http://", "https://")


def _include(section: IncludeSection) -> Include:
    return Include(
        override={name: _override(item) for name, item in section.override.items()},
        **section.model_dump(exclude={"override"}),
    )


def _override(section: OverrideSection) -> Override:
    return Override(
        annotations=_raws(section.annotations),
        arguments={name: _rule(rule) for name, rule in section.arguments.items()},
        **section.model_dump(exclude={"annotations", "arguments"}),
    )


def _rule(section: ArgumentSection) -> ArgumentRule:
    given = section.model_fields_set
    return ArgumentRule(
        fix=_raw(section.fix) if "fix" in given else None,
        default=_raw(section.default) if "default" in given else None,
        hide=section.hide,
        description=section.description,
    )


def _raws(values: Mapping[str, Any]) -> dict[str, Raw]:
    return {name: _raw(value) for name, value in values.items()}


def _raw(value: Any) -> Raw:
    """JSON text of plain values; whole numbers of any size, unlike msgspec's."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Raw(text.encode())
