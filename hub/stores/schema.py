"""Which version of the schema a database has, and bringing it up to the one this program knows."""

import importlib
from typing import Final

from sqlalchemy import Connection, inspect, text

from hub.errors import DataDirectoryError

REVISIONS: Final = ("0001",)
"""Every revision in ``migrations/versions``, oldest first."""

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
    if not is_current(connection):
        # Alembic costs a tenth of a second to import, and is needed once in a schema's life.
        importlib.import_module("hub.stores.migrations").upgrade(connection)


def _revision(connection: Connection) -> str | None:
    """The revision that the database says it has; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])
