"""A hub that is killed in the middle of its work keeps every record whose answer was seen."""

import json
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.peers.portico import PORTICO, portico, running_portico
from tests.peers.raw_caller import Caller, raw_caller
from tests.peers.running import modern_server

pytestmark = pytest.mark.anyio

CALLERS = 8
BEFORE_THE_KILL = 200


async def test_every_answer_that_was_seen_is_in_the_record_after_a_kill(tmp_path: Path) -> None:
    data = tmp_path / "data"
    seen: list[str] = []
    enough = anyio.Event()

    async def keep_calling(url: str) -> None:
        async with raw_caller(url) as caller:
            while True:
                try:
                    answer = await call(caller)
                except (OSError, EOFError):
                    return
                seen.append(answer["result"]["_meta"]["io.portico/call"])
                if len(seen) >= BEFORE_THE_KILL:
                    enough.set()

    with modern_server() as upstream:
        config = f'version: 1\nupstreams: {{peer: {{url: "{upstream.url}"}}}}\n'
        async with running_portico(data, config=config) as hub:
            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    for _ in range(CALLERS):
                        tasks.start_soon(keep_calling, hub.url)
                    await enough.wait()
                    hub.process.send_signal(signal.SIGKILL)
                await hub.process.wait()
    report = await portico("audit", "verify", data=data)
    assert report["intact"]
    exported = await anyio.run_process([
        PORTICO,
        "audit",
        "export",
        "--capability",
        "add",
        "--data",
        str(data),
    ])
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert set(seen) <= {line["entry"]["call"] for line in lines if "entry" in line}


async def call(caller: Caller) -> Any:
    return await caller.post("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}, "add")
