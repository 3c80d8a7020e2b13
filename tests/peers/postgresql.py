"""A real PostgreSQL: an own cluster in a temporary directory, on a free port of 127.0.0.1."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Timer
from typing import Any

_READY = b"database system is ready to accept connections"
_START_S = 60


class PostgreSQL:
    """A running cluster. Everybody from this machine is let in as ``portico``."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._folder = folder
        self._process = process
        self._numbers = count(1)

    def url(self, database: str) -> str:
        return f"postgresql://portico@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database that nobody else uses."""
        name = f"portico_{next(self._numbers)}"
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "portico"]
        _run("createdb", *options, name)
        return self.url(name)

    def stop(self) -> None:
        """End it at once; connections break."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def start(self) -> None:
        """Start it again on the same port."""
        self._process = _started(self._folder, self.port)


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """A cluster, removed at the end. Needs ``scripts/install_postgresql.sh`` to have run."""
    folder = Path(tempfile.mkdtemp(prefix="portico-postgresql-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        data = str(folder / "data")
        _run("initdb", "-D", data, "-U", "portico", "-A", "trust", "-E", "UTF8", "--no-sync")
        port = _free_port()
        server = PostgreSQL(folder, port, _started(folder, port))
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The server once it takes connections; PostgreSQL says so on standard error."""
    words = [
        _program("postgres"),
        *("-D", str(folder / "data"), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port)),
        *("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"),
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, **_as_postgres())
    assert process.stderr is not None
    limit = Timer(_START_S, process.kill)
    limit.start()
    lines: list[bytes] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if _READY in line:
                return process
    finally:
        limit.cancel()
    process.wait()
    process.stderr.close()
    raise RuntimeError(b"".join(lines).decode())


def _run(program: str, *arguments: str) -> None:
    subprocess.run(
        [_program(program), *arguments], check=True, capture_output=True, **_as_postgres()
    )


def _program(name: str) -> str:
    """Where a program of the server is; Debian keeps them out of the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda path: float(path.name))
    for folder in reversed(versions):
        if (folder / "bin" / name).exists():
            return str(folder / "bin" / name)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing; run scripts/install_postgresql.sh")
    return found


def _as_postgres() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    common: dict[str, Any] = {"env": environment, "cwd": "/", "stdin": subprocess.DEVNULL}
    if os.getuid() != 0:
        return common
    account = pwd.getpwnam("postgres")
    return {**common, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
