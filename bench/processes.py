"""Programs under measurement: started on a core of their own, asked for CPU time and memory."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.errors import NotStarted

ROOT: Final = Path(__file__).parents[1]
START_S: Final = 30.0
STOP_S: Final = 40.0
"""Longer than any program may take to drain."""


class Program:
    """A running program and all it started."""

    def __init__(self, process: subprocess.Popen[bytes], ready: Mapping[str, Any], start_s: float):
        self.ready = ready
        """The line it printed when it was ready; empty for programs that print none."""
        self.start_s = start_s
        """From the start of the process to that line."""
        self._process = process

    def cpu_s(self) -> float:
        """User and system time of the whole tree so far, children that ended included."""
        return sum(sum(process.cpu_times()[:4]) for process in self._tree())

    def resident_bytes(self) -> int:
        """Resident memory of the whole tree; what processes share counts for each."""
        return sum(int(process.memory_info().rss) for process in self._tree())

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]


class Cores:
    """Which core measures and which is measured; None leaves the choice to the kernel."""

    def __init__(self) -> None:
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        pinned = len(usable) > 1 and shutil.which("taskset") is not None
        self.load: int | None = usable[0] if pinned else None
        """Load generator and upstream."""
        self.gateway: int | None = usable[1] if pinned else None

    def __str__(self) -> str:
        if self.gateway is None:
            return "nothing pinned"
        return f"load and upstream on core {self.load}, gateway on core {self.gateway}"


def pinned(command: Sequence[str], core: int | None) -> list[str]:
    """``command`` held to one core; ``taskset`` becomes the program, so that its id stays."""
    return [*command] if core is None else ["taskset", "--cpu-list", str(core), *command]


def module(name: str, *arguments: str) -> list[str]:
    """The command of a module of this repository."""
    return [sys.executable, "-m", name, *arguments]


@contextmanager
def running(
    command: Sequence[str], *, core: int | None, log: Path, announces: bool = True
) -> Iterator[Program]:
    """Start a program and end it as an operator would.

    With ``announces`` the first line of its output is awaited and read as JSON. Raises NotStarted.
    """
    # Compiled once and kept, as installed programs are; else each start would pay for it.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            pinned(command, core),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if announces else stderr,
            stderr=stderr,
            env=environment,
        )
    try:
        ready = _announcement(process, log) if announces else {}
        yield Program(process, ready, time.perf_counter() - began)
    finally:
        _stop(process)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for programs that cannot choose their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    """Wait until something listens, for programs that do not say it. Raises NotStarted."""
    deadline = time.perf_counter() + START_S
    while time.perf_counter() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise NotStarted(f"nothing listens on port {port}")


def _announcement(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    output = process.stdout
    killer = threading.Timer(START_S, process.kill)
    killer.start()
    line = b"" if output is None else output.readline()
    killer.cancel()
    if not line:
        end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise NotStarted(f"{process.args!r} did not start:\n{end}")
    ready: dict[str, Any] = json.loads(line)
    return ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
