"""What a principal's call may reach: the virtual server, and the exposure it names."""

from collections.abc import Mapping

from msgspec import Struct

from hub.domain.call import Call, TargetKind
from hub.domain.catalog import SYSTEM_VIRTUAL_SERVER, Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Refusal
from hub.domain.principal import Principal
from hub.policy.roles import may, needed, roles_with
from hub.policy.tables import Tables
from hub.policy.uri_templates import parse


class Reach(Struct, frozen=True):
    """Where an authorized call leads; an administrative one leads to no virtual server."""

    view: View | None = None
    virtual_server: VirtualServer | None = None
    exposure: Exposure | None = None


def authorize(
    call: Call,
    principal: Principal,
    virtual_servers: Mapping[str, VirtualServer],
    tables: Tables,
) -> Reach:
    """Decide a call on a virtual server; denied and absent are refused in the same words.

    Raises Refusal ``virtual_server`` or ``absent``.
    """
    server = virtual_servers.get(call.virtual_server)
    view = tables.view_of(principal)
    if server is None or not may_enter(principal, view, server):
        cause = "no such virtual server" if server is None else "no grant on the virtual server"
        raise Refusal("virtual_server", cause=cause)
    if call.action not in ("call", "subscribe") or call.target.kind in ("virtual_server", "self"):
        return Reach(view, server)
    exposure = find_exposure(server, call.target.kind, call.target.name, view)
    if exposure is None:
        raise Refusal("absent", call.target.name, cause=_why_absent(server, call))
    return Reach(view, server, exposure)


def authorize_administration(principal: Principal, operation: str) -> None:
    """Let those in whose roles allow ``operation``. Raises Refusal ``forbidden``.

    The anonymous principal never passes; nor does a key that is limited to virtual servers: it could
    make itself one that is not.
    """
    if principal.reach is not None:
        raise Refusal(
            "forbidden",
            "This key is limited to virtual servers; administration needs one that is not.",
            cause="key scope",
        )
    right = needed(operation)
    if not may(principal, right):
        raise Refusal(
            "forbidden",
            "This needs an administrator's key; the first is in 'admin.key' of the data directory."
            if not principal.roles
            else f"This needs the role {' or '.join(roles_with(right))}.",
            cause=f"role: needs {right}",
        )


def find_exposure(
    server: VirtualServer, kind: TargetKind, name: str, view: View | None
) -> Exposure | None:
    """The exposure a caller means, among those its view allows; None: among all.

    What the view does not allow is passed over, so that a URI the caller may not read by itself is
    looked up among templates exactly as one that does not exist. The most specific template wins.
    """
    if kind == "tool" and name in server.system_tools:
        return server.system_tools[name]
    if kind in ("tool", "prompt", "template", "resource"):
        exposure = server.of_kind(kind).get(name)
        if exposure is not None and (view is None or view.allows(exposure.bit)):
            return exposure
    if kind == "resource":
        return _template_of(server, name, view)
    return None


def may_enter(principal: Principal, view: View, server: VirtualServer) -> bool:
    """Whether a principal may use a virtual server at all; Portico's own is open to everyone."""
    in_reach = principal.reach is None or server.name in principal.reach
    return in_reach and (
        server.name in view.virtual_servers or server.name == SYSTEM_VIRTUAL_SERVER
    )


def _template_of(server: VirtualServer, uri: str, view: View | None) -> Exposure | None:
    for template, exposure in server.templates.items():
        if (view is None or view.allows(exposure.bit)) and parse(template).matches(uri):
            return exposure
    return None


def _why_absent(server: VirtualServer, call: Call) -> str:
    found = find_exposure(server, call.target.kind, call.target.name, None)
    return "no such capability" if found is None else "no grant names it"
