"""Groups: list, get, put, delete."""

from pydantic import Field

from hub.administration import objects
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.conversion import group_spec
from hub.config.models import GroupSection, Name
from hub.domain.principal import Principal
from hub.stores.objects import StoredObject


class GroupPut(GroupSection):
    """A group to add or replace."""

    name: Name


class GroupObject(GroupSection, Owned):
    """A group as it is configured; principals may name it on their side as well."""


class GroupList(Shape):
    """Groups."""

    groups: tuple[GroupObject, ...] = Field(description="Sorted by name.")


async def list_groups(desk: Desk, _: Principal, tenant: str, request: Nothing) -> GroupList:
    """Every group of the tenant."""
    del request
    stored = await desk.objects.load(tenant)
    return GroupList(groups=tuple(_shown(item) for item in objects.of_noun(stored, "group")))


async def get_group(desk: Desk, _: Principal, tenant: str, request: Named) -> GroupObject:
    """One group. Raises NotFoundError."""
    return _shown(objects.find(await desk.objects.load(tenant), "group", request.name))


async def put_group(desk: Desk, _: Principal, tenant: str, request: GroupPut) -> GroupObject:
    """Add or replace a group. Raises ConfigurationError, ConflictError."""
    spec = group_spec(request.name, GroupSection(members=request.members), "api")
    return _shown(await objects.put(desk, tenant, spec))


async def delete_group(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a group. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "group", request.name)
    return Nothing()


def _shown(item: StoredObject) -> GroupObject:
    return GroupObject.model_validate(objects.owned_document(item))
