"""Virtual servers: list, get, put, delete."""

from pydantic import Field

from hub.administration import objects
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.conversion import virtual_server_spec
from hub.config.models import VirtualServerSection
from hub.config.section import Name
from hub.domain.principal import Principal
from hub.stores.objects import StoredObject


class VirtualServerPut(VirtualServerSection):
    """A virtual server to add or replace."""

    name: Name


class VirtualServerObject(VirtualServerSection, Owned):
    """A virtual server as it is configured; keys that are absent have their defaults."""


class VirtualServerList(Shape):
    """Virtual servers."""

    virtual_servers: tuple[VirtualServerObject, ...] = Field(description="Sorted by name.")


async def list_virtual_servers(
    desk: Desk, _: Principal, tenant: str, request: Nothing
) -> VirtualServerList:
    """Every virtual server of the tenant."""
    del request
    stored = await desk.objects.load(tenant)
    items = objects.of_noun(stored, "virtual_server")
    return VirtualServerList(virtual_servers=tuple(_shown(item) for item in items))


async def get_virtual_server(
    desk: Desk, _: Principal, tenant: str, request: Named
) -> VirtualServerObject:
    """One virtual server. Raises NotFoundError."""
    stored = await desk.objects.load(tenant)
    return _shown(objects.find(stored, "virtual_server", request.name))


async def put_virtual_server(
    desk: Desk, _: Principal, tenant: str, request: VirtualServerPut
) -> VirtualServerObject:
    """Add or replace a virtual server. Raises ConfigurationError, ConflictError."""
    given = request.model_dump(exclude={"name"}, exclude_unset=True)
    spec = virtual_server_spec(request.name, VirtualServerSection(**given), "api")
    return _shown(await objects.put(desk, tenant, spec))


async def delete_virtual_server(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a virtual server. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "virtual_server", request.name)
    return Nothing()


def _shown(item: StoredObject) -> VirtualServerObject:
    return VirtualServerObject.model_validate(objects.owned_document(item))
