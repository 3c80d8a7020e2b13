"""Why somebody may, or may not, use something: the layer and rule that decide, from door to grant."""

from collections.abc import Iterator
from ipaddress import ip_network

from msgspec.structs import replace
from pydantic import Field

from hub.administration.desk import Desk, Shape
from hub.administration.inspection import server_of, serving_of
from hub.administration.keys import state_of
from hub.config.section import Address
from hub.config.suggestions import did_you_mean
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import KINDS, Kind
from hub.domain.desired import KeySpec
from hub.domain.grant import Layer
from hub.domain.principal import ANONYMOUS, Principal
from hub.errors import NotFoundError
from hub.identity.networks import is_within
from hub.policy.explain import Explanation as Explained
from hub.policy.explain import explain as explain_decision
from hub.policy.explain import explain_administration
from hub.policy.roles import NEEDED
from hub.snapshot import TenantSnapshot
from hub.stores.objects import Stored


class ExplainRequest(Shape):
    """Whose access to what is to be explained."""

    principal: str = Field(description="Name of the principal, or 'anonymous'.")
    capability: str = Field(
        description="Exposed name, or an administrative operation such as 'upstreams.put'."
    )
    kind: Kind | None = Field(None, description="What it is; null: whatever has the name.")
    virtual_server: str = DEFAULT_VIRTUAL_SERVER
    key: str | None = Field(None, description="Identifier of the key that is presented.")
    peer: Address | None = Field(None, description="Address that it is presented from.")


class Explanation(Shape):
    """A decision and what it rests on."""

    allowed: bool
    layer: Layer
    rule: str = ""
    reason: str
    grants: tuple[str, ...] = Field((), description="Every grant of the principal that names it.")
    groups: tuple[str, ...] = Field((), description="Groups that those grants came through.")
    other_grants: tuple[str, ...] = Field((), description="Grants of others that name it.")
    conditions: tuple[str, ...] = Field((), description="What else the key is limited to.")
    rules: tuple[str, ...] = Field(
        (), description="Guardrails, limits and budgets that hold when it is used."
    )


async def explain(desk: Desk, _: Principal, tenant: str, request: ExplainRequest) -> Explanation:
    """Why a principal may, or may not, use a capability: layer, rule, sentence.

    Raises NotFoundError for a principal, key or virtual server that does not exist.
    """
    stored = await desk.objects.load(tenant)
    caller = _caller(stored, request.principal)
    key = await desk.keys.get(tenant, request.key) if request.key is not None else None
    turned_away = _at_the_door(stored, key, request, desk.timestamp())
    if turned_away is not None:
        return turned_away
    if key is not None and key.virtual_servers is not None:
        caller = replace(caller, reach=frozenset(key.virtual_servers))
    serving = serving_of(desk, tenant)
    found = _decided(serving, caller, request)
    return Explanation(
        allowed=found.decision.allowed,
        layer=found.decision.layer,
        rule=found.decision.rule,
        reason=" ".join((found.reason, *_held(serving, request, found))),
        grants=found.matching_grants,
        groups=found.groups,
        other_grants=found.other_grants,
        conditions=tuple(_conditions(key, request)),
        rules=_rules(serving, caller, request, found),
    )


def _rules(
    serving: TenantSnapshot, caller: Principal, request: ExplainRequest, found: Explained
) -> tuple[str, ...]:
    """What holds for a caller who may use it."""
    if found.exposure is None or not found.decision.allowed:
        return ()
    server = serving.virtual_servers[request.virtual_server]
    view = serving.tables.view_of(caller)
    applied = serving.rules.of(caller, view, server, found.exposure)
    return () if applied is None else applied.names


def _held(serving: TenantSnapshot, request: ExplainRequest, found: Explained) -> Iterator[str]:
    """Definitions of that name that guardrails hold back."""
    if found.existence == "absent":
        for upstream, held in sorted(serving.held.items()):
            for sentence in held:
                if f"'{request.capability}' is held" in sentence:
                    yield f"Upstream '{upstream}': {sentence}."


def _decided(serving: TenantSnapshot, caller: Principal, request: ExplainRequest) -> Explained:
    server = server_of(serving, request.virtual_server)
    explained = [
        explain_decision(
            caller,
            server.name,
            kind,
            request.capability,
            virtual_servers=serving.virtual_servers,
            tables=serving.tables,
        )
        for kind in ((request.kind,) if request.kind is not None else KINDS)
    ]
    for found in explained:
        if found.existence != "absent":
            return found
    if request.capability in NEEDED and request.kind is None:
        return explain_administration(caller, request.capability)
    return explained[0]


def _at_the_door(
    stored: Stored, key: KeySpec | None, request: ExplainRequest, now: str
) -> Explanation | None:
    """What turns a caller away before anything it asks for is looked at."""
    if not stored.settings.enabled:
        reason = f"The tenant '{stored.tenant}' is disabled."
        return Explanation(allowed=False, layer="tenant", rule="disabled", reason=reason)
    if key is None:
        return None
    state = state_of(key, now)
    reason = ""
    if key.principal != request.principal:
        reason = f"The key is one of {key.principal}."
    elif state == "revoked":
        reason = f"The key was revoked at {key.revoked_at}."
    elif request.peer is not None and not _may_come_from(key, request.peer):
        reason = f"The key may be used from {', '.join(key.cidrs)} only, not from {request.peer}."
    elif state == "expired":
        reason = f"The key expired at {key.expires_at}."
    if not reason:
        return None
    return Explanation(allowed=False, layer="credential", rule=key.id, reason=reason)


def _may_come_from(key: KeySpec, peer: str) -> bool:
    networks = [ip_network(cidr, strict=False) for cidr in key.cidrs]
    return not networks or is_within(peer, networks)


def _conditions(key: KeySpec | None, request: ExplainRequest) -> Iterator[str]:
    if key is None:
        return
    if key.virtual_servers is not None:
        yield f"on {', '.join(key.virtual_servers)}"
    if key.cidrs and request.peer is None:
        yield f"from {', '.join(key.cidrs)}"
    if key.expires_at is not None:
        yield f"until {key.expires_at}"


def _caller(stored: Stored, name: str) -> Principal:
    if name == ANONYMOUS:
        return Principal(tenant=stored.tenant, name=ANONYMOUS, kind="anonymous")
    desired = stored.desired
    for spec in desired.principals:
        if spec.name == name:
            groups = desired.memberships().get(name, frozenset())
            return Principal(
                tenant=stored.tenant,
                name=name,
                kind=spec.kind,
                groups=groups,
                roles=frozenset(spec.roles),
            )
    hint = did_you_mean(name, [spec.name for spec in desired.principals])
    raise NotFoundError(f"There is no principal '{name}'{hint or '.'}")
