"""Evidence -> principal, or a refusal that says how to authenticate."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from hub.domain.call import DEFAULT_TENANT, Call
from hub.domain.outcome import Refusal
from hub.domain.principal import ANONYMOUS, Evidence, Principal
from hub.identity.api_keys import digest_of
from hub.snapshot import Snapshot


class Revoked(Protocol):
    """What was withdrawn since the snapshot was made; asked on each call."""

    def has_key(self, key_id: str) -> bool:
        """Whether this key no longer proves anything."""
        ...


def identify(
    call: Call, snapshot: Snapshot, revoked: Revoked, now: Callable[[], datetime]
) -> Principal:
    """The principal that a call's evidence proves; ``now`` is asked where that depends on the time.

    The anonymous principal never administers. Raises Refusal ``unauthenticated``.
    """
    evidence = call.evidence
    if evidence.secret is not None:
        return _by_key(evidence, snapshot, revoked, now)
    tenant = snapshot.tenants.get(evidence.tenant or DEFAULT_TENANT)
    if evidence.direct and tenant is not None and call.target.kind != "administration":
        server = tenant.virtual_servers.get(call.virtual_server)
        if snapshot.anonymous or (server is not None and server.anonymous):
            return _anonymous(tenant.name)
    raise _unauthenticated(
        "Send an API key as 'Authorization: Bearer ptk_…' or 'X-API-Key: ptk_…'."
    )


@lru_cache(maxsize=1024)
def _anonymous(tenant: str) -> Principal:
    return Principal(tenant=tenant, name=ANONYMOUS, kind="anonymous")


def _by_key(
    evidence: Evidence, snapshot: Snapshot, revoked: Revoked, now: Callable[[], datetime]
) -> Principal:
    entry = snapshot.keys.get(digest_of(evidence.secret or ""))
    if entry is None or revoked.has_key(entry.id):
        raise _unauthenticated("The API key is unknown or was revoked.", cause="key")
    if entry.expires_at is not None and entry.expires_at <= now().timestamp():
        raise _unauthenticated("The API key has expired.", cause="key expired")
    if evidence.tenant is not None and evidence.tenant != entry.principal.tenant:
        raise _unauthenticated("The API key belongs to another tenant.", cause="tenant")
    return entry.principal


def _unauthenticated(message: str, *, cause: str = "") -> Refusal:
    return Refusal(
        "unauthenticated",
        message,
        cause=cause or "no credential",
        headers={"WWW-Authenticate": 'Bearer realm="portico"'},
    )
