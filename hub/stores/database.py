"""The database connection: SQLite (WAL) in the data directory, or PostgreSQL by URL."""

import importlib.util
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import sleep
from typing import Any, Final

import anyio
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hub.errors import ConfigurationError, DataDirectoryError, StoreUnavailableError
from hub.stores.schema import is_current, migrate

_WRITES: Final = "portico_writes"
_CONNECT_TIMEOUT_S: Final = 5.0
_STATEMENT_TIMEOUT_S: Final = 30.0
_DRIVER_OPTIONS: Final = {"sslmode": "ssl", "ssl": "ssl", "host": "host", "port": "port"}
_SQLITE_BUSY_MS: Final = 5_000
_DAMAGED: Final = "The database file is damaged or is none."
_WAL_ATTEMPTS: Final = 250
_WAL_PAUSE_S: Final = 0.02


class Database:
    """An open database. Every store takes one; it is safe for concurrent use."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        """For observers that count statements; stores go through :meth:`read` and :meth:`write`."""

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for queries. Raises StoreUnavailableError."""
        async with _errors_named(), self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end, rolled back by an exception.

        Whoever is cancelled in it is cancelled when it is over: SQLite's driver would leave one
        open, and its lock with it. Raises StoreUnavailableError.
        """
        with anyio.CancelScope(shield=True):
            async with _errors_named(), self.engine.connect() as connection:
                await connection.execution_options(**{_WRITES: True})
                async with connection.begin():
                    yield connection


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at ``url``, its schema brought up to date; closed at the end.

    ``url`` is ``sqlite:///PATH`` or ``postgresql://user:password@host:port/name``. Raises
    ConfigurationError for another URL, DataDirectoryError when the schema is newer than this
    program or the file is no database, StoreUnavailableError when nobody answers.
    """
    engine = _engine(_parsed(url))
    try:
        database = Database(engine)
        async with database.read() as connection:
            current = await connection.run_sync(is_current)
        if not current:
            async with database.write() as connection:
                await connection.run_sync(migrate)
        yield database
    finally:
        await engine.dispose()


def sqlite_url(data: Path) -> str:
    """The URL of the embedded database in a data directory."""
    return URL.create("sqlite", database=str(data / "portico.db")).render_as_string()


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError("'store.url' is not a database URL.") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database:
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        if importlib.util.find_spec("asyncpg") is None:
            raise ConfigurationError(
                "PostgreSQL needs its driver: pip install 'portico[postgresql]'."
            )
        return _for_asyncpg(parsed)
    raise ConfigurationError(
        "'store.url' must be postgresql://user@host/database or sqlite:///path."
    )


def _for_asyncpg(url: URL) -> URL:
    """The driver's name for ``sslmode``; what it would not understand is refused."""
    query = {_DRIVER_OPTIONS.get(name, ""): value for name, value in url.query.items()}
    if "" in query:
        known = ", ".join(_DRIVER_OPTIONS)
        raise ConfigurationError(f"'store.url' may have these options only: {known}.")
    return url.set(drivername="postgresql+asyncpg", query=query)


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        _prepare_file(Path(str(url.database)))
        engine = create_async_engine(url, pool_size=3, max_overflow=0)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    return create_async_engine(
        url,
        pool_size=5,
        max_overflow=5,
        pool_timeout=_CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={
            "timeout": _CONNECT_TIMEOUT_S,
            "command_timeout": _STATEMENT_TIMEOUT_S,
            "server_settings": {"application_name": "portico"},
        },
    )


def _prepare_file(path: Path) -> None:
    """Create the file with mode 0600, as SQLite then does for its companions, and in WAL mode.

    The mode lasts. Changing it is refused at once while others open the file, whatever the busy
    timeout says, so it is tried again here and not by each connection.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise DataDirectoryError(f"{path} cannot be opened: {error.strerror}.") from error
    with closing(sqlite3.connect(path, timeout=_SQLITE_BUSY_MS / 1000)) as connection:
        for attempt in range(_WAL_ATTEMPTS):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if attempt == _WAL_ATTEMPTS - 1:
                    raise DataDirectoryError(f"{path} cannot be opened: {error}.") from error
                sleep(_WAL_PAUSE_S)
            except sqlite3.DatabaseError as error:
                raise DataDirectoryError(_DAMAGED) from error
            else:
                return


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Begin transactions ourselves (the driver would at odd moments), and set what lasts."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_SQLITE_BUSY_MS}",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    """A writer takes its lock at once: one that asks later can be refused for what it has read."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@asynccontextmanager
async def _errors_named() -> AsyncIterator[None]:
    try:
        yield
    except DBAPIError as error:
        if "is not a database" in str(error.orig) or "malformed" in str(error.orig):
            raise DataDirectoryError(_DAMAGED) from error
        raise StoreUnavailableError(f"The database failed: {type(error.orig).__name__}.") from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        message = f"The database cannot be reached: {type(error).__name__}."
        raise StoreUnavailableError(message) from error
