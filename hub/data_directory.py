"""The folder that holds everything of one Portico: where it is, and that only one process has it.

::

    portico.db     configuration, keys, listings (unless they are in PostgreSQL)
    store          where they are instead, as the last hub was told
    admin.key      the first administrator's key, mode 0600
    keys.json      what seals, signs and digests
    record/        the audit record
    lock           held by the running process; says which one it is
    format         version of this layout
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Final

import msgspec
from msgspec import Struct

from hub.errors import DataDirectoryError

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Version of the layout; a higher one belongs to a newer program."""

_EPHEMERAL: Final = frozenset(("tmpfs", "ramfs", "overlay"))
"""File systems in memory, and the writable layer of a container."""

_TRIES: Final = 20
_PAUSE_S: Final = 0.01
"""How often and at which distance the lock is tried again before it counts as held."""

_LOCK: Final = "lock"
_FORMAT: Final = "format"
_STORE: Final = "store"


class Holder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The process that holds a data directory, as it describes itself."""

    pid: int
    since: str
    """RFC 3339, UTC."""
    url: str = ""
    """Where it serves, ``http://127.0.0.1:8080``; empty while it starts."""

    def __str__(self) -> str:
        where = f", serving {self.url}" if self.url else ""
        return f"process {self.pid}{where}, since {self.since}"


class DataDirectory:
    """A data directory held by this process."""

    def __init__(self, path: Path, lock: int, holder: Holder) -> None:
        self.path = path
        self._lock = lock
        self._holder = holder
        self._write()

    @property
    def admin_key(self) -> Path:
        """Where the first administrator's key is written."""
        return self.path / "admin.key"

    @property
    def record(self) -> Path:
        """Where the audit record is kept."""
        return self.path / "record"

    def remember_store(self, url: str | None) -> None:
        """Note where the hub keeps its state, for commands that come when it does not run.

        ``url`` is what was written, better a reference than a secret; None: in this directory.
        Raises DataDirectoryError.
        """
        file = self.path / _STORE
        try:
            if url is None:
                file.unlink(missing_ok=True)
            else:
                file.touch(mode=0o600)
                file.write_text(f"{url}\n", encoding="utf-8")
        except OSError as error:
            raise _unusable(self.path, error) from error

    def announce(self, url: str) -> None:
        """Let other processes know where this one serves."""
        self._holder = msgspec.structs.replace(self._holder, url=url)
        self._write()

    def _write(self) -> None:
        text = msgspec.json.encode(self._holder) + b"\n"
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)


def default_path(environ: Mapping[str, str]) -> Path:
    """``$PORTICO_DATA``, else ``$XDG_DATA_HOME/portico``, else ``~/.local/share/portico``."""
    if named := environ.get("PORTICO_DATA"):
        return Path(named)
    home = environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "portico"


def remembered_store(path: Path) -> str | None:
    """What :meth:`DataDirectory.remember_store` noted; None: state is in the directory itself."""
    with suppress(OSError):
        return (path / _STORE).read_text(encoding="utf-8").strip() or None
    return None


@contextmanager
def held(path: Path, *, now: str) -> Iterator[DataDirectory]:
    """Make the directory where needed (mode 0700) and hold it until the end.

    The lock goes with the process, ``kill -9`` included. Raises DataDirectoryError when another
    process holds it (the message says which), when a newer program made it, or when it cannot be
    written.
    """
    directory = path.resolve()
    lock = _acquired(directory)
    try:
        yield DataDirectory(directory, lock, Holder(pid=os.getpid(), since=now))
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def holder_of(path: Path) -> Holder | None:
    """The process that holds a directory now; None when nobody does."""
    try:
        lock = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _described(os.pread(lock, 4096, 0))
    finally:
        os.close(lock)
    return None


def is_ephemeral(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether what is written below ``path`` goes when the machine or container does.

    Says no where the system does not tell (no ``/proc``).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    found, kind = "", ""
    for line in lines:
        _, mounted, file_system, *_ = line.split(" ")
        inside = path.is_relative_to(mounted.replace("\\040", " "))
        if inside and len(mounted) >= len(found):
            found, kind = mounted, file_system
    return kind in _EPHEMERAL


def _acquired(directory: Path) -> int:
    """The descriptor that holds the lock; the directory is there and fit for use."""
    lock = -1
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _take(lock)
        _check_format(directory)
    except BlockingIOError as error:
        os.close(lock)
        raise _held(directory) from error
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        raise _unusable(directory, error) from error
    except DataDirectoryError:
        os.close(lock)
        raise
    return lock


def _take(lock: int) -> None:
    """Lock it. Whoever asks who holds it does so for a moment themselves: that is waited out."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        sleep(_PAUSE_S)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _described(text: bytes) -> Holder:
    try:
        return msgspec.json.decode(text, type=Holder)
    except msgspec.DecodeError:
        return Holder(pid=0, since="a moment ago")


def _held(directory: Path) -> DataDirectoryError:
    holder = holder_of(directory)
    who = "another process" if holder is None or not holder.pid else str(holder)
    return DataDirectoryError(
        f"{directory} is held by {who}. Stop it, or choose another directory with --data."
    )


def _unusable(directory: Path, error: OSError) -> DataDirectoryError:
    reason = error.strerror or type(error).__name__
    return DataDirectoryError(
        f"{directory} cannot be used: {reason}. Choose another directory with --data."
    )


def _make_private(directory: Path) -> None:
    """Close an empty directory to others; one that is in use is only remarked upon."""
    if not directory.stat().st_mode & 0o077:
        return
    if not any(directory.iterdir()):
        with suppress(PermissionError):
            directory.chmod(0o700)
    else:
        _log.warning("%s can be read by others; 'chmod 700' would close it", directory)


def _check_format(directory: Path) -> None:
    file = directory / _FORMAT
    file.touch(mode=0o600)
    text = file.read_text(encoding="utf-8").strip()
    if not text:  # new, or the machine went down before the first text was on the disk
        file.write_text(f"{FORMAT}\n", encoding="utf-8")
        return
    if not text.isdecimal() or int(text) > FORMAT:
        raise DataDirectoryError(
            f"{directory} has format {text[:20]!r}, made by a newer Portico; this one knows {FORMAT}."
        )
