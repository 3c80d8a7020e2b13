"""One child process: started, spoken to in lines, ended with its whole process group."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import anyio
from msgspec import Struct

from connectors.child_groups import ChildGroups
from connectors.child_lines import MAX_FRAME_BYTES, Lines
from connectors.errors import Misconfigured, Unreachable

MAX_UNSENT_BYTES: Final = 2 * MAX_FRAME_BYTES
"""What may wait for a child that does not read; beyond it the child is as good as gone."""
STDIN_GRACE_S: Final = 2.0
"""After the end of input, before SIGTERM."""
TERM_GRACE_S: Final = 1.5
"""After SIGTERM, before SIGKILL."""
KILL_GRACE_S: Final = 1.0
"""After SIGKILL, before the child is given up as unkillable."""
DRAIN_S: Final = 0.25
"""After the child's exit, for what it wrote last; others of its group may hold the pipes open."""

_INHERITED: Final = ("PATH", "HOME", "LANG")


class ChildSpec(Struct, frozen=True, kw_only=True):
    """What to start."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    """Beside PATH, HOME and LANG, the only ones a child inherits."""
    cwd: str | None = None

    def __repr__(self) -> str:
        return f"ChildSpec({self.command!r})"


class Child:
    """A running child. ``on_frame`` gets each line of its standard output, without the newline.

    ``on_log`` gets each line of its standard error. ``on_end`` is called once, with a reason, when
    it can say no more: it exited, closed its output or broke the frame limit. The owner then
    awaits :meth:`stop`.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        groups: ChildGroups,
        *,
        on_frame: Callable[[bytes], None],
        on_log: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._process = process
        self._groups = groups
        self._on_end: Callable[[str], None] | None = on_end
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._silent = asyncio.Event()
        self._read = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopping = False
        self._input: asyncio.WriteTransport | None = None
        self._outputs: list[asyncio.ReadTransport] = []
        self._frames = Lines(on_frame, self._output_ended, self._frame_too_long)
        self._logs = Lines(on_log, self._read.set)

    @classmethod
    async def start(
        cls,
        spec: ChildSpec,
        groups: ChildGroups,
        *,
        on_frame: Callable[[bytes], None],
        on_log: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> "Child":
        """Start a child in a session of its own. Raises Misconfigured or Unreachable."""
        await groups.prepare()
        process = _spawn(spec)
        groups.add(process.pid)
        child = cls(process, groups, on_frame=on_frame, on_log=on_log, on_end=on_end)
        _watch_exit(process, child._exit_noticed)
        with anyio.CancelScope(shield=True):
            await child._connect()
        return child

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group."""
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        """Whether the process itself is gone; others of its group may not be."""
        return self._exited.is_set()

    def send(self, frame: bytes) -> None:
        """Write one line. Raises Unreachable when the child does not take it."""
        transport = self._input
        if transport is None or transport.is_closing() or self._on_end is None:
            raise Unreachable("The child has ended.")
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise Unreachable("The child does not read what it is sent.")
        transport.write(frame + b"\n")

    async def stop(self) -> None:
        """End it: end of input, SIGTERM, SIGKILL, each to the whole group. Bounded to 5 s.

        Whoever comes later waits for the first; cancelling the wait does not stop the ending.
        """
        with anyio.CancelScope(shield=True):
            if self._stopping:
                await self._stopped.wait()
                return
            self._stopping = True
            self._on_end = None
            if self._input is not None:
                self._input.close()
            await self._end_group()
            self._let_go()
            self._stopped.set()

    async def _connect(self) -> None:
        process = self._process
        self._input, _ = await self._loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        frames, _ = await self._loop.connect_read_pipe(lambda: self._frames, process.stdout)
        logs, _ = await self._loop.connect_read_pipe(lambda: self._logs, process.stderr)
        self._outputs = [frames, logs]

    async def _end_group(self) -> None:
        """The end of the output tells that the rest of the group has gone as well."""
        if not await _within(STDIN_GRACE_S, self._exited):
            self._signal(signal.SIGTERM)
            await _within(TERM_GRACE_S, self._exited, self._silent)
        elif not await _within(DRAIN_S, self._silent, self._read):
            self._signal(signal.SIGTERM)
            await _within(TERM_GRACE_S, self._silent, self._read)
        self._signal(signal.SIGKILL)
        await _within(KILL_GRACE_S, self._exited)

    def _signal(self, number: int) -> None:
        """Signal the whole group. Its leader is not reaped before it is let go: the number is ours."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _let_go(self) -> None:
        if self._input is not None and self._input.get_write_buffer_size():
            self._input.abort()  # only then: a second close would hit a descriptor given to others
        for transport in self._outputs:
            transport.close()
        if self._exited.is_set():
            self._process.wait()
            self._groups.discard(self._process.pid)

    def _exit_noticed(self) -> None:
        self._exited.set()
        self._loop.call_later(DRAIN_S, self._ended)

    def _output_ended(self) -> None:
        self._silent.set()
        if self._exited.is_set():
            self._ended()
        else:
            self._loop.call_later(DRAIN_S, self._ended)

    def _frame_too_long(self) -> None:
        self._ended(f"The child sent a message of more than {MAX_FRAME_BYTES} bytes.")

    def _ended(self, reason: str = "") -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(reason or self._exit_reason())

    def _exit_reason(self) -> str:
        if not self._exited.is_set():
            return "The child closed its output."
        status = _status_of(self._process)
        if status is None:
            return "The child exited."
        return (
            f"The child was ended by signal {-status}."
            if status < 0
            else (f"The child exited with status {status}.")
        )


def _spawn(spec: ChildSpec) -> subprocess.Popen[bytes]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        return subprocess.Popen(  # noqa: S603 -- what an administrator configured, without a shell
            spec.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=spec.cwd,
            env={**inherited, **spec.environment},
            start_new_session=True,
            bufsize=0,
        )
    except FileNotFoundError as error:
        if spec.cwd is not None and error.filename == spec.cwd:
            raise Misconfigured(f"working directory not found: {spec.cwd}") from error
        raise Misconfigured(f"command not found: {spec.command[0]}") from error
    except (PermissionError, NotADirectoryError, ValueError) as error:
        raise Misconfigured(f"{spec.command[0]} cannot be started: {error}") from error
    except OSError as error:
        raise Unreachable(f"{spec.command[0]} cannot be started: {error}") from error


def _watch_exit(process: subprocess.Popen[bytes], noticed: Callable[[], None]) -> None:
    """Have ``noticed`` called on the loop when the process has exited.

    On Linux it stays unreaped, so that its number cannot be given to others; elsewhere a thread
    waits for it.
    """
    loop = asyncio.get_running_loop()
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:
            pass
        else:

            def exited() -> None:
                loop.remove_reader(descriptor)
                os.close(descriptor)
                noticed()

            loop.add_reader(descriptor, exited)
            return

    def wait() -> None:
        process.wait()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(noticed)

    threading.Thread(target=wait, name=f"portico-child-{process.pid}", daemon=True).start()


def _status_of(process: subprocess.Popen[bytes]) -> int | None:
    """Exit status, negative for a signal, without reaping; None where that cannot be told."""
    if process.returncode is not None:
        return process.returncode
    if sys.platform != "linux":
        return None
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


async def _within(seconds: float, *events: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            for event in events:
                await event.wait()
    except TimeoutError:
        return False
    return True
