"""Keeps a record in a process of its own that can be killed, and says what was acknowledged.

``python -m tests.peers.record_writer load DATA [LEVEL]`` appends from many tasks until it is killed
and prints the id of each acknowledged call.

``python -m tests.peers.record_writer fill DATA [LARGEST_FILE]`` reserves until the record refuses, prints how many
calls are under way, then ends them all with the largest entries there are and prints their ids. A
line on standard input tells it that there is room again; it goes on and prints ``works again``.

``python -m tests.peers.record_writer starve DATA`` has calls under way when the disk breaks its word
and takes but a part of what they write; it prints ``kept ID`` or ``lost ID`` for each, and goes on.
"""

import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from hub.audit.log import Segmentation
from hub.audit.recorder import Recorder, RecorderSettings
from hub.audit.retention import due, remove, sign_for
from hub.domain.record import Entry, Level
from hub.errors import RecordUnavailable
from hub.vault.key_ring import load_or_create

TASKS = 32


def now() -> datetime:
    return datetime.now(UTC)


def recorder_in(data: Path, **options: Any) -> Recorder:
    """A recorder as the hub makes one, with the key ring of the data directory."""
    ring = load_or_create(data, now())
    options = {"now": now, **options}
    return Recorder(data / "record", signer=ring.signer(), digest_key=ring.digest_key, **options)


def entry(call: str, **fields: Any) -> Entry:
    """An entry like that of a tool call."""
    known = {
        "at": now(),
        "tenant": "default",
        "principal": "ci-bot",
        "surface": "mcp",
        "operation": "tools/call",
        "virtual_server": "dev",
        "target_kind": "tool",
        "target": "find_order",
        "upstream": "orders",
        "original": "get_order",
        "outcome": "ok",
        "duration_us": 1500,
    }
    return Entry(call=call, **{**known, **fields})


def retire(data: Path, before: datetime) -> int:
    """Remove what was sealed before a moment, as retention does; how many segments."""
    record, signer = data / "record", load_or_create(data, now()).signer()
    found = due(record, before, public_key=signer.public_key)
    sign_for(record, found, before, signer=signer, at=now())
    remove(found)
    return len(found)


async def load(data: Path, level: Level) -> None:
    settings = RecorderSettings(level=level, segmentation=Segmentation(segment_bytes=256 * 1024))
    async with (
        recorder_in(data, settings=settings).running() as recorder,
        anyio.create_task_group() as tasks,
    ):
        for task in range(TASKS):
            tasks.start_soon(_call_on, recorder, task)


async def _call_on(recorder: Recorder, task: int) -> None:
    for number in count():
        call = f"call-{task}-{number}"
        recorder.reserve(call)
        await recorder.append(entry(call))
        _say(call)


async def fill(data: Path, largest_file: int) -> None:
    _limit_files(largest_file)
    async with recorder_in(data).running() as recorder:
        reserved = list(_reserved_until_refused(recorder))
        _say(f"{len(reserved)} under way")
        async with anyio.create_task_group() as tasks:
            for call in reserved:
                tasks.start_soon(_end_largest, recorder, call)
        _say("all ended")
        await to_thread.run_sync(sys.stdin.readline)
        await _go_on(recorder)


async def starve(data: Path) -> None:
    async with recorder_in(data).running() as recorder:
        await recorder.append(entry("before"))
        (path,) = (data / "record").glob("*/000001.jsonl")
        written = len(path.read_bytes().rstrip(b"\0"))
        _limit_files(written + 5000)
        async with anyio.create_task_group() as tasks:
            for number in range(TASKS):
                tasks.start_soon(_end_if_possible, recorder, f"call-{number}")
        try:
            recorder.reserve("refused")
        except RecordUnavailable:
            _say("refuses")
        await _go_on(recorder)


async def _end_if_possible(recorder: Recorder, call: str) -> None:
    recorder.reserve(call)
    try:
        await recorder.append(entry(call))
    except RecordUnavailable:
        _say(f"lost {call}")
    else:
        _say(f"kept {call}")


async def _go_on(recorder: Recorder) -> None:
    _limit_files(resource.RLIM_INFINITY)
    await anyio.sleep(RecorderSettings().retry_s)  # so long a full disk is not asked again
    recorder.reserve("afterwards")
    await recorder.append(entry("afterwards"))
    _say("works again")


def _reserved_until_refused(recorder: Recorder) -> Iterator[str]:
    for number in count():
        call = f"call-{number}"
        try:
            recorder.reserve(call)
        except RecordUnavailable:
            return
        yield call


async def _end_largest(recorder: Recorder, call: str) -> None:
    # Each of these characters takes six bytes in JSON: nothing an entry can say is longer.
    longest = dict.fromkeys(("operation", "target", "original", "reason", "trace"), "\x01" * 9000)
    await recorder.append(entry(call, **longest))
    _say(call)


def _limit_files(size_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _main(mode: str, data: Path, *rest: str) -> None:
    if mode == "load":
        level: Level = "synced" if rest == ("synced",) else "written"
        anyio.run(load, data, level)
    elif mode == "fill":
        anyio.run(fill, data, int(rest[0]) if rest else resource.RLIM_INFINITY)
    else:
        anyio.run(starve, data)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
