"""API keys: create, list, revoke, rotate; and the first administrator's key."""

import os
import secrets
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec.structs import replace
from pydantic import Field

from hub.administration import objects
from hub.administration.authority import PLATFORM, check_principal
from hub.administration.desk import Desk, Nothing, Shape, rfc3339
from hub.administration.principals import principal_named
from hub.config.section import Name, Network
from hub.config.suggestions import did_you_mean
from hub.domain.call import DEFAULT_TENANT, DEFAULT_VIRTUAL_SERVER
from hub.domain.desired import KeySpec, PrincipalSpec
from hub.domain.principal import Principal
from hub.errors import ConfigurationError, ConflictError, DataDirectoryError, NotFoundError
from hub.identity.api_keys import digest_of, is_well_formed, new_key
from hub.stores.objects import Change, Stored

ADMIN: Final = "admin"
"""Principal of the first administrator's key."""

Lifetime = Annotated[float, Field(gt=0, le=3_650 * 86_400)]


class KeyCreate(Shape):
    """A key to make."""

    principal: Name = Field(
        description="Whose key it is; a service of that name is made if needed."
    )
    group: Name | None = Field(None, description="A group that the principal shall be in.")
    virtual_servers: tuple[Name, ...] | None = Field(
        None, description="Where the key may be used; null: wherever the principal may go."
    )
    cidrs: tuple[Network, ...] = Field(
        (),
        max_length=64,
        description="Networks that it may be used from, such as '10.0.0.0/8'; none: from anywhere.",
    )
    ttl_s: Lifetime | None = Field(None, description="Seconds until it expires; null: never.")


class KeyCreated(Shape):
    """A new key. It is shown this once and kept nowhere."""

    key: str = Field(description="The key itself.")
    id: str
    tenant: str
    principal: str
    virtual_servers: tuple[str, ...] | None = None
    cidrs: tuple[str, ...] = ()
    created_at: str
    expires_at: str | None = None


class KeyObject(Shape):
    """What is known of a key."""

    id: str
    principal: str
    state: Literal["active", "expired", "revoked"]
    virtual_servers: tuple[str, ...] | None = None
    cidrs: tuple[str, ...] = ()
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    used_at: str | None = Field(
        None, description="Minute of its last use; written down every half minute."
    )
    used_from: str | None = Field(None, description="Address that it was last used from.")


class KeyList(Shape):
    """Keys."""

    keys: tuple[KeyObject, ...] = Field(description="Oldest first.")


class KeyNamed(Shape):
    """A request about one key."""

    id: str


class KeyRotate(KeyNamed):
    """A key to replace."""

    overlap_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = Field(
        3_600.0, description="Seconds that the old key stays good; 0 revokes it at once."
    )


async def create_key(
    desk: Desk, principal: Principal, tenant: str, request: KeyCreate
) -> KeyCreated:
    """Make a key, and the principal if there is none.

    Raises ForbiddenError, NotFoundError for an unknown group, ConfigurationError for an unknown
    virtual server, ConflictError when the principal's file would have to be changed.
    """
    _check_reach(await desk.objects.load(tenant), request.virtual_servers)
    await _ensure_principal(desk, principal, tenant, request)
    expires = desk.now() + timedelta(seconds=request.ttl_s) if request.ttl_s else None
    spec = KeySpec(
        id="",
        tenant=tenant,
        principal=request.principal,
        digest=b"",
        virtual_servers=request.virtual_servers,
        cidrs=tuple(dict.fromkeys(str(ip_network(cidr, strict=False)) for cidr in request.cidrs)),
        expires_at=rfc3339(expires) if expires else None,
    )
    return await _issue(desk, spec)


async def list_keys(desk: Desk, _: Principal, tenant: str, request: Nothing) -> KeyList:
    """Every key of the tenant, ended ones included."""
    del request
    now = desk.timestamp()
    return KeyList(keys=tuple(_shown(key, now) for key in await desk.keys.list(tenant)))


async def revoke_key(desk: Desk, principal: Principal, tenant: str, request: KeyNamed) -> KeyObject:
    """Withdraw a key for good. Raises NotFoundError, ForbiddenError."""
    key = await _key(desk, principal, tenant, request.id)
    if key.revoked_at is None:
        key = replace(key, revoked_at=desk.timestamp())
        await _limit(desk, key)
    return _shown(key, desk.timestamp())


async def rotate_key(
    desk: Desk, principal: Principal, tenant: str, request: KeyRotate
) -> KeyCreated:
    """Make a key like another, which then ends after the overlap.

    A key that was to expire is followed by one that lives as long. Raises NotFoundError,
    ForbiddenError, ConflictError when the old key has ended already.
    """
    old = await _key(desk, principal, tenant, request.id)
    now = desk.now()
    if state_of(old, rfc3339(now)) != "active":
        raise ConflictError(f"The key '{old.id}' has ended; create a new one.")
    expires = None
    if old.expires_at is not None:
        lifetime = datetime.fromisoformat(old.expires_at) - datetime.fromisoformat(old.created_at)
        expires = now + lifetime
    like = replace(old, expires_at=rfc3339(expires) if expires else None)
    created = await _issue(desk, like)
    end = rfc3339(now + timedelta(seconds=request.overlap_s))
    if request.overlap_s == 0:
        await _limit(desk, replace(old, revoked_at=rfc3339(now)))
    else:
        await _limit(desk, replace(old, expires_at=min(end, old.expires_at or end)))
    return created


