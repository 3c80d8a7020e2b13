"""Children of stdio upstreams: what they inherit, how they end, and that nothing survives the hub."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio
import psutil
import pytest

from connectors.child import Child, ChildSpec
from connectors.child_groups import ChildGroups
from connectors.child_lines import MAX_FRAME_BYTES, Tail
from connectors.errors import Misconfigured

ROOT = Path(__file__).parents[2]

NESTED = """
sleep 1000 & echo leaf >/dev/null
sh -c 'sleep 1000 & sh -c "sleep 1000 & echo ready; wait" ; wait' &
wait
"""
"""As npx does: a shell whose children have children; four processes sleep or wait below it."""

STUBBORN = """
trap '' TERM INT HUP
sh -c 'trap "" TERM INT HUP; echo ready; while :; do sleep 1; done' &
while :; do sleep 1; done
"""


@dataclass
class Parent:
    process: "subprocess.Popen[str]"
    child: int
    guard: int

    @property
    def output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def tree(self) -> list[psutil.Process]:
        """Everything it started, the watchdog included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def replace_guard(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("replace\n")
        self.process.stdin.flush()
        self.guard = json.loads(self.output.readline())["guard"]


@contextmanager
def parent_of(script: str) -> Iterator[Parent]:
    """A real process that runs ``sh -c script`` the way the hub runs a child."""
    command = [sys.executable, "-m", "tests.peers.child_parent", "sh", "-c", script]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            yield Parent(process, told["child"], told["guard"])
        finally:
            process.kill()


def is_gone(process: psutil.Process) -> bool:
    """Ended; an orphan may stay a zombie where the container's first process reaps nothing."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def all_gone(processes: list[psutil.Process]) -> None:
    with anyio.fail_after(5):
        while not all(map(is_gone, processes)):  # noqa: ASYNC110 -- orphans announce nothing
            await anyio.sleep(0.01)


async def test_killing_the_hub_ends_children_and_their_children_and_the_watchdog() -> None:
    with parent_of(NESTED) as parent:
        tree = parent.tree()
        assert len(tree) >= 6
        parent.process.kill()
        await all_gone(tree)


async def test_children_that_ignore_signals_end_as_well() -> None:
    with parent_of(STUBBORN) as parent:
        tree = parent.tree()
        parent.process.kill()
        await all_gone(tree)


async def test_signals_to_the_foreground_group_do_not_end_the_watchdog() -> None:
    with parent_of(NESTED) as parent:
        tree = parent.tree()
        assert os.getpgid(parent.guard) != os.getpgid(parent.process.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(parent.guard, number)
        os.killpg(parent.process.pid, signal.SIGTERM)
        await all_gone(tree)


async def test_a_watchdog_that_was_killed_is_replaced_and_knows_the_children() -> None:
    with parent_of(NESTED) as parent:
        before = parent.guard
        parent.replace_guard()
        assert parent.guard != before
        tree = parent.tree()
        parent.process.kill()
        await all_gone(tree)


class Heard:
    """What a child said, and that it ended."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.log = Tail()
        self.ends: list[str] = []
        self._changed = anyio.Event()

    def frame(self, frame: bytes) -> None:
        self.frames.append(frame)
        self._changed.set()

    def end(self, reason: str) -> None:
        self.ends.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(5):
            while not condition():
                await self._changed.wait()
                self._changed = anyio.Event()


@pytest.fixture
async def groups() -> AsyncIterator[ChildGroups]:
    groups = ChildGroups()
    yield groups
    await groups.close()
    assert groups.guard_pid is None


async def start(groups: ChildGroups, heard: Heard, *command: str, **environment: str) -> Child:
    spec = ChildSpec(command=command, environment=environment)
    return await Child.start(
        spec, groups, on_frame=heard.frame, on_log=heard.log.add, on_end=heard.end
    )


async def test_a_child_inherits_three_variables_and_gets_its_own(
    groups: ChildGroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HUB", "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    heard = Heard()
    program = "import os; print(*sorted(os.environ))"
    child = await start(groups, heard, sys.executable, "-c", program, OWN="1")
    await heard.until(lambda: bool(heard.ends))
    assert set(heard.frames[0].split()) - {b"LC_CTYPE"} == {b"HOME", b"LANG", b"OWN", b"PATH"}
    await child.stop()


async def test_lines_cross_both_ways_and_the_end_says_why(groups: ChildGroups) -> None:
    heard = Heard()
    script = 'read line; echo "$line" | tr a-z A-Z; echo trouble >&2; exit 7'
    child = await start(groups, heard, "sh", "-c", script)
    child.send(b"hello")
    await heard.until(lambda: bool(heard.ends))
    assert heard.frames == [b"HELLO"]
    assert heard.ends == ["The child exited with status 7."]
    await child.stop()
    assert heard.log.lines == ("trouble",)
    assert child.has_exited


async def test_a_child_killed_from_outside_is_reported_with_its_signal(
    groups: ChildGroups,
) -> None:
    heard = Heard()
    child = await start(groups, heard, "sleep", "1000")
    os.kill(child.pid, signal.SIGKILL)
    await heard.until(lambda: bool(heard.ends))
    assert heard.ends == ["The child was ended by signal 9."]
    await child.stop()


async def test_stopping_asks_first_by_closing_standard_input(groups: ChildGroups) -> None:
    heard = Heard()
    child = await start(groups, heard, "sh", "-c", "trap 'echo term' TERM; cat; echo done; sleep 0")
    with anyio.fail_after(2):
        await child.stop()
    assert heard.frames == [b"done"]
    assert heard.ends == []


async def test_stopping_ends_what_ignores_everything_within_five_seconds(
    groups: ChildGroups,
) -> None:
    heard = Heard()
    child = await start(groups, heard, "sh", "-c", STUBBORN)
    await heard.until(lambda: heard.frames == [b"ready"])
    tree = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    with anyio.fail_after(5):
        await child.stop()
    await all_gone(tree)


async def test_stopping_ends_grandchildren_that_hold_the_pipes_open(groups: ChildGroups) -> None:
    heard = Heard()
    child = await start(groups, heard, "sh", "-c", "sleep 1000 & echo $!; read line; exit 0")
    await heard.until(lambda: bool(heard.frames))
    grandchild = psutil.Process(int(heard.frames[0]))
    with anyio.fail_after(4):
        await child.stop()
    await all_gone([grandchild])


async def test_two_who_stop_wait_for_the_same_end(groups: ChildGroups) -> None:
    heard = Heard()
    child = await start(groups, heard, "cat")
    with anyio.fail_after(4):
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(child.stop)
            stopping.start_soon(child.stop)
    assert child.has_exited


async def test_an_end_is_noticed_where_processes_have_no_descriptors(
    groups: ChildGroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(pid: int) -> int:
        raise OSError("no such call")

    monkeypatch.setattr(os, "pidfd_open", unsupported)
    heard = Heard()
    child = await start(groups, heard, "sh", "-c", "exit 4")
    await heard.until(lambda: bool(heard.ends))
    await child.stop()
    assert child.has_exited
    assert heard.ends == ["The child exited with status 4."]


async def test_a_frame_beyond_the_limit_ends_the_connection(groups: ChildGroups) -> None:
    heard = Heard()
    size = MAX_FRAME_BYTES + 1
    child = await start(groups, heard, "sh", "-c", f"head -c {size} /dev/zero; sleep 1000")
    await heard.until(lambda: bool(heard.ends))
    assert "more than" in heard.ends[0]
    assert heard.frames == []
    await child.stop()


async def test_what_is_kept_of_standard_error_is_bounded(groups: ChildGroups) -> None:
    heard = Heard()
    script = "import sys; [print('x' * 100, i, file=sys.stderr) for i in range(5000)]"
    child = await start(groups, heard, sys.executable, "-c", script)
    await heard.until(lambda: bool(heard.ends))
    await child.stop()
    assert sum(map(len, heard.log.lines)) <= 64 * 1024
    assert heard.log.lines[-1].endswith("4999")


async def test_commands_and_directories_that_do_not_exist_are_named(groups: ChildGroups) -> None:
    with pytest.raises(Misconfigured, match="command not found: no-such-program"):
        await start(groups, Heard(), "no-such-program")
    spec = ChildSpec(command=("cat",), cwd="/no/such/directory")
    with pytest.raises(Misconfigured, match="working directory not found: /no/such/directory"):
        await Child.start(
            spec, groups, on_frame=print, on_log=lambda _: None, on_end=lambda _: None
        )


async def test_the_watchdog_ends_with_its_work() -> None:
    groups = ChildGroups()
    heard = Heard()
    child = await start(groups, heard, "cat")
    assert groups.guard_pid is not None
    guard = psutil.Process(groups.guard_pid)
    await child.stop()
    await groups.close()
    assert is_gone(guard)
