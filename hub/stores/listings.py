"""The last known good listing of each upstream, so that lists are there before upstreams are."""

import msgspec
from msgspec.structs import replace
from sqlalchemy import delete, insert, select, update

from hub.domain.catalog import UpstreamListing
from hub.stores.database import Database
from hub.stores.epochs import advance, exclude_others
from hub.stores.tables import StoredListing, table_of

_listings = table_of(StoredListing)
_decoder = msgspec.json.Decoder(UpstreamListing)


class ListingStore:
    """Listings of all tenants' upstreams, every definition byte for byte as it was received."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, tenant: str) -> tuple[UpstreamListing, ...]:
        """Every listing of a tenant, sorted by upstream."""
        statement = (
            select(_listings.c.document, _listings.c.listed_at)
            .where(_listings.c.tenant == tenant)
            .order_by(_listings.c.upstream)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        return tuple(replace(_decoder.decode(row[0]), listed_at=row[1]) for row in rows)

    async def save(self, tenant: str, listing: UpstreamListing) -> bool:
        """Keep a listing; True when it says something else than the one before.

        Only then other replicas are made to look.
        """
        document = msgspec.json.encode(replace(listing, listed_at=""))
        here = (_listings.c.tenant == tenant) & (_listings.c.upstream == listing.upstream)
        async with self._database.write() as connection:
            await exclude_others(connection)
            known = await connection.scalar(select(_listings.c.document).where(here))
            if known is not None and bytes(known) == document:
                statement = update(_listings).where(here).values(listed_at=listing.listed_at)
                await connection.execute(statement)
                return False
            await advance(connection, "listings")
            await connection.execute(delete(_listings).where(here))
            row = {
                "tenant": tenant,
                "upstream": listing.upstream,
                "document": document,
                "listed_at": listing.listed_at,
            }
            await connection.execute(insert(_listings), [row])
            return True

    async def forget(self, tenant: str, upstream: str) -> None:
        """Drop the listing of an upstream that is no more."""
        here = (_listings.c.tenant == tenant) & (_listings.c.upstream == upstream)
        async with self._database.write() as connection:
            await advance(connection, "listings")
            await connection.execute(delete(_listings).where(here))
