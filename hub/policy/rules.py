"""Which guardrails, limits, prices and budgets hold for a call: compiled, and found once per caller.

A rule that is attached to a virtual server or tool holds on every way there: what a caller reaches
through ``default`` by a grant on another virtual server is under that one's rules as well.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import KINDS, CapabilityId, Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.metering import Counter
from hub.domain.principal import Principal
from hub.domain.rules import (
    Attach,
    BudgetSpec,
    Direction,
    GuardrailSpec,
    LimitSpec,
    Per,
    PriceSpec,
    RuleKind,
)
from hub.guard.chain import Guardrail
from hub.metering.money import Money, parse_money, parse_quota, parse_rate
from mcp_wire.jsonrpc import decode_members

MAX_KNOWN: Final = 16_384
"""Pairs of caller and capability whose rules are found without looking for them."""

MAX_CHARGED: Final = 32
"""Quotas and budgets of one call that its entry names."""

MAX_SUBJECT: Final = 64
"""Characters of a subject in a key; longer ones (names of tools) are there as a digest."""

_CALLS: Final[tuple[Direction, ...]] = ("request", "response")


class Applied(Struct, frozen=True, kw_only=True):
    """Every rule that holds when one principal uses one capability."""

    request: tuple[Guardrail, ...] = ()
    response: tuple[Guardrail, ...] = ()
    counters: tuple[Counter, ...] = ()
    price: Money | None = None
    charged: tuple[str, ...] = ()
    """Keys of the quotas and budgets among the counters, :data:`MAX_CHARGED` at the most: an entry
    has room for so many."""
    budgets: tuple[str, ...] = ()
    """Those of the budgets alone."""
    input_schema: Raw | None = None
    """What the upstream says its arguments look like; read only where a guardrail asks."""
    output_schema: Raw | None = None
    request_waits: bool = False
    """Whether somebody outside is asked about requests."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the rules are called, each once: guardrails, then limits and budgets."""
        guardrails = (one.name for one in (*self.request, *self.response))
        return tuple(dict.fromkeys((*guardrails, *(one.rule for one in self.counters))))

    @property
    def reserved_micro(self) -> int:
        """What is kept of budgets until it is known what the call costs."""
        return 0 if self.price is None else self.price.micro


