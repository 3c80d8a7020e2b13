"""The checks there are, by name: which module makes them. Nothing of one that is not configured is loaded."""

from importlib import import_module
from typing import Any, Final

import msgspec

from hub.domain.rules import CheckName, GuardrailSpec
from hub.errors import ConfigurationError
from hub.guard.callouts import Callouts
from hub.guard.chain import Guardrail
from hub.guard.protocol import Guard

CHECKS: Final[dict[CheckName, str]] = {
    "secrets": "hub.guard.secrets",
    "personal_data": "hub.guard.personal_data",
    "words": "hub.guard.words",
    "injection": "hub.guard.injection",
    "hidden_text": "hub.guard.hidden_text",
    "json_schema": "hub.guard.json_schema",
    "size": "hub.guard.size",
    "allowed_values": "hub.guard.allowed_values",
    "urls": "hub.guard.urls",
    "webhook": "hub.guard.webhook",
}
"""Each module has ``Options`` and ``guard``, which makes a guard of them."""

WAITS: Final[frozenset[CheckName]] = frozenset(("webhook",))
"""Checks that ask others; their ``guard`` takes the specification and the callouts as well."""


def made(spec: GuardrailSpec, callouts: Callouts) -> Guardrail:
    """The guardrail that ``spec`` describes. Raises ConfigurationError.

    Values that ``env:`` and ``file:`` stand for are read now, once.
    """
    module = import_module(CHECKS[spec.check])
    options = _options(module, spec)
    waits = spec.check in WAITS
    if waits and "definition" in spec.on:
        raise _named(spec, "it cannot look at definitions, as nothing waits for it there")
    try:
        guard: Guard = module.guard(options, spec, callouts) if waits else module.guard(options)
    except ConfigurationError as error:
        raise _named(spec, str(error)) from error
    return Guardrail(
        name=spec.name,
        on=spec.on,
        action=spec.action,
        mode=spec.mode,
        order=spec.order,
        guard=guard,
        waits=waits,
    )


def check_options(spec: GuardrailSpec) -> None:
    """Whether the check can be made so; no secret is read. Raises ConfigurationError that names it."""
    made(spec, Callouts(secret=lambda reference: reference))


def _options(module: Any, spec: GuardrailSpec) -> Any:
    try:
        return msgspec.json.decode(spec.options, type=module.Options)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _named(spec, str(error)) from error


def _named(spec: GuardrailSpec, fault: str) -> ConfigurationError:
    return ConfigurationError(f"Guardrail {spec.name!r} ({spec.check}): {fault}")
