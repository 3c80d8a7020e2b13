"""Groups: list, get, put, delete; members: add, remove."""

from msgspec.structs import replace
from pydantic import Field

from hub.administration import objects
from hub.administration.authority import check_principal
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.conversion import group_spec
from hub.config.models import GroupSection
from hub.config.section import Name
from hub.domain.desired import GroupSpec, PrincipalSpec
from hub.domain.principal import Principal
from hub.errors import NotFoundError
from hub.stores.documents import Spec
from hub.stores.objects import Change, ObjectKey, Stored, StoredObject


class GroupPut(GroupSection):
    """A group to add or replace."""

    name: Name


class GroupObject(GroupSection, Owned):
    """A group as it is configured; principals may name it on their side as well."""


class Membership(Named):
    """A principal in a group."""

    principal: str


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


async def add_member(
    desk: Desk, principal: Principal, tenant: str, request: Membership
) -> GroupObject:
    """Put a principal into a group; nothing changes where it is in it.

    A group that a file owns is joined from the principal's side. Raises NotFoundError,
    ForbiddenError, and ConflictError when files own both.
    """
    at = desk.timestamp()

    def decide(stored: Stored) -> Change:
        group, member = _both(stored, request)
        if request.name in stored.desired.memberships().get(request.principal, ()):
            return Change(at=at)
        if group.source == "api":
            members = tuple(sorted({*group.members, request.principal}))
            return Change(put=(replace(group, members=members),), at=at)
        objects.refuse_file_owned(
            ("principal", request.principal), stored.objects["principal", request.principal]
        )
        check_principal(principal, member)
        groups = tuple(sorted({*member.groups, request.name}))
        return Change(put=(replace(member, groups=groups),), at=at)

    await objects.edit(desk, tenant, decide)
    return await get_group(desk, principal, tenant, Named(name=request.name))


async def remove_member(
    desk: Desk, principal: Principal, tenant: str, request: Membership
) -> Nothing:
    """Take a principal out of a group, on whichever side its membership is written.

    Raises NotFoundError, ForbiddenError, and ConflictError when a file says that it is in it.
    """
    at = desk.timestamp()

    def decide(stored: Stored) -> Change:
        group, member = _both(stored, request)
        put: list[Spec] = []
        if request.principal in group.members:
            objects.refuse_file_owned(("group", group.name), stored.objects["group", group.name])
            members = tuple(name for name in group.members if name != request.principal)
            put.append(replace(group, members=members))
        if request.name in member.groups:
            key: ObjectKey = ("principal", member.name)
            objects.refuse_file_owned(key, stored.objects[key])
            check_principal(principal, member)
            groups = tuple(name for name in member.groups if name != request.name)
            put.append(replace(member, groups=groups))
        if not put:
            raise NotFoundError(f"'{request.principal}' is not in the group '{request.name}'.")
        return Change(put=put, at=at)

    await objects.edit(desk, tenant, decide)
    return Nothing()


def _both(stored: Stored, request: Membership) -> tuple[GroupSpec, PrincipalSpec]:
    group = objects.find(stored, "group", request.name).spec
    principal = objects.find(stored, "principal", request.principal).spec
    if not isinstance(group, GroupSpec) or not isinstance(principal, PrincipalSpec):
        raise TypeError("the store holds one kind of object under another's name")
    return group, principal


def _shown(item: StoredObject) -> GroupObject:
    return GroupObject.model_validate(objects.owned_document(item))
