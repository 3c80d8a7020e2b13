"""Tenants: list, get, put, delete. For platform administrators.

A tenant is there as soon as it has any object. What is said of the tenant itself is one more object
of its own, which no file owns.
"""

from pydantic import Field

from hub.administration import objects
from hub.administration.desk import Desk, Named, Nothing, Shape
from hub.config.section import Flag, Name, Text
from hub.domain.call import DEFAULT_TENANT
from hub.domain.desired import TenantSpec
from hub.domain.principal import Principal
from hub.errors import ConflictError, NotFoundError
from hub.stores.objects import Change, Stored


class TenantSection(Shape):
    """What is said of a tenant."""

    title: Text | None = Field(None, description="Title for people.")
    enabled: Flag = Field(
        True, description="false: nobody is admitted, as if no credential of it were known."
    )


class TenantPut(TenantSection):
    """A tenant to add or change."""

    name: Name


class TenantDelete(Named):
    """A tenant to remove."""

    force: bool = Field(False, description="Also where files describe it.")


class TenantObject(TenantSection):
    """A tenant."""

    name: str
    changed_at: str = Field("", description="When this was said; empty: nothing was said of it.")
    files: tuple[str, ...] = Field((), description="Configuration files that describe it.")


class TenantList(Shape):
    """Tenants."""

    tenants: tuple[TenantObject, ...] = Field(description="Sorted by name.")


async def list_tenants(desk: Desk, _: Principal, tenant: str, request: Nothing) -> TenantList:
    """Every tenant."""
    del tenant, request
    names = sorted({DEFAULT_TENANT, *await desk.objects.tenants()})
    return TenantList(tenants=tuple([_shown(await desk.objects.load(name)) for name in names]))


async def get_tenant(desk: Desk, _: Principal, tenant: str, request: Named) -> TenantObject:
    """One tenant. Raises NotFoundError."""
    del tenant
    return _shown(await _known(desk, request.name))


async def put_tenant(
    desk: Desk, principal: Principal, tenant: str, request: TenantPut
) -> TenantObject:
    """Add a tenant, name it, enable or disable it.

    Raises ConflictError for disabling the tenant that administers the others, or one's own.
    """
    del tenant
    if not request.enabled:
        _refuse_own(principal, request.name, "disabled")
    spec = TenantSpec(name=request.name, title=request.title, enabled=request.enabled)
    await objects.put(desk, request.name, spec)
    return _shown(await desk.objects.load(request.name))


async def delete_tenant(
    desk: Desk, principal: Principal, tenant: str, request: TenantDelete
) -> Nothing:
    """Revoke all keys of a tenant and remove all its objects; the record stays.

    Raises NotFoundError, and ConflictError when a file describes it, unless ``force`` is given.
    """
    del tenant
    name = request.name
    _refuse_own(principal, name, "removed")
    stored = await _known(desk, name)
    files = _files(stored)
    if files and not request.force:
        raise ConflictError(
            f"The tenant '{name}' is described by {', '.join(files)}; remove it with 'force', and "
            "the file from what is applied."
        )
    # The keys go first: where it breaks off, none is left for a tenant of that name to come.
    for key in await desk.keys.list(name):
        if key.revoked_at is None:
            at = desk.timestamp()
            await desk.keys.limit(name, key.id, expires_at=key.expires_at, revoked_at=at)
            desk.revoked(key.id)
    at = desk.timestamp()
    await objects.edit(desk, name, lambda found: Change(remove=tuple(found.objects), at=at))
    return Nothing()


async def _known(desk: Desk, name: str) -> Stored:
    stored = await desk.objects.load(name)
    if not stored.objects and name != DEFAULT_TENANT:
        raise NotFoundError(f"There is no tenant '{name}'.")
    return stored


def _refuse_own(principal: Principal, name: str, what: str) -> None:
    if name == DEFAULT_TENANT:
        raise ConflictError(f"The tenant '{name}' administers the others and cannot be {what}.")
    if name == principal.tenant:
        raise ConflictError(f"The tenant '{name}' is your own: this would shut you out.")


def _files(stored: Stored) -> tuple[str, ...]:
    owned = (item for item in stored.objects.values() if item.spec.source == "file")
    return tuple(sorted({item.origin or "a configuration file" for item in owned}))


def _shown(stored: Stored) -> TenantObject:
    settings = stored.settings
    item = stored.objects.get(("tenant", stored.tenant))
    return TenantObject(
        name=stored.tenant,
        title=settings.title,
        enabled=settings.enabled,
        changed_at=item.changed_at if item is not None else "",
        files=_files(stored),
    )
