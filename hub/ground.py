"""What everything stands on: settings, data directory, database, keys, record, tasks, secrets."""

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from hub.administration.desk import rfc3339
from hub.audit.recorder import Recorder, RecorderSettings
from hub.config.models import PorticoFile
from hub.config.references import resolve
from hub.data_directory import DataDirectory, held, is_ephemeral
from hub.domain.record import Level
from hub.ledger.projection import Ledger
from hub.stores.chain_lines import ChainLineStore
from hub.stores.database import Database, open_database, sqlite_url
from hub.stores.ledger import LedgerStore
from hub.telemetry.logs import Redaction
from hub.vault.key_ring import KeyRing, load_or_create


class Settings(Struct, frozen=True, kw_only=True):
    """What a process is started with."""

    data: Path
    file: PorticoFile = PorticoFile(version=1)
    """The configuration file as it was at the start, or its defaults."""
    store_url: str | None = None
    """Where state is kept; None: ``PORTICO_STORE_URL``, else SQLite in the data directory."""


def utc_now() -> datetime:
    """The clock that everything is given."""
    return datetime.now(UTC)


class Ground(Struct, frozen=True, kw_only=True):
    """What everything stands on."""

    now: Callable[[], datetime]
    directory: DataDirectory
    database: Database
    ring: KeyRing
    recorder: Recorder
    ledger: Ledger
    tasks: TaskGroup
    """Runs what outlives a call; nothing in it raises."""
    secret: Callable[[str], str]


async def ground_of(stack: AsyncExitStack, settings: Settings, redaction: Redaction) -> Ground:
    """The ground, held until ``stack`` is closed. Raises PorticoError for what cannot be used."""
    directory = stack.enter_context(held(settings.data, now=rfc3339(utc_now())))
    ring = load_or_create(directory.path, utc_now())
    given = settings.store_url or os.environ.get("PORTICO_STORE_URL")
    url = given or sqlite_url(directory.path)
    database = await stack.enter_async_context(open_database(url))
    ledger = Ledger(LedgerStore(database), directory.record, now=utc_now)
    await stack.enter_async_context(ledger.running())
    level = settings.file.record.level or _level(database, directory)
    recorder = Recorder(
        directory.record,
        signer=ring.signer(),
        digest_key=ring.digest_key,
        now=utc_now,
        settings=RecorderSettings(level=level),
        store=ChainLineStore(database).keep if level == "stored" else None,
    )
    await stack.enter_async_context(recorder.running())
    tasks = await stack.enter_async_context(anyio.create_task_group())

    def secret(value: str) -> str:
        resolved = resolve(value, os.environ)
        if resolved != value:
            redaction.hide(resolved)
            redaction.hide(resolved.rpartition(" ")[2])  # of "Bearer x", the x alone as well
        return resolved

    return Ground(
        now=utc_now,
        directory=directory,
        database=database,
        ring=ring,
        recorder=recorder,
        ledger=ledger,
        tasks=tasks,
        secret=secret,
    )


def _level(database: Database, directory: DataDirectory) -> Level:
    """Where the disk goes with the machine, the database is what keeps the record."""
    lost = database.dialect == "postgresql" and is_ephemeral(directory.path)
    return "stored" if lost else "written"
