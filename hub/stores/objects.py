"""Desired state in the database: one row per object."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.domain.desired import (
    Desired,
    GrantSpec,
    GroupSpec,
    PrincipalSpec,
    TenantSpec,
    UpstreamSpec,
    VirtualServerSpec,
)
from hub.domain.rules import BudgetSpec, GuardrailSpec, LimitSpec, PriceSpec
from hub.errors import ConflictError
from hub.stores.database import Database
from hub.stores.documents import Noun, Spec, decode, encode, noun_of
from hub.stores.epochs import advance, current
from hub.stores.tables import ConfiguredObject, index_key, table_of

_objects = table_of(ConfiguredObject)
_CHUNK = 200

ObjectKey = tuple[Noun, str]
"""Kind and name."""


class StoredObject(Struct, frozen=True):
    """One object, and what is known about how it came here."""

    spec: Spec
    origin: str = ""
    """The file that owns it; empty where the API does."""
    drifted: bool = False
    """A file owns it, and it is no longer what was applied from there."""
    changed_at: str = ""


class Stored(Struct, frozen=True):
    """Everything of one tenant at one revision."""

    tenant: str
    revision: int
    objects: Mapping[ObjectKey, StoredObject] = {}

    @property
    def desired(self) -> Desired:
        """The objects as desired state, sorted by name."""
        return desired_from(self.tenant, (item.spec for item in self.objects.values()))

    @property
    def settings(self) -> TenantSpec:
        """What platform administrators say of the tenant itself."""
        item = self.objects.get(("tenant", self.tenant))
        if item is not None and isinstance(item.spec, TenantSpec):
            return item.spec
        return TenantSpec(name=self.tenant)


class Change(Struct, frozen=True, kw_only=True):
    """What one transaction does to a tenant."""

    put: Sequence[Spec] = ()
    """Objects to add or replace; their ``source`` says who owns them from now on."""
    remove: Sequence[ObjectKey] = ()
    origin: str = ""
    """The file that the objects of source ``file`` come from."""
    at: str
    """RFC 3339, UTC."""


class ObjectStore:
    """Desired state of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tenants(self) -> tuple[str, ...]:
        """Tenants that have any object, sorted."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(_objects.c.tenant).distinct())
            return tuple(sorted(rows.scalars()))

    async def load(self, tenant: str) -> Stored:
        """Everything of a tenant; nothing at all is a tenant as well."""
        async with self._database.read() as connection:
            epoch = await current(connection)
            return await _load(connection, tenant, epoch.configuration)

    async def change(self, tenant: str, change: Change, *, expected: int | None = None) -> int:
        """Carry out a change in one transaction; returns the new revision.

        Raises ConflictError when ``expected`` is given and no longer the revision.
        """
        async with self._database.write() as connection:
            revision = await advance(connection, "configuration")
            if expected is not None and revision != expected + 1:
                raise ConflictError(
                    "The configuration was changed by somebody else in the meantime; look again."
                )
            gone = [*change.remove, *((noun_of(spec), spec.name) for spec in change.put)]
            for start in range(0, len(gone), _CHUNK):
                await _delete(connection, tenant, gone[start : start + _CHUNK])
            if change.put:
                rows = [_row(tenant, spec, change) for spec in change.put]
                await connection.execute(insert(_objects), rows)
            return revision


def desired_from(tenant: str, specs: Iterable[Spec]) -> Desired:
    """Objects in any order as desired state, sorted by name."""
    ordered = sorted(specs, key=lambda spec: spec.name)
    return Desired(
        tenant=tenant,
        upstreams=tuple(spec for spec in ordered if isinstance(spec, UpstreamSpec)),
        virtual_servers=tuple(spec for spec in ordered if isinstance(spec, VirtualServerSpec)),
        principals=tuple(spec for spec in ordered if isinstance(spec, PrincipalSpec)),
        groups=tuple(spec for spec in ordered if isinstance(spec, GroupSpec)),
        grants=tuple(spec for spec in ordered if isinstance(spec, GrantSpec)),
        guardrails=tuple(spec for spec in ordered if isinstance(spec, GuardrailSpec)),
        limits=tuple(spec for spec in ordered if isinstance(spec, LimitSpec)),
        prices=tuple(spec for spec in ordered if isinstance(spec, PriceSpec)),
        budgets=tuple(spec for spec in ordered if isinstance(spec, BudgetSpec)),
    )


async def _load(connection: AsyncConnection, tenant: str, revision: int) -> Stored:
    columns = (
        _objects.c.noun,
        _objects.c.document,
        _objects.c.origin,
        _objects.c.applied,
        _objects.c.changed_at,
    )
    rows = await connection.execute(select(*columns).where(_objects.c.tenant == tenant))
    objects: dict[ObjectKey, StoredObject] = {}
    for noun, document, origin, applied, changed_at in rows:
        spec = decode(noun, document)
        drifted = bool(applied) and applied != _digest(document)
        objects[noun, spec.name] = StoredObject(spec, origin, drifted, changed_at)
    return Stored(tenant, revision, objects)


async def _delete(connection: AsyncConnection, tenant: str, keys: Sequence[ObjectKey]) -> None:
    named = (
        and_(_objects.c.noun == noun, _objects.c.name_key == index_key(name)) for noun, name in keys
    )
    await connection.execute(delete(_objects).where(_objects.c.tenant == tenant, or_(*named)))


def _row(tenant: str, spec: Spec, change: Change) -> dict[str, str]:
    document = encode(spec)
    by_file = spec.source == "file"
    return {
        "tenant": tenant,
        "noun": noun_of(spec),
        "name_key": index_key(spec.name),
        "source": spec.source,
        "document": document,
        "origin": change.origin if by_file else "",
        "applied": _digest(document) if by_file else "",
        "changed_at": change.at,
    }


def _digest(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()
