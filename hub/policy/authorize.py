"""What a principal's call may reach: the virtual server, and the exposure it names."""

import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from hub.domain.call import Action, Call
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Refusal
from hub.domain.principal import Principal, Role
from hub.policy.tables import Tables

_READING_ROLES: frozenset[Role] = frozenset((
    "viewer",
    "operator",
    "admin",
    "auditor",
    "platform_admin",
))
_CHANGING_ROLES: frozenset[Role] = frozenset(("admin", "platform_admin"))


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
    if server is None or not _may_enter(principal, view, server):
        cause = "no such virtual server" if server is None else "no grant on the virtual server"
        raise Refusal("virtual_server", cause=cause)
    if call.action not in ("call", "subscribe") or call.target.kind in ("virtual_server", "self"):
        return Reach(view, server)
    exposure = find_exposure(server, call)
    if exposure is None:
        raise Refusal("absent", call.target.name, cause="no such capability")
    if exposure.name not in server.system_tools and not view.allows(exposure.bit):
        raise Refusal("absent", call.target.name, cause="no grant names it")
    return Reach(view, server, exposure)


def authorize_administration(principal: Principal, action: Action) -> None:
    """Let administrators in. Raises Refusal ``forbidden``; the anonymous principal never passes."""
    wanted = _CHANGING_ROLES if action == "administer" else _READING_ROLES
    if not principal.roles & wanted:
        raise Refusal(
            "forbidden",
            "This needs an administrator's key; the first is in 'admin.key' of the data directory.",
            cause="role",
        )


def find_exposure(server: VirtualServer, call: Call) -> Exposure | None:
    """The exposure a call names; a resource may also be an expansion of a template."""
    kind, name = call.target.kind, call.target.name
    if kind == "tool":
        return server.system_tools.get(name) or server.tools.get(name)
    if kind == "prompt":
        return server.prompts.get(name)
    if kind == "template":
        return server.templates.get(name)
    if kind == "resource":
        return server.resources.get(name) or _template_of(server, name)
    return None


def _may_enter(principal: Principal, view: View, server: VirtualServer) -> bool:
    in_reach = principal.reach is None or server.name in principal.reach
    return in_reach and (
        server.name in view.virtual_servers or bool(server.system_tools) and not server.tools
    )


def _template_of(server: VirtualServer, uri: str) -> Exposure | None:
    for template, exposure in server.templates.items():
        if _matcher(template).fullmatch(uri):
            return exposure
    return None


@lru_cache(maxsize=4096)
def _matcher(template: str) -> re.Pattern[str]:
    """A linear-time pattern for the expansions of an RFC 6570 template of levels 1 to 3."""
    pattern = ""
    for literal, operator, _ in re.findall(r"([^{]*)(?:\{([+#./;?&]?)([^}]*)\})?", template):
        pattern += re.escape(literal)
        if operator is not None and literal + operator + _ != literal:
            pattern += ".+?" if operator in ("+", "#") else "[^/]+?"
    return re.compile(pattern)
