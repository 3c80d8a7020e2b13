"""One process has a data directory; everybody else is told which one."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.data_directory import FORMAT, default_path, held, holder_of, is_ephemeral
from hub.errors import DataDirectoryError

NOW = "2026-11-21T09:30:00.000Z"
HOLDER = """
import sys
from pathlib import Path
from hub.data_directory import held
with held(Path(sys.argv[1]), now="then") as directory:
    directory.announce("http://127.0.0.1:8080")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds ``tmp_path / "data"``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_it_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where"
    with held(path, now=NOW) as directory:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert directory.path == path
        assert {item.name for item in path.iterdir()} == {"lock", "format"}
        assert all(stat.S_IMODE(item.stat().st_mode) & 0o077 == 0 for item in path.iterdir())


def test_an_empty_one_that_others_can_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.mkdir(mode=0o755)
    with held(path, now=NOW):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_second_process_is_told_who_holds_it(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    told = f"held by process {holder.pid}, serving http://127.0.0.1:8080, since then"
    with pytest.raises(DataDirectoryError, match=told), held(tmp_path / "data", now=NOW):
        pass
    found = holder_of(tmp_path / "data")
    assert found is not None
    assert (found.pid, found.url) == (holder.pid, "http://127.0.0.1:8080")


def test_a_process_that_was_killed_holds_nothing(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holder_of(tmp_path / "data") is None
    with held(tmp_path / "data", now=NOW):
        found = holder_of(tmp_path / "data")
        assert found is not None
        assert found.pid == os.getpid()
    assert holder_of(tmp_path / "data") is None


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "nowhere") is None
    assert list(tmp_path.iterdir()) == []


def test_one_of_a_newer_program_is_refused_and_let_go(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(f"{FORMAT + 1}\n", encoding="utf-8")
    for _ in range(2):
        with (
            pytest.raises(DataDirectoryError, match="made by a newer Portico"),
            held(tmp_path, now=NOW),
        ):
            pass


def test_one_whose_making_broke_off_is_used(tmp_path: Path) -> None:
    (tmp_path / "format").touch()
    with held(tmp_path, now=NOW):
        assert (tmp_path / "format").read_text(encoding="utf-8") == f"{FORMAT}\n"


def test_asking_who_holds_it_keeps_nobody_out(tmp_path: Path) -> None:
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            holder_of(tmp_path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(300):
            with held(tmp_path, now=NOW):
                pass
    finally:
        done.set()
        asking.join()


def test_one_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(DataDirectoryError, match=r"file/data cannot be used: Not a directory"),
        held(tmp_path / "file" / "data", now=NOW),
    ):
        pass


def test_an_error_of_its_user_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), held(tmp_path / "data", now=NOW):
        raise FileNotFoundError


def test_where_it_is_without_being_told() -> None:
    assert default_path({"PORTICO_DATA": "/srv/p", "XDG_DATA_HOME": "/x"}) == Path("/srv/p")
    assert default_path({"XDG_DATA_HOME": "/x"}) == Path("/x/portico")
    assert default_path({}) == Path.home() / ".local/share/portico"


def test_a_disk_that_goes_with_the_machine_is_recognised(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n"
        "tmpfs /data/with\\040space tmpfs rw 0 0\n",
        encoding="utf-8",
    )
    assert is_ephemeral(Path("/var/lib/portico"), mounts)
    assert not is_ephemeral(Path("/data/portico"), mounts)
    assert is_ephemeral(Path("/data/with space/portico"), mounts)
    assert not is_ephemeral(Path("/data"), tmp_path / "absent")
