"""The process groups that must not outlive this process, and the watchdog that sees to it."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from connectors.errors import Unreachable

GUARD_PROGRAM: Final = Path(__file__).with_name("child_guard.py")
STARTING_S: Final = 10.0
CLOSING_S: Final = 3.0
HEALTHY_LIFE_S: Final = 1.0

logger = logging.getLogger(__name__)


class ChildGroups:
    """Registers groups with one watchdog process, started with the first of them.

    One for the whole hub, used on one event loop. A watchdog that dies is replaced, and told again.
    PR_SET_PDEATHSIG is not used: it would need code of ours between fork and exec, fires when the
    starting *thread* ends, and reaches the child but not its children.
    """

    def __init__(self, healthy_life_s: float = HEALTHY_LIFE_S) -> None:
        """A watchdog that ends before ``healthy_life_s`` is replaced by the next child only."""
        self._healthy_life_s = healthy_life_s
        self._groups: set[int] = set()
        self._guard: _Guard | None = None

    @property
    def guard_pid(self) -> int | None:
        """The watchdog's process id, while it runs."""
        return self._guard.pid if self._guard is not None else None

    async def prepare(self) -> None:
        """Have a watchdog that watches, so that :meth:`add` is one write. Raises Unreachable."""
        if self._guard is None:
            self._start()
        if self._guard is not None:
            await self._guard.watching()

    def _start(self) -> None:
        self._guard = _Guard(self._lost)
        for group in self._groups:
            self._guard.tell(b"+%d\n" % group)

    def add(self, group: int) -> None:
        """From now on this group ends with us."""
        self._groups.add(group)
        if self._guard is not None:
            self._guard.tell(b"+%d\n" % group)

    def discard(self, group: int) -> None:
        """The group has ended; its number may be given to others."""
        if group in self._groups:
            self._groups.remove(group)
            if self._guard is not None:
                self._guard.tell(b"-%d\n" % group)

    async def close(self) -> None:
        """End the watchdog, and with it every group still registered. Bounded to 3 s."""
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.close()

    def _lost(self, guard: "_Guard", lived_s: float) -> None:
        if self._guard is not guard:
            return
        self._guard = None
        logger.warning("The watchdog of child processes ended", extra={"lived_s": lived_s})
        if lived_s >= self._healthy_life_s:
            try:
                self._start()
            except Unreachable as error:
                logger.warning("It cannot be replaced", extra={"error": str(error)})


class _Guard:
    """One run of the watchdog. Its standard output says once that it watches, and ends with it."""

    def __init__(self, on_end: Callable[["_Guard", float], None]) -> None:
        environment = {
            name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ
        }
        try:
            process = subprocess.Popen(  # noqa: S603 -- our own program
                [sys.executable, "-I", "-S", str(GUARD_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise Unreachable(f"The watchdog of child processes does not start: {error}") from error
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        self._process, self._input, self._output = process, process.stdin, process.stdout
        self._on_end = on_end
        self._heard = asyncio.Event()
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        os.set_blocking(self._input.fileno(), False)
        self._loop.add_reader(self._output.fileno(), self._hear)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def watching(self) -> None:
        """Wait until it watches. Raises Unreachable when it does not."""
        try:
            async with asyncio.timeout(STARTING_S):
                await self._heard.wait()
        except TimeoutError as error:
            self._process.kill()
            raise Unreachable("The watchdog of child processes does not answer.") from error
        if self._gone.is_set():
            raise Unreachable("The watchdog of child processes ended at once.")

    def tell(self, line: bytes) -> None:
        """Write one line; a watchdog that does not read is replaced, which tells it everything."""
        try:
            os.write(self._input.fileno(), line)
        except BrokenPipeError:
            return
        except BlockingIOError:
            self._process.kill()

    async def close(self) -> None:
        self._input.close()
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._gone.wait()
        except TimeoutError:
            self._process.kill()
            await self._gone.wait()

    def _hear(self) -> None:
        self._heard.set()
        if not os.read(self._output.fileno(), 64):
            self._ended()

    def _ended(self) -> None:
        self._loop.remove_reader(self._output.fileno())
        self._output.close()
        self._input.close()
        self._process.wait()
        self._gone.set()
        self._on_end(self, self._loop.time() - self._began)
