"""Desired state: what an administrator wrote, as plain serialisable data.

The configuration file, the admin API and the stores all speak these types; ``hub.compile`` turns
them, with listings and the name ledger, into the snapshot that requests read.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw, Struct

from hub.domain.principal import PrincipalKind, Role
from hub.domain.rules import BudgetSpec, GuardrailSpec, LimitSpec, PriceSpec
from hub.domain.source import Source

Prefix = Literal["auto", "always", "never"]
Presentation = Literal["full", "search"]


class UpstreamSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server the hub may call. Exactly one of ``command``, ``url`` and ``openapi`` is set."""

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    cwd: str | None = None
    isolation: Literal["shared", "principal"] = "shared"
    max_children: int = 4
    idle_stop_s: float = 900.0
    url: str | None = None
    transport: Literal["auto", "http", "sse"] = "auto"
    headers: Mapping[str, str] = {}
    """Values may refer to secrets: ``env:NAME`` or ``file:PATH``, resolved when connecting."""
    openapi: str | None = None
    base_url: str | None = None
    timeout_s: float = 60.0
    timeout_cap_s: float = 600.0
    max_in_flight: int = 64
    keep_alive_s: float = 4.0
    """How long an idle connection is kept; below the upstream's own keep-alive."""
    refresh_s: float = 300.0
    enabled: bool = True
    guarded: bool = False
    """Written by a tenant's administrator: the address guard holds for it. What stands in a file or
    comes from a platform administrator may be loopback or private, as written."""
    source: Source = "api"


class ArgumentRule(Struct, frozen=True, omit_defaults=True):
    """What an exposure does to one argument; ``fix`` cannot be overridden by the caller."""

    fix: Raw | None = None
    default: Raw | None = None
    hide: bool = False
    description: str | None = None


class Override(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one capability appears in a virtual server; absent fields stay the upstream's."""

    name: str | None = None
    title: str | None = None
    description: str | None = None
    annotations: Mapping[str, Raw] = {}
    arguments: Mapping[str, ArgumentRule] = {}


class Include(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Capabilities taken from one upstream: names or shell patterns; none given means all of them.

    ``where`` narrows tools by annotation, for instance ``{readOnlyHint: true}``.
    """

    upstream: str
    tools: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    prompts: tuple[str, ...] | None = None
    where: Mapping[str, bool] = {}
    override: Mapping[str, Override] = {}


class VirtualServerSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named MCP endpoint composed of chosen capabilities of many upstreams."""

    name: str
    title: str | None = None
    description: str | None = None
    instructions: str | None = None
    prefix: Prefix = "auto"
    presentation: Presentation = "full"
    anonymous: bool = False
    include: tuple[Include, ...] = ()
    source: Source = "api"


class TenantSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What platform administrators say of a tenant; one of which nothing is said is enabled."""

    name: str
    title: str | None = None
    enabled: bool = True
    """A disabled tenant admits nobody, and none of its upstreams run."""
    source: Source = "api"


class PrincipalSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A caller that may hold keys and grants."""

    name: str
    kind: PrincipalKind = "person"
    roles: tuple[Role, ...] = ()
    groups: tuple[str, ...] = ()
    """Groups it belongs to beside those that name it: joins a group without changing who owns it."""
    source: Source = "api"


class GroupSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A set of principals inside one tenant."""

    name: str
    members: tuple[str, ...] = ()
    source: Source = "api"


class GrantSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Lets a group or a principal use exposures of one virtual server, by exposed name or pattern.

    A list that is absent means all of that kind; when any list is given, absent ones mean none.
    """

    virtual_server: str
    group: str | None = None
    principal: str | None = None
    tools: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    prompts: tuple[str, ...] | None = None
    source: Source = "api"

    @property
    def name(self) -> str:
        """A stable identifier: who, where, and what is named."""
        who = f"group:{self.group}" if self.group else f"principal:{self.principal}"
        lists = (("tools", self.tools), ("resources", self.resources), ("prompts", self.prompts))
        what = ";".join(
            f"{kind}={','.join(sorted(names))}" for kind, names in lists if names is not None
        )
        return f"{who}@{self.virtual_server}" + (f"[{what}]" if what else "")


class Desired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All desired state of one tenant."""

    tenant: str = "default"
    upstreams: tuple[UpstreamSpec, ...] = ()
    virtual_servers: tuple[VirtualServerSpec, ...] = ()
    principals: tuple[PrincipalSpec, ...] = ()
    groups: tuple[GroupSpec, ...] = ()
    grants: tuple[GrantSpec, ...] = ()
    guardrails: tuple[GuardrailSpec, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    prices: tuple[PriceSpec, ...] = ()
    budgets: tuple[BudgetSpec, ...] = ()

    def memberships(self) -> dict[str, frozenset[str]]:
        """The groups of each principal that is in any, from whichever side it was written."""
        found: dict[str, set[str]] = {item.name: set(item.groups) for item in self.principals}
        for group in self.groups:
            for member in group.members:
                found.setdefault(member, set()).add(group.name)
        return {principal: frozenset(groups) for principal, groups in found.items() if groups}


class KeySpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is stored of an API key: never the key, only the digest that recognises it."""

    id: str
    tenant: str
    principal: str
    digest: bytes
    """SHA-256 of the key; keys carry 256 random bits, so no slow hash is needed."""
    virtual_servers: tuple[str, ...] | None = None
    """Where it may be used; None: wherever the principal may go."""
    cidrs: tuple[str, ...] = ()
    """Networks it may be used from; none: from anywhere."""
    created_at: str = ""
    expires_at: str | None = None
    """RFC 3339, UTC."""
    revoked_at: str | None = None
    bootstrap: bool = False
    """The first administrator's key, made at the first start: it does not end anonymous access."""
    used_at: str | None = None
    """Minute of its last use as far as that was written down, RFC 3339, UTC."""
    used_from: str | None = None
    """Address that it was last used from."""
