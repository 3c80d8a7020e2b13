"""Principals: list, get, put, delete."""

from pydantic import Field

from hub.administration import objects
from hub.administration.authority import check_principal
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.conversion import principal_spec
from hub.config.models import PrincipalSection
from hub.config.section import Name
from hub.domain.desired import PrincipalSpec
from hub.domain.principal import Principal
from hub.stores.objects import Stored, StoredObject


class PrincipalPut(PrincipalSection):
    """A principal to add or replace."""

    name: Name


class PrincipalObject(PrincipalSection, Owned):
    """A principal as it is configured."""

    member_of: tuple[str, ...] = Field(
        (), description="Every group it is in, from whichever side that was written."
    )


class PrincipalList(Shape):
    """Principals."""

    principals: tuple[PrincipalObject, ...] = Field(description="Sorted by name.")


async def list_principals(desk: Desk, _: Principal, tenant: str, request: Nothing) -> PrincipalList:
    """Every principal of the tenant."""
    del request
    stored = await desk.objects.load(tenant)
    memberships = stored.desired.memberships()
    items = objects.of_noun(stored, "principal")
    return PrincipalList(
        principals=tuple(_shown(item, memberships.get(item.spec.name)) for item in items)
    )


async def get_principal(desk: Desk, _: Principal, tenant: str, request: Named) -> PrincipalObject:
    """One principal. Raises NotFoundError."""
    stored = await desk.objects.load(tenant)
    item = objects.find(stored, "principal", request.name)
    return _shown(item, stored.desired.memberships().get(request.name))


async def put_principal(
    desk: Desk, principal: Principal, tenant: str, request: PrincipalPut
) -> PrincipalObject:
    """Add or replace a principal. Raises ForbiddenError, ConfigurationError, ConflictError."""
    given = request.model_dump(exclude={"name"})
    spec = principal_spec(request.name, PrincipalSection(**given), "api")

    def check(stored: Stored) -> None:
        check_principal(principal, spec, principal_named(stored, request.name))

    await objects.put(desk, tenant, spec, check)
    return await get_principal(desk, principal, tenant, Named(name=request.name))


async def delete_principal(
    desk: Desk, principal: Principal, tenant: str, request: Named
) -> Nothing:
    """Remove a principal and revoke its keys. Raises NotFoundError, ForbiddenError, ConflictError.

    The keys go first: where it breaks off, none is left for a principal of that name to come.
    """

    def check(stored: Stored) -> None:
        check_principal(principal, principal_named(stored, request.name))

    stored = await desk.objects.load(tenant)
    check(stored)
    objects.check_removable(stored, "principal", request.name)
    for key in await desk.keys.list(tenant):
        if key.principal == request.name and key.revoked_at is None:
            await desk.keys.limit(
                tenant, key.id, expires_at=key.expires_at, revoked_at=desk.timestamp()
            )
            desk.revoked(key.id)
    await objects.delete(desk, tenant, "principal", request.name, check)
    return Nothing()


def principal_named(stored: Stored, name: str) -> PrincipalSpec | None:
    """A principal as it is configured, if there is one of that name."""
    item = stored.objects.get(("principal", name))
    return item.spec if item is not None and isinstance(item.spec, PrincipalSpec) else None


def _shown(item: StoredObject, groups: frozenset[str] | None) -> PrincipalObject:
    document = {**objects.owned_document(item), "member_of": sorted(groups or ())}
    return PrincipalObject.model_validate(document)
