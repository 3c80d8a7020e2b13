"""What every database that Portico keeps its state in must do, whatever it is."""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from msgspec import Raw
from msgspec.structs import replace
from sqlalchemy import Connection, text

from connectors.protocol import Listing, ServerIdentity
from hub.catalog.names import NameLedger
from hub.domain.catalog import CapabilityId, NameClaim, UpstreamListing
from hub.domain.desired import (
    ArgumentRule,
    GrantSpec,
    GroupSpec,
    Include,
    KeySpec,
    Override,
    PrincipalSpec,
    UpstreamSpec,
    VirtualServerSpec,
)
from hub.domain.record import ChainLine
from hub.errors import (
    ConflictError,
    DataDirectoryError,
    NotFoundError,
    StoreUnavailableError,
)
from hub.stores.chain_lines import ChainLineStore
from hub.stores.database import Database, open_database
from hub.stores.documents import Spec
from hub.stores.epochs import Epoch, Epochs
from hub.stores.keys import KeyStore
from hub.stores.listings import ListingStore
from hub.stores.migrations import configuration, upgrade
from hub.stores.name_ledger import StoredNameLedger
from hub.stores.objects import Change, ObjectStore
from hub.stores.schema import REVISIONS
from hub.stores.tables import METADATA

NOW = "2026-11-21T09:30:00.000Z"

ODD_NAMES = (
    "plain",
    "file:///a b/ü",
    "nul\0inside",
    "half a pair \ud800",
    "x" * 5_000,
    "x" * 5_001,
    "sha256:" + "0" * 64,
)

OBJECTS: tuple[Spec, ...] = (
    UpstreamSpec(
        name="files",
        command=("npx", "-y", "server"),
        env={"B": "2", "A": "env:A"},
        max_children=2,
        source="file",
    ),
    UpstreamSpec(name="orders", url="https://orders.example/mcp", guarded=True),
    PrincipalSpec(name="alice", roles=("auditor", "viewer"), groups=("engineers",)),
    GroupSpec(name="engineers", members=("bob",)),
    VirtualServerSpec(
        name="dev",
        title="Ünïcode \U0001f680",
        include=(
            Include(
                upstream="orders",
                tools=("get_*",),
                where={"readOnlyHint": True},
                override={
                    "get_order": Override(
                        name="find",
                        annotations={"title": Raw(b'"t"'), "x": Raw(b"null")},
                        arguments={
                            "nothing": ArgumentRule(fix=Raw(b"null")),
                            "big": ArgumentRule(default=Raw(b"123456789012345678901234567890")),
                            "deep": ArgumentRule(fix=Raw(b'{"z":[1,2.5,"\\u0000"],"a":{}}')),
                            "gone": ArgumentRule(hide=True, description="d"),
                        },
                    )
                },
            ),
        ),
        source="file",
    ),
    GrantSpec(
        virtual_server="dev", group="engineers", tools=tuple(f"tool_{n}" for n in range(900))
    ),
    GrantSpec(virtual_server="dev", principal="alice", tools=()),
)


def a_key(key_id: str, tenant: str = "default", digest: bytes = b"") -> KeySpec:
    return KeySpec(
        id=key_id,
        tenant=tenant,
        principal="alice",
        digest=digest or key_id.encode().ljust(32, b"\0"),
        virtual_servers=("dev",),
        created_at=NOW,
    )


def a_listing(tool: bytes, listed_at: str = NOW) -> UpstreamListing:
    return UpstreamListing(
        upstream="files",
        identity=ServerIdentity(revisions=("2026-07-28",), name="s", transport="stdio"),
        listing=Listing(tools=(Raw(tool),), ttl_ms=5, public=True),
        listed_at=listed_at,
    )


def a_claim(name: str, upstream: str, original: str = "read") -> NameClaim:
    return NameClaim("dev", name, CapabilityId(upstream=upstream, kind="tool", name=original))


OPENS: Final = """
import asyncio, sys
from hub.stores.database import open_database
from hub.stores.epochs import Epoch, Epochs

async def main():
    async with open_database(sys.argv[1]) as database:
        assert await Epochs(database).read() == Epoch()

asyncio.run(main())
"""
"""A program that opens a database, migrates it where needed, and finds it empty."""


