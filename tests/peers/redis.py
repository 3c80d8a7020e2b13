"""A real Redis in a temporary directory, on a free port of 127.0.0.1; it can be killed and come back."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

_READY = b"Ready to accept connections"
_START_S = 20


class Redis:
    """A running server without a password. What it holds is written only when it is asked to save."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = folder
        self._process = _started(folder, port)

    def run(self, *words: str) -> str:
        """What ``redis-cli`` says to a command."""
        told = subprocess.run(
            [_program("redis-cli"), "-p", str(self.port), *words],
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
        return told.stdout.strip()

    def save(self) -> None:
        """Write what it holds: a restart begins with it."""
        assert self.run("SAVE") == "OK"

    def kill(self) -> None:
        """End it at once; connections break, and what was not saved is lost."""
        self._process.kill()
        self._process.wait(timeout=10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def start(self, *, with_saved: bool = False) -> None:
        """Start it again on the same port: empty, or with what was saved."""
        if not with_saved:
            for path in self._folder.glob("*.rdb"):
                path.unlink()
        self._process = _started(self._folder, self.port)


@contextmanager
def running_redis() -> Iterator[Redis]:
    """A server, removed at the end. Needs ``scripts/install_redis.sh`` to have run."""
    folder = Path(tempfile.mkdtemp(prefix="portico-redis-"))
    try:
        server = Redis(folder, _free_port())
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The server once it takes connections; it says so on standard output."""
    words = [
        _program("redis-server"),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--appendonly", "no", "--daemonize", "no"),
    ]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/")
    assert process.stdout is not None
    limit = Timer(_START_S, process.kill)
    limit.start()
    lines: list[bytes] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if _READY in line:
                return process
    finally:
        limit.cancel()
    process.wait()
    process.stdout.close()
    raise RuntimeError(b"".join(lines).decode())


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing; run scripts/install_redis.sh")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
