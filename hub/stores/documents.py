"""Objects of the desired state <-> JSON text."""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from hub.domain.desired import (
    ArgumentRule,
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

Noun = Literal[
    "upstream",
    "virtual_server",
    "principal",
    "group",
    "grant",
    "guardrail",
    "limit",
    "price",
    "budget",
    "tenant",
]
Spec = (
    UpstreamSpec
    | VirtualServerSpec
    | PrincipalSpec
    | GroupSpec
    | GrantSpec
    | GuardrailSpec
    | LimitSpec
    | PriceSpec
    | BudgetSpec
    | TenantSpec
)

NOUNS: Final[tuple[Noun, ...]] = (
    "upstream",
    "principal",
    "group",
    "virtual_server",
    "grant",
    "guardrail",
    "limit",
    "price",
    "budget",
)
"""Those of the file, in the order in which they refer to each other."""

_TYPES: Final[Mapping[Noun, type[Spec]]] = {
    "upstream": UpstreamSpec,
    "virtual_server": VirtualServerSpec,
    "principal": PrincipalSpec,
    "group": GroupSpec,
    "grant": GrantSpec,
    "guardrail": GuardrailSpec,
    "limit": LimitSpec,
    "price": PriceSpec,
    "budget": BudgetSpec,
    "tenant": TenantSpec,
}


def noun_of(spec: Spec) -> Noun:
    """What kind of object it is."""
    return next(noun for noun, struct in _TYPES.items() if isinstance(spec, struct))


def encode(spec: Spec) -> str:
    """JSON text of an object, the same for equal objects; defaults are left out."""
    return msgspec.json.encode(spec, order="deterministic").decode()


def decode(noun: Noun, text: str) -> Spec:
    """The object in a text. Raises :class:`msgspec.ValidationError`, which a sound store never does."""
    if noun == "virtual_server":
        return _virtual_server(json.loads(text))
    return msgspec.json.decode(text, type=_TYPES[noun])


def _virtual_server(plain: dict[str, Any]) -> VirtualServerSpec:
    """By hand: msgspec reads no optional Raw, which is what the rules of arguments hold."""
    include = tuple(_include(item) for item in plain.pop("include", ()))
    return replace(msgspec.convert(plain, VirtualServerSpec), include=include)


def _include(plain: dict[str, Any]) -> Include:
    override = {name: _override(item) for name, item in plain.pop("override", {}).items()}
    return replace(msgspec.convert(plain, Include), override=override)


def _override(plain: dict[str, Any]) -> Override:
    annotations = {name: _raw(value) for name, value in plain.pop("annotations", {}).items()}
    arguments = {name: _rule(rule) for name, rule in plain.pop("arguments", {}).items()}
    override = msgspec.convert(plain, Override)
    return replace(override, annotations=annotations, arguments=arguments)


def _rule(plain: dict[str, Any]) -> ArgumentRule:
    values = {key: _raw(plain.pop(key)) for key in ("fix", "default") if key in plain}
    return replace(msgspec.convert(plain, ArgumentRule), **values)


def _raw(value: Any) -> Raw:
    return Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
