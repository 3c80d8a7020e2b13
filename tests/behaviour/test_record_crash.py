"""Real processes, killed and starved: what was acknowledged is in the record, and it verifies."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hub.audit.reading import search
from hub.audit.verify import Report, verify
from hub.vault.key_ring import load_or_create
from tests.peers.record_writer import entry, now, recorder_in

ROOT = Path(__file__).parent.parent.parent
ENOUGH = 3000
SMALL_DISK_BYTES = 1024 * 1024


@contextmanager
def writer(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.peers.record_writer", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="ascii",
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def verified(data: Path) -> Report:
    return verify(data / "record", public_keys=load_or_create(data, now()).public_keys())


def recorded(data: Path) -> set[str]:
    return {found.entry.call for found in search(data / "record")}


@pytest.mark.parametrize("level", ["written", "synced"])
async def test_killed_under_load_it_has_every_entry_it_acknowledged(
    tmp_path: Path, level: str
) -> None:
    with writer("load", str(tmp_path), level) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(ENOUGH)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    acknowledged += rest[: rest.rfind("\n") + 1].split()
    assert process.returncode == -signal.SIGKILL
    assert verified(tmp_path).intact
    assert set(acknowledged) <= recorded(tmp_path)

    async with recorder_in(tmp_path).running() as recorder:
        await recorder.append(entry("after the crash"))
    report = verified(tmp_path)
    assert report.intact
    assert [chain.state for chain in report.writers] == ["closed", "closed"]
    assert {*acknowledged, "after the crash"} <= recorded(tmp_path)


async def test_processes_that_start_and_die_together_leave_a_chain_each(tmp_path: Path) -> None:
    with ExitStack() as started:
        processes = [started.enter_context(writer("load", str(tmp_path))) for _ in range(3)]
        acknowledged: list[str] = []
        for process in processes:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(200)]
    assert verified(tmp_path).intact
    for _ in range(2):
        async with recorder_in(tmp_path).running() as recorder:
            await recorder.append(entry("after the crash"))
        report = verified(tmp_path)
        assert report.intact
        assert {chain.state for chain in report.writers} == {"closed"}
    assert len(report.writers) == 5
    assert {*acknowledged} <= recorded(tmp_path)


def end_under_way(process: "subprocess.Popen[str]") -> list[str]:
    """Lets the calls end that had room when the disk was full; their ids."""
    assert process.stdout is not None
    under_way = int(process.stdout.readline().split()[0])
    assert under_way > 10
    ended = [process.stdout.readline().strip() for _ in range(under_way)]
    assert process.stdout.readline() == "all ended\n"
    return ended


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("there is room again\n")
    process.stdin.flush()
    assert process.stdout.readline() == "works again\n"
    assert process.wait(5) == 0


def test_past_the_largest_file_it_refuses_before_calls_run_and_never_after(
    tmp_path: Path,
) -> None:
    """The limit on file sizes stands for a full disk where nothing can be mounted."""
    with writer("fill", str(tmp_path), str(SMALL_DISK_BYTES)) as process:
        ended = end_under_way(process)
        assert set(ended) <= recorded(tmp_path)
        assert verified(tmp_path).intact
        go_on(process)
    assert verified(tmp_path).intact
    assert {*ended, "afterwards"} <= recorded(tmp_path)


def test_of_a_write_that_the_disk_cut_short_only_whole_entries_are_kept(tmp_path: Path) -> None:
    with writer("starve", str(tmp_path)) as process:
        output, _ = process.communicate(timeout=10)
    told = [line.split() for line in output.splitlines()]
    kept = {line[1] for line in told if line[0] == "kept"}
    lost = {line[1] for line in told if line[0] == "lost"}
    assert kept
    assert lost
    assert told[-2:] == [["refuses"], ["works", "again"]]
    assert recorded(tmp_path) == {"before", *kept, "afterwards"}
    assert verified(tmp_path).intact


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)],
        check=True,
        capture_output=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def can_mount() -> bool:
    return (
        os.geteuid() == 0
        and subprocess.run(
            ["unshare", "--mount", "true"], check=False, capture_output=True
        ).returncode
        == 0
    )


@pytest.mark.skipif(not can_mount(), reason="cannot mount: the limit on file sizes stands for it")
def test_on_a_full_disk_it_refuses_before_calls_run_and_never_after(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(SMALL_DISK_BYTES // 2))
        with writer("fill", str(disk)) as process:
            ended = end_under_way(process)
            assert set(ended) <= recorded(disk)
            ballast.unlink()
            go_on(process)
        assert verified(disk).intact
        assert {*ended, "afterwards"} <= recorded(disk)