async def ensure_admin_key(desk: Desk, file: Path) -> bool:
    """On the first start, make the administrator and write its key to ``file`` (mode 0600).

    Does nothing, and returns False, when that was done before. A key that is in the file already,
    of a start that broke off or of another store, is made good here as well. Raises
    DataDirectoryError when the file cannot be written.
    """
    if any(key.bootstrap for key in await desk.keys.list(DEFAULT_TENANT)):
        return False
    stored = await desk.objects.load(DEFAULT_TENANT)
    if principal_named(stored, ADMIN) is None:
        admin = PrincipalSpec(name=ADMIN, kind="service", roles=(PLATFORM,))
        await objects.put(desk, DEFAULT_TENANT, admin)
    key = _private_key_in(file)
    if key is None:
        key = new_key()
        # Written before it is good: a start that breaks off here makes it good the next time.
        _write_private(file, f"{key}\n")
    spec = _key_spec(desk, key, DEFAULT_TENANT, ADMIN)
    await desk.keys.add(replace(spec, bootstrap=True))
    await desk.written()
    return True


async def _ensure_principal(
    desk: Desk, principal: Principal, tenant: str, request: KeyCreate
) -> None:
    """See to it that the principal is there and in its group."""
    name, group, at = request.principal, request.group, desk.timestamp()

    def decide(stored: Stored) -> Change:
        if group is not None and ("group", group) not in stored.objects:
            known = [other for noun, other in stored.objects if noun == "group"]
            hint = did_you_mean(group, known)
            raise NotFoundError(f"There is no group '{group}'{hint or '.'}")
        spec = principal_named(stored, name)
        check_principal(principal, spec)
        groups = stored.desired.memberships().get(name, frozenset())
        if spec is None:
            spec = PrincipalSpec(name=name, kind="service", groups=(group,) if group else ())
        elif group is None or group in groups:
            return Change(at=at)
        else:
            objects.refuse_file_owned(("principal", name), stored.objects["principal", name])
            spec = replace(spec, groups=tuple(sorted({*spec.groups, group})))
        objects.check_new(stored, spec)
        return Change(put=(spec,), at=at)

    await objects.edit(desk, tenant, decide)


def _check_reach(stored: Stored, virtual_servers: tuple[str, ...] | None) -> None:
    known = [name for noun, name in stored.objects if noun == "virtual_server"]
    for name in virtual_servers or ():
        if name not in (*known, DEFAULT_VIRTUAL_SERVER):
            hint = did_you_mean(name, known)
            raise ConfigurationError(f"There is no virtual server '{name}'{hint or '.'}")


async def _issue(desk: Desk, like: KeySpec) -> KeyCreated:
    """A new key, good for what ``like`` is."""
    key = new_key()
    spec = replace(
        _key_spec(desk, key, like.tenant, like.principal),
        virtual_servers=like.virtual_servers,
        cidrs=like.cidrs,
        expires_at=like.expires_at,
    )
    await desk.keys.add(spec)
    await desk.written()
    return KeyCreated(
        key=key,
        id=spec.id,
        tenant=spec.tenant,
        principal=spec.principal,
        virtual_servers=spec.virtual_servers,
        cidrs=spec.cidrs,
        created_at=spec.created_at,
        expires_at=spec.expires_at,
    )


def _key_spec(desk: Desk, key: str, tenant: str, principal: str) -> KeySpec:
    return KeySpec(
        id=f"key-{secrets.token_hex(6)}",
        tenant=tenant,
        principal=principal,
        digest=digest_of(key),
        created_at=desk.timestamp(),
    )


async def _key(desk: Desk, principal: Principal, tenant: str, key_id: str) -> KeySpec:
    key = await desk.keys.get(tenant, key_id)
    stored = await desk.objects.load(tenant)
    check_principal(principal, principal_named(stored, key.principal))
    return key


async def _limit(desk: Desk, key: KeySpec) -> None:
    await desk.keys.limit(key.tenant, key.id, expires_at=key.expires_at, revoked_at=key.revoked_at)
    if key.revoked_at is not None:
        desk.revoked(key.id)
    await desk.written()


def state_of(key: KeySpec, now: str) -> Literal["active", "expired", "revoked"]:
    """Whether a key still proves anything at ``now``, RFC 3339 in UTC."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def _shown(key: KeySpec, now: str) -> KeyObject:
    return KeyObject(
        id=key.id,
        principal=key.principal,
        state=state_of(key, now),
        virtual_servers=key.virtual_servers,
        cidrs=key.cidrs,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        used_at=key.used_at,
        used_from=key.used_from,
    )


def _private_key_in(file: Path) -> str | None:
    """The key in a file that nobody else could read; None where there is none."""
    try:
        if file.stat().st_mode & 0o077:
            return None
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return key if is_well_formed(key) else None


def _write_private(file: Path, text: str) -> None:
    try:
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise DataDirectoryError(f"{file} cannot be written: {error.strerror}.") from error
