"""Evidence -> principal, or a refusal that says how to authenticate."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from hub.domain.call import DEFAULT_TENANT, Call
from hub.domain.outcome import Refusal
from hub.domain.principal import ANONYMOUS, Principal
from hub.identity.api_keys import digest_of
from hub.identity.networks import is_within
from hub.policy.roles import administers_all
from hub.snapshot import KeyEntry, Snapshot


class Revoked(Protocol):
    """What was withdrawn since the snapshot was made; asked on each call."""

    def has_key(self, key_id: str) -> bool:
        """Whether this key no longer proves anything."""
        ...


def identify(
    call: Call,
    snapshot: Snapshot,
    revoked: Revoked,
    now: Callable[[], datetime],
    used: Callable[[str, str], None] | None = None,
) -> Principal:
    """The principal that a call's evidence proves; ``now`` is asked where that depends on the time.

    ``used`` is told the id of the key and the caller's address where a key proved it. The anonymous
    principal never administers. Raises Refusal ``unauthenticated``.
    """
    evidence = call.evidence
    if evidence.secret is not None:
        principal = _by_key(call, snapshot, revoked, now)
        if used is not None:
            used(principal.key_id, evidence.peer)
        return principal
    tenant = snapshot.tenants.get(evidence.tenant or DEFAULT_TENANT)
    if evidence.direct and tenant is not None and call.target.kind != "administration":
        server = tenant.virtual_servers.get(call.virtual_server)
        if snapshot.anonymous or (server is not None and server.anonymous):
            return _anonymous(tenant.name)
    raise _unauthenticated(
        "Send an API key as 'Authorization: Bearer ptk_…' or 'X-API-Key: ptk_…'.",
        cause="no credential",
    )


@lru_cache(maxsize=1024)
def _anonymous(tenant: str) -> Principal:
    return Principal(tenant=tenant, name=ANONYMOUS, kind="anonymous")


def _by_key(
    call: Call, snapshot: Snapshot, revoked: Revoked, now: Callable[[], datetime]
) -> Principal:
    evidence = call.evidence
    entry = snapshot.keys.get(digest_of(evidence.secret or ""))
    if entry is None or revoked.has_key(entry.id):
        raise _unknown("key")
    if entry.networks and not is_within(evidence.peer, entry.networks):
        # Whoever found the key elsewhere learns nothing of it, not even that it is one.
        raise _unknown("key network")
    if entry.expires_at is not None and entry.expires_at <= now().timestamp():
        raise _unauthenticated("The API key has expired.", cause="key expired")
    if evidence.tenant is not None and evidence.tenant != entry.principal.tenant:
        _check_other_tenant(call, entry)
    return entry.principal


def _check_other_tenant(call: Call, entry: KeyEntry) -> None:
    """Only who administers all tenants may name another one, and only to administer it."""
    if call.target.kind != "administration" or not administers_all(entry.principal):
        raise _unauthenticated("The API key belongs to another tenant.", cause="tenant")


def _unknown(cause: str) -> Refusal:
    return _unauthenticated("The API key is unknown or was revoked.", cause=cause)


def _unauthenticated(message: str, *, cause: str) -> Refusal:
    return Refusal(
        "unauthenticated",
        message,
        cause=cause,
        headers={"WWW-Authenticate": 'Bearer realm="portico"'},
    )
