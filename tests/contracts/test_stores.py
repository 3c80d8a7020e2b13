"""The store contract on SQLite and on a real PostgreSQL, and what only one of them can do."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from hub.domain.desired import UpstreamSpec
from hub.domain.record import ChainLine
from hub.errors import (
    ConfigurationError,
    DataDirectoryError,
    RecordUnavailable,
    StoreUnavailableError,
)
from hub.stores.chain_lines import ChainLineStore
from hub.stores.database import open_database, sqlite_url
from hub.stores.epochs import Epoch, Epochs
from hub.stores.keys import KeyStore
from hub.stores.objects import Change, ObjectStore
from tests.contracts.store_suite import NOW, StoreSuite, a_key
from tests.peers.postgresql import PostgreSQL, running_postgresql


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with running_postgresql() as server:
        yield server


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


class TestSqlite(StoreSuite):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return sqlite_url(tmp_path)

    async def test_its_files_are_private_and_in_wal_mode(self, tmp_path: Path) -> None:
        async with open_database(sqlite_url(tmp_path)) as database:
            await KeyStore(database).add(a_key("key-1"))
            modes = modes_in(tmp_path)
        assert modes == dict.fromkeys(("portico.db", "portico.db-shm", "portico.db-wal"), 0o600)

    async def test_readers_are_not_held_up_by_a_writer(self, url: str) -> None:
        async with open_database(url) as database:
            store = ObjectStore(database)
            async with database.write():
                with anyio.fail_after(2):
                    assert (await store.load("default")).objects == {}

    async def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "portico.db").write_bytes(b"not a database, but long enough for one " * 100)
        with pytest.raises(DataDirectoryError, match="damaged"):
            async with open_database(sqlite_url(tmp_path)):
                pass

    async def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataDirectoryError, match="No such file"):
            async with open_database(sqlite_url(tmp_path / "nowhere")):
                pass

    def test_no_start_but_an_upgrade_loads_the_migration_tool(self, url: str) -> None:
        program = (
            "import sys, anyio\n"
            "from hub.stores.database import open_database\n"
            "async def main():\n"
            "    async with open_database(sys.argv[1]):\n"
            "        print('alembic' in sys.modules)\n"
            "anyio.run(main)\n"
        )
        for _ in range(2):
            run = subprocess.run(
                [sys.executable, "-c", program, url],
                check=True,
                capture_output=True,
                encoding="utf-8",
            )
            assert run.stdout == "False\n"


class TestPostgresql(StoreSuite):
    @pytest.fixture
    def url(self, postgresql: PostgreSQL) -> str:
        return postgresql.new_database()

    async def test_urls_as_they_are_usually_written_are_taken(self, url: str) -> None:
        usual = url.replace("postgresql://", "postgres://") + "?sslmode=disable"
        async with open_database(usual) as database:
            assert database.dialect == "postgresql"
        with pytest.raises(ConfigurationError, match="these options only: sslmode"):
            async with open_database(f"{url}?sslmod=disable"):
                pass

    async def test_an_outage_is_named_and_lived_through(self, postgresql: PostgreSQL) -> None:
        spec = UpstreamSpec(name="u", url="https://u.example/mcp")
        async with open_database(postgresql.new_database()) as database:
            store = ObjectStore(database)
            changes = Epochs(database).changes(0.05)
            assert await anext(changes) == Epoch()
            postgresql.stop()
            try:
                with pytest.raises(StoreUnavailableError, match="database"):
                    await store.load("default")
                with pytest.raises(RecordUnavailable, match="database"):
                    await ChainLineStore(database).keep([ChainLine("w", 0, "open", b"{}")])
            finally:
                postgresql.start()
            await store.change("default", Change(put=(spec,), at=NOW))
            with anyio.fail_after(10):
                assert await anext(changes) == Epoch(configuration=1)
            await changes.aclose()


async def test_a_database_that_nobody_serves_is_named_without_its_password(
    free_port: Callable[[], int],
) -> None:
    url = f"postgresql://portico:hunter2@127.0.0.1:{free_port()}/portico"
    with pytest.raises(StoreUnavailableError) as raised:
        async with open_database(url):
            pass
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["", "portico.db", "mysql://x/y", "sqlite://", "postgresql:5:5:x"])
async def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"store\.url"):
        async with open_database(url):
            pass
