"""Why a principal may, or may not, use a capability: for administrators, never for callers."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from hub.domain.catalog import CapabilityId, Exposure, Kind, VirtualServer
from hub.domain.grant import Decision, View
from hub.domain.principal import Principal
from hub.policy.authorize import find_exposure, may_enter
from hub.policy.roles import may, needed, roles_with
from hub.policy.tables import Tables

Existence = Literal["exposed", "shadowed", "absent"]
"""``shadowed``: its name belongs to another capability, and ``prefix: never`` keeps it out."""


class Explanation(Struct, frozen=True, kw_only=True):
    """One decision with everything that led to it."""

    decision: Decision
    existence: Existence
    reason: str
    """The decision in a sentence."""
    capability: CapabilityId | None = None
    """What the name stands for, whoever asks."""
    exposure: Exposure | None = None
    """How it is exposed here."""
    matching_grants: tuple[str, ...] = ()
    """Every grant of this principal that names it."""
    groups: tuple[str, ...] = ()
    """The groups of this principal that those grants came through, sorted."""
    other_grants: tuple[str, ...] = ()
    """Every grant of others that names it."""


def explain(
    principal: Principal,
    virtual_server: str,
    kind: Kind,
    name: str,
    *,
    virtual_servers: Mapping[str, VirtualServer],
    tables: Tables,
) -> Explanation:
    """Take the same decision as a call would, and say how it came about."""
    server = virtual_servers.get(virtual_server)
    if server is None:
        denied = Decision(allowed=False, layer="virtual_server")
        return Explanation(
            decision=denied,
            existence="absent",
            reason=f"There is no virtual server {virtual_server!r}.",
        )
    view = tables.view_of(principal)
    exposure = find_exposure(server, kind, name, view) or find_exposure(server, kind, name, None)
    if exposure is None:
        return _not_exposed(server, kind, name)
    decision, reason = _decide(principal, view, server, exposure, tables)
    own = tables.grants_naming(principal, exposure)
    given = (grant.group for grant in tables.grants if grant.name in own)
    return Explanation(
        decision=decision,
        existence="exposed",
        reason=reason,
        capability=exposure.capability,
        exposure=exposure,
        matching_grants=own,
        groups=tuple(sorted({group for group in given if group is not None})),
        other_grants=tuple(name for name in tables.all_naming(exposure) if name not in own),
    )


def explain_administration(principal: Principal, operation: str) -> Explanation:
    """Why a principal may, or may not, have an administrative operation carried out."""
    right = needed(operation)
    allowed = principal.reach is None and may(principal, right)
    giving = list(roles_with(right))
    held = [role for role in giving if role in principal.roles]
    if principal.reach is not None:
        reason = "The key is limited to virtual servers; administration needs one that is not."
    elif allowed:
        reason = f"{principal.name} has the role {held[0]}, which may {right}."
    else:
        roles = ", ".join(sorted(principal.roles)) or "none"
        reason = f"It takes the role {' or '.join(giving)}; the roles of {principal.name}: {roles}."
    return Explanation(
        decision=Decision(
            allowed=allowed,
            layer="role" if principal.reach is None else "key_scope",
            rule=held[0] if allowed else right,
        ),
        existence="exposed",
        reason=reason,
    )


def _decide(
    principal: Principal, view: View, server: VirtualServer, exposure: Exposure, tables: Tables
) -> tuple[Decision, str]:
    if not may_enter(principal, view, server):
        if principal.reach is not None and server.name not in principal.reach:
            reason = f"The key is limited to {', '.join(sorted(principal.reach)) or 'nothing'}."
            return Decision(allowed=False, layer="key_scope"), reason
        reason = f"No grant of {_who(principal)} names the virtual server {server.name!r}."
        return Decision(allowed=False, layer="virtual_server"), reason
    if server.system_tools.get(exposure.name) is exposure:
        decision = Decision(allowed=True, layer="virtual_server", rule="system")
        return decision, "Portico's own tools are open to everyone who may enter."
    decision = tables.decide(principal, exposure)
    if not decision.allowed:
        return decision, f"No grant of {_who(principal)} names {exposure.name!r}."
    if decision.layer == "role":
        return decision, f"{principal.name} has the role {decision.rule}."
    if decision.rule == "anonymous":
        return decision, f"The virtual server {server.name!r} is open to anonymous callers."
    groups = [grant.group for grant in tables.grants if grant.name == decision.rule]
    through = f", and {principal.name} is in the group {groups[0]}" if groups[0] else ""
    return decision, f"Grant {decision.rule} names it{through}."


def _who(principal: Principal) -> str:
    """The principal and what its grants may come through."""
    if not principal.groups:
        return f"{principal.name}, who is in no group,"
    return f"{principal.name} or its groups ({', '.join(sorted(principal.groups))})"


def _not_exposed(server: VirtualServer, kind: Kind, name: str) -> Explanation:
    for shadowed in server.shadowed:
        if (shadowed.kind, shadowed.name) == (kind, name):
            return Explanation(
                decision=Decision(allowed=False, layer="virtual_server", rule="shadowed"),
                existence="shadowed",
                reason=f"The name {name!r} belongs to another capability, and 'prefix: never' holds.",
                capability=shadowed.capability,
            )
    return Explanation(
        decision=Decision(allowed=False, layer="virtual_server", rule="absent"),
        existence="absent",
        reason=f"The virtual server {server.name!r} exposes no {kind} {name!r}.",
    )