def differences(connection: Connection) -> object:
    """What sets the tables of a database apart from the declared ones, as migrations see it."""
    script = ScriptDirectory.from_config(configuration(connection))
    assert script.get_heads() == [REVISIONS[-1]]
    known = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(known)) == REVISIONS
    return compare_metadata(MigrationContext.configure(connection), METADATA)


class StoreSuite:
    """The contract; each subclass has a fixture ``url`` for an empty database."""

    @pytest.fixture
    async def database(self, url: str) -> AsyncIterator[Database]:
        async with open_database(url) as database:
            yield database

    async def test_objects_come_back_as_they_were_put(self, database: Database) -> None:
        store = ObjectStore(database)
        change = Change(put=OBJECTS, origin="/etc/portico.yaml", at=NOW)
        revision = await store.change("default", change)
        stored = await store.load("default")
        assert stored.revision == revision
        assert {item.spec.name: item.spec for item in stored.objects.values()} == {
            spec.name: spec for spec in OBJECTS
        }
        assert stored.objects["upstream", "files"].origin == "/etc/portico.yaml"
        assert stored.objects["upstream", "orders"].origin == ""
        assert {item.changed_at for item in stored.objects.values()} == {NOW}
        assert [spec.name for spec in stored.desired.upstreams] == ["files", "orders"]
        assert stored.desired.memberships() == {
            "alice": frozenset(("engineers",)),
            "bob": frozenset(("engineers",)),
        }

    async def test_an_object_is_replaced_and_removed_by_name(self, database: Database) -> None:
        store = ObjectStore(database)
        await store.change("default", Change(put=OBJECTS, at=NOW))
        other = UpstreamSpec(name="orders", url="https://other.example/mcp")
        long_name = OBJECTS[5].name
        await store.change(
            "default",
            Change(put=(other,), remove=(("upstream", "files"), ("grant", long_name)), at=NOW),
        )
        desired = (await store.load("default")).desired
        assert desired.upstreams == (other,)
        assert [grant.principal for grant in desired.grants] == ["alice"]

    async def test_a_file_owned_object_that_was_altered_is_seen(self, database: Database) -> None:
        store = ObjectStore(database)
        await store.change("default", Change(put=OBJECTS[:2], origin="f", at=NOW))
        async with database.write() as connection:
            await connection.execute(
                text("UPDATE configured_object SET document = replace(document, 'npx', 'bash')")
            )
        stored = await store.load("default")
        assert stored.objects["upstream", "files"].drifted
        assert not stored.objects["upstream", "orders"].drifted

    async def test_tenants_do_not_see_each_other(self, database: Database) -> None:
        store = ObjectStore(database)
        await store.change("one", Change(put=OBJECTS[:1], at=NOW))
        await store.change("two", Change(put=OBJECTS[1:2], at=NOW))
        await store.change("two", Change(remove=(("upstream", "files"),), at=NOW))
        assert [spec.name for spec in (await store.load("one")).desired.upstreams] == ["files"]
        assert [spec.name for spec in (await store.load("two")).desired.upstreams] == ["orders"]
        assert await store.tenants() == ("one", "two")
        assert (await store.load("three")).objects == {}

    async def test_a_change_to_a_stale_revision_changes_nothing(self, database: Database) -> None:
        store = ObjectStore(database)
        first = await store.change("default", Change(put=OBJECTS[:1], at=NOW))
        second = await store.change("default", Change(put=OBJECTS[1:2], at=NOW), expected=first)
        gone = Change(remove=(("upstream", "files"),), at=NOW)
        with pytest.raises(ConflictError, match="meantime"):
            await store.change("default", gone, expected=first)
        stored = await store.load("default")
        assert stored.revision == second == first + 1
        assert len(stored.objects) == 2

    async def test_a_change_that_fails_half_way_changes_nothing(self, database: Database) -> None:
        store = ObjectStore(database)
        revision = await store.change("default", Change(put=OBJECTS[:1], at=NOW))
        twice = Change(remove=(("upstream", "files"),), put=(OBJECTS[1], OBJECTS[1]), at=NOW)
        with pytest.raises(StoreUnavailableError):
            await store.change("default", twice)
        stored = await store.load("default")
        assert (stored.revision, list(stored.objects)) == (revision, [("upstream", "files")])

    async def test_of_several_writers_with_one_revision_one_wins(self, database: Database) -> None:
        store = ObjectStore(database)
        outcomes: list[str] = []

        async def write(number: int) -> None:
            spec = UpstreamSpec(name=f"u{number}", url="https://u.example/mcp")
            try:
                await store.change("default", Change(put=(spec,), at=NOW), expected=0)
                outcomes.append(spec.name)
            except ConflictError:
                outcomes.append("conflict")

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(write, number)
        assert outcomes.count("conflict") == 5
        stored = await store.load("default")
        assert stored.revision == 1
        assert stored.desired.upstreams[0].name in outcomes

    async def test_writers_without_a_revision_all_get_through(self, database: Database) -> None:
        store = ObjectStore(database)

        async def write(number: int) -> None:
            spec = UpstreamSpec(name=f"u{number}", url="https://u.example/mcp")
            await store.change("default", Change(put=(spec,), at=NOW))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(12):
                    tasks.start_soon(write, number)
        stored = await store.load("default")
        assert (stored.revision, len(stored.objects)) == (12, 12)

    async def test_keys_are_known_by_digest_and_end_when_told(self, database: Database) -> None:
        store = KeyStore(database)
        one = a_key("key-1")
        other = replace(a_key("key-2", "acme"), virtual_servers=None, bootstrap=True)
        await store.add(one)
        await store.add(other)
        assert await store.list("default") == (one,)
        assert await store.list() == (one, other)
        await store.limit("default", "key-1", expires_at="2027", revoked_at=NOW)
        assert await store.get("default", "key-1") == replace(
            one, expires_at="2027", revoked_at=NOW
        )
        for tenant, key_id in (("default", "key-2"), ("default", "key-3")):
            with pytest.raises(NotFoundError):
                await store.get(tenant, key_id)
            with pytest.raises(NotFoundError):
                await store.limit(tenant, key_id, expires_at=None, revoked_at=NOW)

    async def test_no_digest_is_kept_twice(self, database: Database) -> None:
        store = KeyStore(database)
        await store.add(a_key("key-1", digest=b"d" * 32))
        with pytest.raises(StoreUnavailableError):
            await store.add(a_key("key-2", digest=b"d" * 32))
        assert len(await store.list()) == 1

    async def test_listings_keep_every_byte(self, database: Database) -> None:
        store = ListingStore(database)
        odd = b'{"name":"\\u0000","x":1e400,"n":12345678901234567890123,"y":null}'
        assert await store.save("default", a_listing(odd))
        (listing,) = await store.load("default")
        assert bytes(listing.listing.tools[0]) == odd
        assert listing.listed_at == NOW
        assert listing.identity.name == "s"
        assert (listing.listing.ttl_ms, listing.listing.public) == (5, True)
        assert await store.load("acme") == ()

    async def test_only_a_listing_that_says_something_new_is_news(self, database: Database) -> None:
        store, epochs = ListingStore(database), Epochs(database)
        assert await store.save("default", a_listing(b'{"name":"a"}'))
        before = await epochs.read()
        assert not await store.save("default", a_listing(b'{"name":"a"}', "later"))
        assert await epochs.read() == before
        assert (await store.load("default"))[0].listed_at == "later"
        assert await store.save("default", a_listing(b'{"name":"b"}'))
        await store.forget("default", "files")
        assert await store.load("default") == ()
        assert (await epochs.read()).listings == before.listings + 2

    async def test_a_name_belongs_to_whoever_came_first(self, database: Database) -> None:
        ledger: NameLedger = StoredNameLedger(database)
        mine, theirs = a_claim("read", "files"), a_claim("read", "other")
        assert list(await ledger.claim("default", [mine])) == [mine]
        assert list(await ledger.claim("default", [theirs, mine])) == [mine, mine]
        elsewhere = [replace(theirs, virtual_server="ops"), a_claim("Read", "other")]
        assert list(await ledger.claim("default", elsewhere)) == elsewhere
        assert list(await ledger.claim("acme", [theirs])) == [theirs]
        assert set(await ledger.load("default")) == {mine, *elsewhere}
        assert await ledger.claim("default", []) == []

    async def test_names_of_any_length_and_content_are_kept_apart(self, database: Database) -> None:
        ledger = StoredNameLedger(database)
        claims = [
            NameClaim("dev", name, CapabilityId(upstream="files", kind="resource", name=name))
            for name in ODD_NAMES
        ]
        assert list(await ledger.claim("default", claims)) == claims
        assert set(await ledger.load("default")) == set(claims)

    async def test_replicas_that_claim_a_name_at_once_agree(self, database: Database) -> None:
        ledger = StoredNameLedger(database)
        answers: list[NameClaim] = []

        async def claim(number: int) -> None:
            many = [a_claim(f"n{n}", f"u{number}") for n in range(20)]
            answers.extend(await ledger.claim("default", many))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(claim, number)
        assert len(answers) == 100
        assert len(set(answers)) == 20
        assert set(await ledger.load("default")) == set(answers)

    async def test_lines_of_the_record_are_kept_once_and_in_order(self, database: Database) -> None:
        store = ChainLineStore(database)
        lines = [ChainLine("w", n, "entry", b'{"n":%d,"x":"\\u0000"}' % n) for n in range(5)]
        await store.keep(lines[:3])
        await store.keep([*lines[1:], ChainLine("v", 0, "open", b"{}")])
        await store.keep([ChainLine("w", 0, "entry", b"forged")])
        assert await store.read("w") == lines
        assert await store.read("w", after=1, limit=2) == lines[2:4]
        assert await store.writers() == ("v", "w")
        await store.keep([])

    async def test_every_change_counts_up_what_it_changed(self, database: Database) -> None:
        epochs = Epochs(database)
        assert await epochs.read() == Epoch()
        await ObjectStore(database).change("default", Change(put=OBJECTS[:1], at=NOW))
        await KeyStore(database).add(a_key("key-1"))
        await KeyStore(database).limit("default", "key-1", expires_at=None, revoked_at=NOW)
        await ListingStore(database).save("default", a_listing(b"{}"))
        epoch = await epochs.read()
        assert epoch == Epoch(configuration=1, keys=2, listings=1)
        assert epoch.revocation == 3

    async def test_another_process_notices_a_change(self, url: str, database: Database) -> None:
        """Both sides have a database connection of their own, as two replicas have."""
        async with open_database(url) as other:
            changes = Epochs(other).changes(0.05)
            with anyio.fail_after(10):
                assert await anext(changes) == Epoch()
                await KeyStore(database).add(a_key("key-1"))
                assert await anext(changes) == Epoch(keys=1)
            await changes.aclose()

    async def test_opening_again_finds_what_was_there(self, url: str) -> None:
        async with open_database(url) as database:
            await KeyStore(database).add(a_key("key-1"))
        async with open_database(url) as database:
            assert len(await KeyStore(database).list()) == 1

    async def test_several_processes_may_open_an_empty_database_at_once(self, url: str) -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(anyio.run_process, [sys.executable, "-c", OPENS, url])

    async def test_a_newer_schema_is_refused(self, url: str) -> None:
        async with open_database(url) as database, database.write() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(DataDirectoryError, match="schema 9999, made by a newer Portico"):
            async with open_database(url):
                pass

    async def test_a_new_database_has_exactly_the_declared_tables(self, database: Database) -> None:
        async with database.read() as connection:
            assert await connection.run_sync(differences) == []

    async def test_migrations_make_what_a_new_database_has(self, url: str) -> None:
        async with open_database(url) as database, database.write() as connection:
            await connection.run_sync(METADATA.drop_all)
            await connection.execute(text("DROP TABLE alembic_version"))
            await connection.run_sync(upgrade)
        async with open_database(url) as database:
            changes = Epochs(database).changes(0.05)
            assert await anext(changes) == Epoch()
            await changes.aclose()
            async with database.read() as connection:
                assert await connection.run_sync(differences) == []

    async def test_times_sort_as_text(self, database: Database) -> None:
        store = KeyStore(database)
        for hour in (9, 10, 8):
            at = datetime(2026, 11, 21, hour, tzinfo=UTC).isoformat()
            await store.add(replace(a_key(f"key-{hour}"), created_at=at))
        assert [key.id for key in await store.list()] == ["key-8", "key-9", "key-10"]
