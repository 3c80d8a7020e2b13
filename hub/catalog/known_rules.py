"""A tenant's rules from one compile to the next: guardrails are made once, for making takes time."""

import logging
from collections.abc import Callable, Mapping

from msgspec import Raw

from hub.catalog.holding import Screen
from hub.domain.catalog import CapabilityId, VirtualServer
from hub.domain.desired import Desired
from hub.domain.guarding import Context, Verdict
from hub.domain.rules import GuardrailSpec
from hub.errors import ConfigurationError
from hub.guard.chain import Guardrail
from hub.guard.content import Content
from hub.guard.definitions import held
from hub.policy.rules import Rules, RuleSpecs

_log = logging.getLogger(__name__)

MakeGuardrail = Callable[[GuardrailSpec], Guardrail]


def _nothing_held(_: bytes) -> str:
    """The screen where no guardrail looks at definitions."""
    return ""


class Unmade:
    """Stands for a guard that could not be made: nothing passes it."""

    def inspect(self, content: Content, context: Context) -> Verdict:
        """Blocks. What is wrong is in the log: it may name files and variables."""
        del content, context
        return Verdict("block", reason="the guardrail cannot be made; see the log")


class KnownRules:
    """Rules as they were written, the guardrails made of them, and what was compiled last."""

    def __init__(
        self, specs: RuleSpecs, guardrails: Mapping[str, Guardrail], screen: Screen
    ) -> None:
        self.specs = specs
        self.guardrails = guardrails
        self.screen = screen
        """Looks at definitions; the same object as long as the same guardrails do."""
        self._servers: Mapping[str, VirtualServer] = {}
        self._compiled: Rules | None = None

    @property
    def has_unmade(self) -> bool:
        """Whether a guardrail could not be made."""
        return any(isinstance(one.guard, Unmade) for one in self.guardrails.values())

    @property
    def made(self) -> Mapping[str, tuple[GuardrailSpec, Guardrail]]:
        """By name: what was made, and of what."""
        return {
            spec.name: (spec, self.guardrails[spec.name])
            for spec in self.specs.guardrails
            if not isinstance(self.guardrails[spec.name].guard, Unmade)
        }

    def compiled(
        self,
        tenant: str,
        servers: Mapping[str, VirtualServer],
        definition_of: Callable[[CapabilityId], Raw | None],
    ) -> Rules:
        """The index that calls read; what it remembers of callers lasts while nothing changes."""
        if self._compiled is None or not _are_same(self._servers, servers):
            self._compiled = Rules(tenant, self.specs, self.guardrails, servers, definition_of)
            self._servers = servers
        return self._compiled


def known_rules(before: KnownRules | None, desired: Desired, make: MakeGuardrail) -> KnownRules:
    """The rules of ``desired``; whatever ``before`` holds already is taken over.

    A guardrail that cannot be made blocks whatever it is attached to, and is tried again each time.
    """
    specs = RuleSpecs(desired.guardrails, desired.limits, desired.prices, desired.budgets)
    if before is not None and before.specs == specs and not before.has_unmade:
        return before
    made = {} if before is None else before.made
    guardrails: dict[str, Guardrail] = {}
    for spec in specs.guardrails:
        known = made.get(spec.name)
        guardrails[spec.name] = known[1] if known and known[0] == spec else _made(spec, make)
    return KnownRules(specs, guardrails, _screen(before, guardrails, desired.tenant))


def _made(spec: GuardrailSpec, make: MakeGuardrail) -> Guardrail:
    try:
        return make(spec)
    except ConfigurationError as error:
        _log.error("%s It blocks whatever it is attached to.", error)
    return Guardrail(
        name=spec.name,
        on=spec.on,
        action=spec.action,
        mode=spec.mode,
        order=spec.order,
        guard=Unmade(),
    )


def _screen(before: KnownRules | None, guardrails: Mapping[str, Guardrail], tenant: str) -> Screen:
    looking = [one for one in guardrails.values() if "definition" in one.on]
    if before is not None:
        looked = [one for one in before.guardrails.values() if "definition" in one.on]
        if len(looked) == len(looking) and all(
            one is other for one, other in zip(looked, looking, strict=True)
        ):
            return before.screen
    if not looking:
        return _nothing_held
    context = Context(direction="definition", tenant=tenant)
    return lambda body: held(looking, Raw(body), context)


def _are_same(one: Mapping[str, VirtualServer], other: Mapping[str, VirtualServer]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)
