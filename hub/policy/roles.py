"""What administrative roles allow: role -> rights, and right -> operations. Denied unless listed.

Roles open the administration of a principal's own tenant; capabilities are opened by grants. Nothing
but ``configure`` changes who may do what, so nobody without it can make themselves more.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from hub.domain.principal import Principal, Role

Right = Literal["read", "explain", "record", "operate", "configure", "platform"]
"""``read``: configuration and status. ``explain``: why somebody may use something. ``record``: what
was called, and what it used. ``operate``: upstreams on and off, keys withdrawn. ``configure``: every
object of the tenant. ``platform``: what concerns all tenants."""

PLATFORM: Final[Role] = "platform_admin"

RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    "viewer": frozenset(("read", "explain")),
    "operator": frozenset(("read", "explain", "operate")),
    "auditor": frozenset(("explain", "record")),
    "admin": frozenset(("read", "explain", "record", "operate", "configure")),
    PLATFORM: frozenset(("read", "explain", "record", "operate", "configure", "platform")),
}

_OPERATIONS: Final[Mapping[Right, tuple[str, ...]]] = {
    "read": (
        "upstreams.list", "upstreams.get",
        "virtual_servers.list", "virtual_servers.get",
        "principals.list", "principals.get",
        "groups.list", "groups.get",
        "grants.list",
        "keys.list",
        "guardrails.list", "guardrails.get",
        "limits.list", "limits.get",
        "budgets.list", "budgets.get",
        "prices.list",
        "configuration.validate", "configuration.plan",
        "status.get",
        "capabilities.list",
    ),
    "explain": ("access.explain",),
    "record": ("audit.entries", "usage.get"),
    "operate": (
        "upstreams.enable", "upstreams.disable", "upstreams.refresh", "upstreams.test",
        "upstreams.logs",
        "keys.revoke",
    ),
    "configure": (
        "upstreams.put", "upstreams.delete", "upstreams.import",
        "virtual_servers.put", "virtual_servers.delete",
        "principals.put", "principals.delete",
        "groups.put", "groups.delete", "groups.add_member", "groups.remove_member",
        "grants.add", "grants.delete",
        "keys.create", "keys.rotate",
        "guardrails.put", "guardrails.delete",
        "limits.put", "limits.delete",
        "budgets.put", "budgets.delete",
        "prices.put", "prices.delete",
        "configuration.apply", "configuration.export",
    ),
    "platform": ("tenants.list", "tenants.get", "tenants.put", "tenants.delete"),
}  # fmt: skip

NEEDED: Final[Mapping[str, Right]] = {
    operation: right for right, operations in _OPERATIONS.items() for operation in operations
}
"""By operation: the right it takes."""


def needed(operation: str) -> Right:
    """The right that an administrative operation takes; one that is not listed is the platform's."""
    return NEEDED.get(operation, "platform")


def may(principal: Principal, right: Right) -> bool:
    """Whether any role of a principal holds a right."""
    return any(right in RIGHTS[role] for role in principal.roles)


def roles_with(right: Right) -> Iterator[Role]:
    """The roles that hold a right, the least one first."""
    return (role for role, rights in RIGHTS.items() if right in rights)


def administers_all(principal: Principal) -> bool:
    """Whether this is a platform administrator, by a key that may administer."""
    return PLATFORM in principal.roles and principal.reach is None
