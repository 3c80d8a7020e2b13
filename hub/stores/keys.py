"""API keys: digests, never keys."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Row, bindparam, insert, or_, select, update

from hub.domain.desired import KeySpec
from hub.errors import NotFoundError
from hub.stores.database import Database
from hub.stores.epochs import advance
from hub.stores.tables import ApiKey, table_of

_keys = table_of(ApiKey)


class KeyUse(Struct, frozen=True):
    """When a key was last used, and from where."""

    id: str
    at: str
    """RFC 3339, UTC."""
    peer: str


class KeyStore:
    """Keys of all tenants; revoked ones stay, so that their ids are never given again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, tenant: str | None = None) -> tuple[KeySpec, ...]:
        """Keys of one tenant, or of all of them, oldest first."""
        statement = select(_keys).order_by(_keys.c.created_at, _keys.c.id)
        if tenant is not None:
            statement = statement.where(_keys.c.tenant == tenant)
        async with self._database.read() as connection:
            return tuple(_spec(row) for row in await connection.execute(statement))

    async def get(self, tenant: str, key_id: str) -> KeySpec:
        """One key. Raises NotFoundError."""
        statement = select(_keys).where(_keys.c.tenant == tenant, _keys.c.id == key_id)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).first()
        if row is None:
            raise NotFoundError(f"There is no key '{key_id}'.")
        return _spec(row)

    async def add(self, key: KeySpec) -> None:
        """Keep a new key."""
        async with self._database.write() as connection:
            await advance(connection, "keys")
            await connection.execute(insert(_keys), [_row(key)])

    async def limit(
        self, tenant: str, key_id: str, *, expires_at: str | None, revoked_at: str | None
    ) -> None:
        """Set when a key ends; what else it is never changes. Raises NotFoundError."""
        statement = (
            update(_keys)
            .where(_keys.c.tenant == tenant, _keys.c.id == key_id)
            .values(expires_at=expires_at, revoked_at=revoked_at)
            .returning(_keys.c.id)
        )
        async with self._database.write() as connection:
            await advance(connection, "keys")
            if (await connection.execute(statement)).first() is None:
                raise NotFoundError(f"There is no key '{key_id}'.")

    async def used(self, uses: Sequence[KeyUse]) -> None:
        """Write down when keys were last used. No change of keys: nobody has to look again."""
        if not uses:
            return
        later = or_(_keys.c.used_at.is_(None), _keys.c.used_at <= bindparam("at"))
        statement = (
            update(_keys)
            .where(_keys.c.id == bindparam("key"), later)
            .values(used_at=bindparam("at"), used_from=bindparam("peer"))
        )
        rows = [{"key": use.id, "at": use.at, "peer": use.peer} for use in uses]
        async with self._database.write() as connection:
            await connection.execute(statement, rows)


def _row(key: KeySpec) -> Mapping[str, Any]:
    limited = key.virtual_servers is not None
    return {
        "id": key.id,
        "tenant": key.tenant,
        "principal": key.principal,
        "digest": key.digest,
        "virtual_servers": msgspec.json.encode(key.virtual_servers).decode() if limited else None,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "bootstrap": key.bootstrap,
        "cidrs": msgspec.json.encode(key.cidrs).decode() if key.cidrs else None,
        "used_at": key.used_at,
        "used_from": key.used_from,
    }


def _spec(row: Row[Any]) -> KeySpec:
    servers = row.virtual_servers
    return KeySpec(
        id=row.id,
        tenant=row.tenant,
        principal=row.principal,
        digest=bytes(row.digest),
        virtual_servers=None if servers is None else tuple(msgspec.json.decode(servers)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        bootstrap=bool(row.bootstrap),
        cidrs=() if row.cidrs is None else tuple(msgspec.json.decode(row.cidrs)),
        used_at=row.used_at,
        used_from=row.used_from,
    )
