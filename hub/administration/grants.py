"""Grants: list, add, delete. A grant is known by what it says, so it is never changed."""

from pydantic import Field

from hub.administration import objects
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.conversion import grant_spec
from hub.config.models import GrantSection
from hub.domain.principal import Principal
from hub.stores.objects import StoredObject


class GrantObject(GrantSection, Owned):
    """A grant; its name is made of who, where and what."""


class GrantList(Shape):
    """Grants."""

    grants: tuple[GrantObject, ...] = Field(description="Sorted by name.")


async def list_grants(desk: Desk, _: Principal, tenant: str, request: Nothing) -> GrantList:
    """Every grant of the tenant."""
    del request
    stored = await desk.objects.load(tenant)
    return GrantList(grants=tuple(_shown(item) for item in objects.of_noun(stored, "grant")))


async def add_grant(desk: Desk, _: Principal, tenant: str, request: GrantSection) -> GrantObject:
    """Add a grant, unless it is there. Raises ConfigurationError, ConflictError."""
    return _shown(await objects.put(desk, tenant, grant_spec(request, "api")))


async def delete_grant(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a grant by its name. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "grant", request.name)
    return Nothing()


def _shown(item: StoredObject) -> GrantObject:
    return GrantObject.model_validate(objects.owned_document(item))