class RuleSpecs(Struct, frozen=True):
    """The rules of a tenant as they were written."""

    guardrails: tuple[GuardrailSpec, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    prices: tuple[PriceSpec, ...] = ()
    budgets: tuple[BudgetSpec, ...] = ()


class _Place(Struct, frozen=True):
    """A virtual server through which a capability is used, and its name there."""

    server: str
    name: str
    is_tool: bool


class Rules:
    """The rules of one tenant. What was found for a caller and a capability is remembered."""

    def __init__(
        self,
        tenant: str,
        specs: RuleSpecs,
        guardrails: Mapping[str, Guardrail],
        virtual_servers: Mapping[str, VirtualServer],
        definition_of: Callable[[CapabilityId], Raw | None] = lambda _: None,
    ) -> None:
        """``guardrails`` are those of ``specs``, made, by name.

        ``definition_of`` gives an upstream's own definition of a capability.
        """
        self._tenant = tenant
        self._guardrails = tuple(
            (spec.attach, guardrails[spec.name])
            for spec in sorted(specs.guardrails, key=lambda one: (one.order, one.name))
            if any(direction in spec.on for direction in _CALLS)
        )
        self._needs_schema = any(spec.check == "json_schema" for spec in specs.guardrails)
        self._definition_of = definition_of
        self._counted: tuple[tuple[LimitSpec | BudgetSpec, Counter], ...] = (
            *((spec, _limit(spec)) for spec in specs.limits),
            *((spec, _budget(spec)) for spec in specs.budgets),
        )
        self.kinds: Mapping[str, RuleKind] = {
            **dict.fromkeys(guardrails, "guardrail"),
            **{counter.rule: counter.kind for _, counter in self._counted},
        }
        """Names of all rules and what they are, for metrics."""
        self._prices = {
            (spec.upstream, spec.tool): parse_money(spec.per_call) for spec in specs.prices
        }
        self._behind = _behind(specs, virtual_servers)
        self.is_empty = not (self._guardrails or self._counted or self._prices)
        """Whether no rule ever holds for a call."""
        self._known: dict[tuple[int, int, str], tuple[Principal, Exposure, Applied | None]] = {}

    def of(
        self, principal: Principal, view: View | None, server: VirtualServer, exposure: Exposure
    ) -> Applied | None:
        """What holds for a call; None where nothing does. Equal calls get the same object."""
        # Portico's own tools are the same exposures in every virtual server.
        place = id(principal), id(exposure), server.name
        known = self._known.get(place)
        if known is not None and known[0] is principal and known[1] is exposure:
            return known[2]
        applied = self._find(principal, view, server, exposure)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[place] = principal, exposure, applied
        return applied

    def counter(self, kind: str, rule: str, per: str) -> Counter | None:
        """A limit or budget as it is written now, whoever it is counted for; None: there is none."""
        for spec, template in self._counted:
            if (template.kind, spec.name, spec.per) == (kind, rule, per):
                return template
        return None

    def _find(
        self, principal: Principal, view: View | None, server: VirtualServer, exposure: Exposure
    ) -> Applied | None:
        places = self._places(view, server, exposure)

        def holds(attach: Attach) -> bool:
            return _holds(attach, principal, places)

        guardrails = [guardrail for attach, guardrail in self._guardrails if holds(attach)]
        counters = [
            counter
            for spec, template in self._counted
            if holds(spec.attach)
            for counter in self._counters(spec, template, principal, server, exposure)
        ]
        capability = exposure.capability
        price = self._prices.get((capability.upstream, None))
        if capability.kind == "tool":
            price = self._prices.get((capability.upstream, capability.name), price)
        else:
            price = None
        if not (guardrails or counters or price):
            return None
        schemas: Mapping[str, Raw] = {}
        if self._needs_schema and guardrails:
            definition = self._definition_of(capability)
            schemas = {} if definition is None else decode_members(definition)
        # Budgets come first: what is cut off is a quota, which a restart begins anew.
        counted = [one for one in counters if one.kind == "budget"]
        counted += (one for one in counters if one.kind == "quota")
        return Applied(
            request=tuple(one for one in guardrails if "request" in one.on),
            response=tuple(one for one in guardrails if "response" in one.on),
            counters=tuple(counters),
            price=price,
            charged=tuple(one.key for one in counted)[:MAX_CHARGED],
            budgets=tuple(one.key for one in counted if one.kind == "budget")[:MAX_CHARGED],
            input_schema=schemas.get("inputSchema"),
            output_schema=schemas.get("outputSchema"),
            request_waits=any(one.waits for one in guardrails if "request" in one.on),
        )

    def _places(
        self, view: View | None, server: VirtualServer, exposure: Exposure
    ) -> Sequence[_Place]:
        is_tool = exposure.kind == "tool"
        places = [_Place(server.name, exposure.name, is_tool)]
        if server.name == DEFAULT_VIRTUAL_SERVER:
            places += (
                place
                for bit, place in self._behind.get(exposure.bit, ())
                if view is None or view.allows(bit)
            )
        return places

    def _counters(
        self,
        spec: LimitSpec | BudgetSpec,
        template: Counter,
        principal: Principal,
        server: VirtualServer,
        exposure: Exposure,
    ) -> Iterable[Counter]:
        for name in _subjects(spec.per, spec.attach, principal, server, exposure):
            is_long = len(name) > MAX_SUBJECT
            subject = hashlib.sha256(name.encode()).hexdigest() if is_long else name
            key = f"{self._tenant}/{template.kind}.{spec.name}/{spec.per}:{subject}"
            yield msgspec.structs.replace(template, key=key)


def _holds(attach: Attach, principal: Principal, places: Sequence[_Place]) -> bool:
    if attach.group is not None and attach.group not in principal.groups:
        return False
    if attach.principal is not None and attach.principal != principal.name:
        return False
    if attach.virtual_server is None and attach.tool is None:
        return attach != Attach()
    return any(
        attach.virtual_server in (None, place.server)
        and (
            attach.tool is None or (place.is_tool and attach.tool == f"{place.server}/{place.name}")
        )
        for place in places
    )


def _subjects(
    per: Per, attach: Attach, principal: Principal, server: VirtualServer, exposure: Exposure
) -> Sequence[str]:
    """Whose count a call is on; several only where a principal is in several groups.

    A tool is counted as what it is at its upstream, whatever it is called on the way there.
    """
    if per == "group":
        return (attach.group,) if attach.group is not None else sorted(principal.groups) or ("",)
    if per == "key":
        return (principal.key_id or principal.name,)
    if per == "virtual_server":
        named = attach.virtual_server or (attach.tool or "").partition("/")[0]
        return (named or server.name,)
    if per == "tool":
        return (f"{exposure.capability.upstream}/{exposure.capability.name}",)
    return (principal.name,) if per == "principal" else ("",)


def _limit(spec: LimitSpec) -> Counter:
    if spec.rate is not None:
        amount, window_s = parse_rate(spec.rate)
        return Counter(
            key="",
            rule=spec.name,
            kind="rate",
            amount=amount,
            window_s=window_s,
            burst=spec.burst or amount,
            on_outage=spec.on_outage,
        )
    if spec.quota is not None:
        amount, period = parse_quota(spec.quota)
        return Counter(
            key="",
            rule=spec.name,
            kind="quota",
            amount=amount,
            period=period,
            on_outage=spec.on_outage,
        )
    return Counter(
        key="",
        rule=spec.name,
        kind="concurrency",
        amount=spec.concurrency or 1,
        on_outage=spec.on_outage,
    )


def _budget(spec: BudgetSpec) -> Counter:
    money = parse_money(spec.amount)
    return Counter(
        key="",
        rule=spec.name,
        kind="budget",
        amount=money.micro,
        currency=money.currency,
        period=spec.period,
        on_outage=spec.on_outage,
        blocks=spec.on_limit == "block",
        alert_at=spec.alert_at,
        alert_url=spec.alert_url,
        guarded=spec.guarded,
    )


def _behind(
    specs: RuleSpecs, virtual_servers: Mapping[str, VirtualServer]
) -> Mapping[int, Sequence[tuple[int, _Place]]]:
    """By bit in ``default``: where else it is exposed under rules, with the bit that leads there."""
    named: set[str] = set()
    attached = [spec.attach for spec in specs.guardrails]
    attached += [spec.attach for spec in specs.limits]
    attached += [spec.attach for spec in specs.budgets]
    for attach in attached:
        named.add(attach.virtual_server or (attach.tool or "").partition("/")[0])
    behind: dict[int, list[tuple[int, _Place]]] = {}
    for name in named & virtual_servers.keys() - {DEFAULT_VIRTUAL_SERVER}:
        server = virtual_servers[name]
        for kind in KINDS:
            for exposure in server.of_kind(kind).values():
                if exposure.default_bit is not None:
                    place = _Place(name, exposure.name, kind == "tool")
                    behind.setdefault(exposure.default_bit, []).append((exposure.bit, place))
    return behind


NO_RULES: Final = Rules("", RuleSpecs(), {}, {})
"""Of a tenant that nobody wrote any for."""
