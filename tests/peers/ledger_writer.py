"""Keeps a record and its ledger in a process of its own that can be killed.

``python -m tests.peers.ledger_writer DATA EVERY_S`` appends entries that cost something from many
tasks until it is killed and prints the id of each acknowledged call; the ledger follows every
``EVERY_S`` seconds.
"""

import sys
from itertools import count
from pathlib import Path

import anyio

from hub.audit.log import Segmentation
from hub.audit.recorder import Recorder, RecorderSettings
from hub.ledger.projection import Ledger
from hub.stores.database import open_database, sqlite_url
from hub.stores.ledger import LedgerStore
from tests.peers.record_writer import entry, now, recorder_in

TASKS = 16
COST = 2_000
BUDGET = "default/budget.month/principal:ci-bot"
SETTINGS = RecorderSettings(segmentation=Segmentation(segment_bytes=256 * 1024))


async def load(data: Path, every_s: float) -> None:
    async with open_database(sqlite_url(data)) as database:
        ledger = Ledger(LedgerStore(database), data / "record", now=now, every_s=every_s)
        async with (
            ledger.running(),
            recorder_in(data, settings=SETTINGS).running() as recorder,
            anyio.create_task_group() as tasks,
        ):
            for task in range(TASKS):
                tasks.start_soon(_call_on, recorder, task)


async def _call_on(recorder: Recorder, task: int) -> None:
    for number in count():
        call = f"call-{task}-{number}"
        recorder.reserve(call)
        await recorder.append(entry(call, cost=COST, currency="USD", charged=(BUDGET,)))
        sys.stdout.write(f"{call}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(load, Path(sys.argv[1]), float(sys.argv[2]))
