"""Who calls: the evidence a request brings, and the principal it proves."""

from typing import Literal

from msgspec import Struct

PrincipalKind = Literal["person", "service", "agent", "anonymous"]
Role = Literal["viewer", "operator", "admin", "auditor", "platform_admin"]

ANONYMOUS = "anonymous"
"""Name of the principal behind loopback requests without a credential."""


class Evidence(Struct, frozen=True, gc=False):
    """What a request brings to prove its principal; verified by ``hub.identity`` alone.

    ``repr`` does not show the secret.
    """

    secret: str | None = None
    """API key or token as presented, from ``Authorization: Bearer`` or ``X-API-Key``."""
    direct: bool = False
    """Loopback peer, loopback ``Host`` and no forwarding header: may be the anonymous principal."""
    peer: str = ""
    """Address of the caller, behind trusted proxies the forwarded one."""
    tenant: str | None = None
    """Tenant named by path or header; must agree with the credential."""

    def __repr__(self) -> str:
        shown = "yes" if self.secret else "no"
        return f"Evidence(secret={shown}, direct={self.direct}, peer={self.peer!r})"


class Principal(Struct, frozen=True, gc=False):
    """An authenticated caller inside one tenant; never a token."""

    tenant: str
    name: str
    kind: PrincipalKind
    groups: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset()
    key_id: str = ""
    """Identifier of the key that proved it; empty for the anonymous principal."""
    reach: frozenset[str] | None = None
    """Virtual servers the key is limited to; None: wherever grants lead."""
