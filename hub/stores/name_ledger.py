"""The name ledger: which capability an exposed name belongs to, for good."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.domain.catalog import CapabilityId, NameClaim
from hub.stores.database import Database
from hub.stores.epochs import exclude_others
from hub.stores.tables import ExposedName, index_key, table_of

_names = table_of(ExposedName)
_columns = (
    _names.c.virtual_server,
    _names.c.kind,
    _names.c.name_key,
    _names.c.name,
    _names.c.upstream,
    _names.c.original,
)
_CHUNK = 500

_Key = tuple[str, str, str]
"""Virtual server, kind, index key of the name."""


class StoredNameLedger:
    """Rows are added and never changed: an assigned name is never given to another capability."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, tenant: str) -> Sequence[NameClaim]:
        """Every row of a tenant."""
        statement = select(*_columns).where(_names.c.tenant == tenant)
        async with self._database.read() as connection:
            return [_claim(row) for row in await connection.execute(statement)]

    async def claim(self, tenant: str, claims: Sequence[NameClaim]) -> Sequence[NameClaim]:
        """Keep the claims on names that are free, in one transaction.

        Returns the rows now in force for the claimed names, in the order of ``claims``: one that
        was taken before, by whomever, comes back with its owner.
        """
        async with self._database.write() as connection:
            await exclude_others(connection)
            rows = await _find(connection, tenant, claims)
            new: dict[_Key, NameClaim] = {}
            for claim in claims:
                if _key(claim) not in rows:
                    new.setdefault(_key(claim), claim)
            if new:
                added = [_row(tenant, key, claim) for key, claim in new.items()]
                await connection.execute(insert(_names), added)
            return [(rows | new)[_key(claim)] for claim in claims]


async def _find(
    connection: AsyncConnection, tenant: str, claims: Sequence[NameClaim]
) -> dict[_Key, NameClaim]:
    keys = sorted({index_key(claim.name) for claim in claims})
    found: dict[_Key, NameClaim] = {}
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        statement = select(*_columns).where(_names.c.tenant == tenant, _names.c.name_key.in_(chunk))
        for row in await connection.execute(statement):
            found[row.virtual_server, row.kind, row.name_key] = _claim(row)
    return found


def _key(claim: NameClaim) -> _Key:
    return claim.virtual_server, claim.capability.kind, index_key(claim.name)


def _row(tenant: str, key: _Key, claim: NameClaim) -> dict[str, str | bytes]:
    return {
        "tenant": tenant,
        "virtual_server": key[0],
        "kind": key[1],
        "name_key": key[2],
        "name": claim.name.encode(errors="surrogatepass"),
        "upstream": claim.capability.upstream,
        "original": claim.capability.name.encode(errors="surrogatepass"),
    }


def _claim(row: Row[*tuple[Any, ...]]) -> NameClaim:
    return NameClaim(
        virtual_server=row.virtual_server,
        name=bytes(row.name).decode(errors="surrogatepass"),
        capability=CapabilityId(
            upstream=row.upstream,
            kind=row.kind,
            name=bytes(row.original).decode(errors="surrogatepass"),
        ),
    )
