"""No single change of a closed log goes unnoticed, and an untouched one raises no alarm."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path

import anyio
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from hub.audit.diagnosis import diagnose
from hub.audit.lines import frame, genesis, parse
from hub.audit.log import Segmentation
from hub.audit.recorder import RecorderSettings
from hub.audit.retention_notes import RETENTION
from hub.audit.segments import CHECKPOINTS
from hub.audit.signatures import Checkpoint, decode_checkpoint
from hub.audit.verify import Report, verify
from hub.vault.key_ring import load_or_create
from tests.peers.record_writer import entry, now, recorder_in, retire

Files = dict[str, bytes]
"""A record directory: path below it -> content."""

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@cache
def closed_log() -> tuple[Files, Checkpoint, tuple[bytes, ...]]:
    """Two chains, the first without its oldest segments, some checkpoints; the last one; the keys."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        ticks = count()
        settings = RecorderSettings(segmentation=Segmentation(segment_bytes=2048, step_bytes=8192))

        async def run(calls: int) -> None:
            def clock() -> datetime:
                return START + timedelta(seconds=next(ticks))

            async with recorder_in(data, settings=settings, now=clock).running() as recorder:
                for number in range(calls):
                    await recorder.append(entry(f"call-{number}", at=clock()))
                    if number % 7 == 0:
                        await recorder.checkpoint()

        anyio.run(run, 30)
        retire(data, START + timedelta(seconds=20))
        retire(data, START + timedelta(seconds=40))
        anyio.run(run, 12)
        record = data / "record"
        files = {
            str(path.relative_to(record)): path.read_bytes()
            for path in sorted(record.rglob("*"))
            if path.is_file()
        }
        last = decode_checkpoint(files[CHECKPOINTS].splitlines()[-1])
        assert last is not None
        return files, last, load_or_create(data, now()).public_keys()


@contextmanager
def laid_out(files: Files) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder)
        for name, content in files.items():
            path = record / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        yield record


def report_on(files: Files, *, against: Checkpoint | None) -> Report:
    with laid_out(files) as record:
        return verify(record, public_keys=closed_log()[2], against=against)


def flip(content: bytes, data: DataObject) -> bytes:
    at = data.draw(st.integers(0, len(content) - 1))
    mask = data.draw(st.integers(1, 255))
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def delete_line(content: bytes, data: DataObject) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[data.draw(st.integers(0, len(lines) - 1))]
    return b"".join(lines)


def swap_lines(content: bytes, data: DataObject) -> bytes:
    lines = content.splitlines(keepends=True)
    assume(len(lines) > 1)
    one = data.draw(st.integers(0, len(lines) - 2))
    other = data.draw(st.integers(one + 1, len(lines) - 1))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def repeat_line(content: bytes, data: DataObject) -> bytes:
    lines = content.splitlines(keepends=True)
    line = data.draw(st.sampled_from(lines))
    lines.insert(data.draw(st.integers(0, len(lines))), line)
    return b"".join(lines)


def truncate(content: bytes, data: DataObject) -> bytes:
    return content[: data.draw(st.integers(0, len(content) - 1))]


Mutation = Callable[[bytes, DataObject], bytes]
MUTATIONS: list[Mutation] = [flip, delete_line, swap_lines, repeat_line, truncate]


def test_an_untouched_log_verifies() -> None:
    files, last, _ = closed_log()
    assert files[RETENTION].count(b"\n") == 2
    assert {"seals.jsonl", CHECKPOINTS} <= {Path(name).name for name in files}
    assert len(files) > 6
    for against in (None, last):
        report = report_on(files, against=against)
        assert report.findings == ()
        assert report.uncovered_lines == 0


@pytest.mark.parametrize("mutation", MUTATIONS)
@given(data=st.data())
def test_any_change_of_any_file_is_found(mutation: Mutation, data: DataObject) -> None:
    files, last, _ = closed_log()
    name = data.draw(st.sampled_from(sorted(files)))
    changed = mutation(files[name], data)
    assume(changed != files[name])
    report = report_on({**files, name: changed}, against=last)
    assert report.findings
    assert any(finding.file.split("/")[0] in name for finding in report.findings)


@given(data=st.data())
def test_without_a_kept_checkpoint_only_the_last_one_can_go_unnoticed(data: DataObject) -> None:
    files, last, _ = closed_log()
    name = data.draw(st.sampled_from(sorted(files)))
    mutation = data.draw(st.sampled_from(MUTATIONS))
    changed = mutation(files[name], data)
    assume(changed != files[name])
    report = report_on({**files, name: changed}, against=None)
    if not report.findings:
        assert name == CHECKPOINTS
        assert report.last_checkpoint is None or report.last_checkpoint.number < last.number
        assert report.uncovered_lines > 0


@given(data=st.data())
def test_a_file_that_is_gone_is_missed(data: DataObject) -> None:
    files, last, _ = closed_log()
    gone = data.draw(st.sampled_from(sorted(files)))
    kept = {name: content for name, content in files.items() if name != gone}
    assert report_on(kept, against=last).findings


def chain_of(length: int, first: int = 1) -> list[bytes]:
    chained = genesis("w")
    lines = []
    for number in range(1, first + length):
        line, chained = frame(number, "entry", b'{"call":"%d"}' % number, chained)
        lines.append(line[:-1])
    return lines[first - 1 :]


def before(first: int) -> frozenset[bytes]:
    if first == 1:
        return frozenset({genesis("w")})
    line = parse(chain_of(1, first - 1)[0])
    assert line is not None
    return frozenset({line.hash})


placed_chains = st.tuples(st.integers(2, 12), st.integers(1, 120)).flatmap(
    lambda chosen: st.tuples(st.just(chosen), st.integers(0, chosen[0] - 1))
)


@given(placed_chains, st.data())
def test_an_altered_line_is_the_one_that_is_named(
    chosen: tuple[tuple[int, int], int], data: DataObject
) -> None:
    (length, first), index = chosen
    lines = chain_of(length, first)
    lines[index] = flip(lines[index], data)
    found = diagnose(lines, first, before(first))
    assert [(fault.kind, fault.index) for fault in found.faults] == [("altered", index)]
    assert found.last == first + length - 1


@given(placed_chains)
def test_a_line_that_is_gone_is_the_one_that_is_named(
    chosen: tuple[tuple[int, int], int],
) -> None:
    (length, first), index = chosen
    assume(index < length - 1)
    lines = chain_of(length, first)
    del lines[index]
    (fault,) = diagnose(lines, first, before(first)).faults
    assert (fault.kind, fault.index, fault.sequence) == ("removed", index, first + index)


@given(placed_chains)
def test_lines_that_changed_places_are_reordered_and_nothing_else(
    chosen: tuple[tuple[int, int], int],
) -> None:
    (length, first), index = chosen
    assume(index < length - 1)
    lines = chain_of(length, first)
    lines[index], lines[index + 1] = lines[index + 1], lines[index]
    found = diagnose(lines, first, before(first))
    assert [(fault.kind, fault.index) for fault in found.faults] == [("reordered", index + 1)]
    assert len(found.lines) == length


@given(placed_chains)
def test_a_line_that_stands_twice_is_added(chosen: tuple[tuple[int, int], int]) -> None:
    (length, first), index = chosen
    lines = chain_of(length, first)
    lines.insert(index, lines[index])
    found = diagnose(lines, first, before(first))
    assert [fault.kind for fault in found.faults] == ["added"]
