"""A process that runs children as the hub does, for tests that kill it.

``python -m tests.peers.child_parent COMMAND…`` starts the command as one child and writes a line of
JSON with the process ids of itself, the child and the watchdog. A line ``replace`` on standard input
kills the watchdog and writes the same once it was replaced.
"""

import asyncio
import json
import os
import signal
import sys

import anyio

from connectors.child import Child, ChildSpec
from connectors.child_groups import ChildGroups


async def run(command: tuple[str, ...]) -> None:
    """Until it is killed."""
    groups = ChildGroups(healthy_life_s=0.0)
    ready = anyio.Event()
    child = await Child.start(
        ChildSpec(command=command),
        groups,
        on_frame=lambda _: ready.set(),
        on_log=lambda _: None,
        on_end=lambda _: None,
    )
    await ready.wait()
    _tell(child, groups)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while await commands.readline() == b"replace\n":
        before = groups.guard_pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        while groups.guard_pid in {None, before}:  # noqa: ASYNC110 -- nothing announces it
            await anyio.sleep(0.01)
        _tell(child, groups)
    await anyio.sleep_forever()


def _tell(child: Child, groups: ChildGroups) -> None:
    pids = {"parent": os.getpid(), "child": child.pid, "guard": groups.guard_pid}
    sys.stdout.write(json.dumps(pids) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(tuple(sys.argv[1:])))
