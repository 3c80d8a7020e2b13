"""Which version of the schema a database has, and bringing it up to the one this program knows."""

import importlib
from typing import Final

from sqlalchemy import Connection, inspect, text

from hub.errors import DataDirectoryError
from hub.stores.tables import METADATA, EpochRow, table_of

REVISIONS: Final = ("0001", "0002")
"""Every revision in ``migrations/versions``, oldest first."""

_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
    " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
_LOCK: Final = 0x706F7274
"""Key of the advisory lock on PostgreSQL; the letters 'port'."""


def is_current(connection: Connection) -> bool:
    """Whether the newest revision is there; costs one query where it is.

    Raises DataDirectoryError when the schema is one that this program does not know.
    """
    revision = _revision(connection)
    if revision is not None and revision not in REVISIONS:
        raise DataDirectoryError(
            f"The database has schema {revision}, made by a newer Portico; "
            f"this one knows up to {REVISIONS[-1]}. Start the newer program, or restore a backup."
        )
    return revision == REVISIONS[-1]


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest revision, within the transaction of ``connection``.

    Of several processes that start at once, one does it. Raises as :func:`is_current`.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if _revision(connection) is None:
        _create(connection)
    elif not is_current(connection):
        # Alembic costs half a second and 12 MB, and is needed once in a schema's life.
        importlib.import_module("hub.stores.migrations").upgrade(connection)


def _create(connection: Connection) -> None:
    """What all migrations together make of an empty database, as Alembic would leave it."""
    METADATA.create_all(connection)
    epoch = table_of(EpochRow).insert().values(id=1, configuration=0, keys=0, listings=0)
    connection.execute(epoch)
    connection.execute(text(_VERSION_TABLE))
    newest = {"revision": REVISIONS[-1]}
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), newest)


def _revision(connection: Connection) -> str | None:
    """The revision that the database says it has; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])
