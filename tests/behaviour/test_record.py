"""The record while it is kept: taken, chained, signed, refused, read back."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from hub.audit.checkpoints import FileSink
from hub.audit.export import export, verify_export
from hub.audit.log import Segmentation
from hub.audit.reading import Filters, Recorded, entries_since, follow, search, tail
from hub.audit.recorder import Recorder, RecorderSettings
from hub.audit.segments import segments, writers
from hub.audit.signatures import last_checkpoint_in, read_public_keys
from hub.audit.verify import Report, verify
from hub.domain.record import ChainLine
from hub.errors import ConfigurationError, RecordUnavailable
from hub.pipeline import Recorder as PipelineRecorder
from hub.vault.key_ring import load_or_create
from tests.peers.record_writer import entry, now, recorder_in, retire

SMALL = RecorderSettings(segmentation=Segmentation(segment_bytes=4096, step_bytes=16 * 1024))


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, **by: float) -> None:
        self.moment += timedelta(**by)


async def keep(recorder: Recorder, *calls: str, **fields: Any) -> None:
    for call in calls:
        recorder.reserve(call)
        await recorder.append(entry(call, **fields))


def verified(data: Path) -> Report:
    return verify(data / "record", public_keys=load_or_create(data, now()).public_keys())


def calls_of(found: Sequence[Recorded]) -> list[str]:
    return [each.entry.call for each in found]


async def test_an_entry_that_was_awaited_is_in_a_log_that_verifies(tmp_path: Path) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        as_the_pipeline_sees_it: PipelineRecorder = recorder
        as_the_pipeline_sees_it.reserve("one")
        await as_the_pipeline_sees_it.append(entry("one"))
        assert calls_of(tail(tmp_path / "record", 10)) == ["one"]
    report = verified(tmp_path)
    assert report.intact
    assert [writer.state for writer in report.writers] == ["closed"]
    assert report.uncovered_lines == 0


async def test_entries_of_one_turn_are_written_with_one_system_call(tmp_path: Path) -> None:
    def writes() -> int:
        counters = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        return int(next(line for line in counters if line.startswith("syscw")).split()[1])

    async with recorder_in(tmp_path).running() as recorder:
        await recorder.checkpoint()
        before = writes()
        waiting = [recorder.append(entry(f"call-{number}")) for number in range(200)]
        for each in waiting:
            await each
        assert writes() - before <= 2  # the second one may be the event loop's own


async def test_a_caller_that_goes_away_takes_no_other_entry_with_it(tmp_path: Path) -> None:
    async with recorder_in(tmp_path).running() as recorder, anyio.create_task_group() as tasks:
        tasks.start_soon(keep, recorder, "goes")
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await recorder.append(entry("stays"))
    assert "stays" in calls_of(tail(tmp_path / "record", 10))
    assert verified(tmp_path).intact


async def test_what_callers_choose_the_length_of_is_cut_to_fit(tmp_path: Path) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        await keep(recorder, "long", target="t" * 100_000, reason="\x00" * 100_000)
        (found,) = tail(tmp_path / "record", 1)
    assert found.entry.target.startswith("tttt")
    assert found.entry.target.endswith("…")
    assert verified(tmp_path).intact


async def test_a_record_that_is_not_running_refuses(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path)
    with pytest.raises(RecordUnavailable):
        recorder.reserve("early")
    async with recorder.running():
        await keep(recorder, "one")
    with pytest.raises(RecordUnavailable):
        await recorder.append(entry("late"))


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "record").write_text("in the way", encoding="utf-8")
    with pytest.raises(RecordUnavailable, match="record"):
        async with recorder_in(tmp_path).running():
            pass


async def test_each_start_begins_a_chain_that_names_the_one_before(tmp_path: Path) -> None:
    for call in ("first", "second", "third"):
        async with recorder_in(tmp_path).running() as recorder:
            await keep(recorder, call)
    report = verified(tmp_path)
    assert report.intact
    assert len(report.writers) == 3
    assert report.last_checkpoint is not None
    _first, *others = [writer.writer for writer in report.writers]
    assert [head.writer for head in report.last_checkpoint.heads] == others  # for the first as well
    assert calls_of(tail(tmp_path / "record", 2)) == ["third", "second"]


async def test_processes_side_by_side_share_no_chain_and_every_checkpoint(tmp_path: Path) -> None:
    async with recorder_in(tmp_path).running() as one, recorder_in(tmp_path).running() as other:
        await keep(one, "of one")
        await keep(other, "of other")
        checkpoint = await one.checkpoint()
        assert checkpoint is not None
        assert one.head is not None
        assert other.head is not None
        assert set(checkpoint.heads) == {one.head, other.head}
        assert verified(tmp_path).intact
    report = verified(tmp_path)
    assert report.intact
    assert sum(writer.entries for writer in report.writers) == 2


async def test_segments_roll_by_size_and_by_age_and_stay_verifiable(tmp_path: Path) -> None:
    clock = Clock()
    async with recorder_in(tmp_path, settings=SMALL, now=clock).running() as recorder:
        await keep(recorder, *(f"call-{number}" for number in range(40)))
        assert recorder.head is not None
        by_size = len(segments(tmp_path / "record", recorder.head.writer))
        clock.advance(hours=1, seconds=1)
        await keep(recorder, "later", at=clock())
        await recorder.checkpoint()
        by_age = len(segments(tmp_path / "record", recorder.head.writer))
    assert by_size > 3
    assert by_age == by_size + 1
    assert verified(tmp_path).intact


async def test_synced_entries_are_acknowledged(tmp_path: Path) -> None:
    settings = RecorderSettings(level="synced")
    async with recorder_in(tmp_path, settings=settings).running() as recorder:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(keep, recorder, f"call-{number}")
    assert len(tail(tmp_path / "record", 100)) == 50


async def test_stored_entries_are_acknowledged_by_the_store(tmp_path: Path) -> None:
    kept: list[ChainLine] = []
    reached, released = anyio.Event(), anyio.Event()

    async def store(lines: Sequence[ChainLine]) -> None:
        if any(line.kind == "entry" for line in lines):
            reached.set()
            await released.wait()
        kept.extend(lines)

    settings = RecorderSettings(level="stored")
    async with recorder_in(tmp_path, settings=settings, store=store).running() as recorder:
        waiting = [recorder.append(entry(f"call-{number}")) for number in range(20)]
        with anyio.fail_after(5):
            await reached.wait()
            assert not any(line.kind == "entry" for line in kept)
            released.set()
            for each in waiting:
                await each
        assert sum(line.kind == "entry" for line in kept) == 20
    assert [line.kind for line in kept][-1] == "seal"
    assert [line.sequence for line in kept] == list(range(1, len(kept) + 1))


async def test_while_the_store_is_away_calls_are_refused_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    kept: list[ChainLine] = []
    is_away, came_back = True, anyio.Event()

    async def store(lines: Sequence[ChainLine]) -> None:
        if is_away:
            raise RecordUnavailable("the database is away")
        kept.extend(lines)
        came_back.set()

    settings = RecorderSettings(level="stored", retry_s=0.01)
    async with recorder_in(tmp_path, settings=settings, store=store).running() as recorder:
        with anyio.fail_after(5):
            with pytest.raises(RecordUnavailable, match="away"):
                await recorder.append(entry("unlucky"))
            with pytest.raises(RecordUnavailable, match="away"):
                recorder.reserve("refused")
            is_away = False
            await came_back.wait()
            await keep(recorder, "lucky")
    texts = b"".join(line.text for line in kept)
    assert b"unlucky" in texts
    assert b'"lucky"' in texts


def test_level_stored_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        recorder_in(tmp_path, settings=RecorderSettings(level="stored"))


async def test_refusals_before_identify_are_told_once_for_each_source_and_reason(
    tmp_path: Path,
) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        for _ in range(7):
            recorder.refused_before_identify("192.0.2.1", "bad_json")
        recorder.refused_before_identify("192.0.2.1", "slow_headers")
        for number in range(5000):
            recorder.refused_before_identify(f"source-{number}", "bad_json")
    found = list(search(tmp_path / "record", Filters(outcome="aggregate")))
    counts = {(each.entry.peer, each.entry.reason): each.entry.count for each in found}
    assert counts["192.0.2.1", "bad_json"] == 7
    assert counts["192.0.2.1", "slow_headers"] == 1
    assert sum(counts.values()) == 5008
    assert len(counts) < 1100


async def test_aggregates_are_recorded_in_time(tmp_path: Path) -> None:
    settings = RecorderSettings(aggregate_s=0.01)
    async with recorder_in(tmp_path, settings=settings).running() as recorder:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                found = follow(tmp_path / "record", every_s=0.01)
                tasks.start_soon(_count_refusals, recorder)
                async for recorded in found:
                    assert recorded.entry.reason == "bad_json"
                    tasks.cancel_scope.cancel()
                    break
                await found.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_what_was_counted_when_it_is_stopped_is_recorded_all_the_same(tmp_path: Path) -> None:
    """The store takes the first aggregate, and is slow with it, when the record is to end."""
    asked = anyio.Event()

    async def store(_: Sequence[ChainLine]) -> None:
        if not asked.is_set() and recorder.head and recorder.head.sequence > 1:
            asked.set()
            await anyio.sleep_forever()

    settings = RecorderSettings(aggregate_s=0.01, level="stored")
    async with recorder_in(tmp_path, settings=settings, store=store).running() as recorder:
        for number in range(3):
            recorder.refused_before_identify(f"192.0.2.{number}", "bad_json")
        with anyio.fail_after(5):
            await asked.wait()
    found = [each.entry for each in search(tmp_path / "record", Filters(outcome="aggregate"))]
    assert sorted((one.peer, one.count) for one in found) == [
        (f"192.0.2.{number}", 1) for number in range(3)
    ]


async def _count_refusals(recorder: Recorder) -> None:
    while True:
        recorder.refused_before_identify("192.0.2.1", "bad_json")
        await anyio.lowlevel.checkpoint()


async def test_what_could_not_be_synced_is_owed_until_it_is(tmp_path: Path) -> None:
    async with recorder_in(tmp_path, settings=SMALL).running() as recorder:
        await recorder.checkpoint()
        await keep(recorder, *(f"call-{number}" for number in range(30)))
        (writer,) = writers(tmp_path / "record")
        assert len(segments(tmp_path / "record", writer)) > 1
        own, aside = tmp_path / "record" / writer, tmp_path / "aside"
        own.rename(aside)
        for _ in range(2):
            with pytest.raises(RecordUnavailable, match="may not have reached the disk"):
                await recorder.checkpoint()
        aside.rename(own)
        assert await recorder.checkpoint() is not None
    assert verified(tmp_path).intact


async def test_digests_are_keyed_by_tenant_and_survive_a_restart(tmp_path: Path) -> None:
    one = recorder_in(tmp_path).digest("acme", b"42")
    assert one == recorder_in(tmp_path).digest("acme", b"42")
    assert one != recorder_in(tmp_path).digest("other", b"42")
    assert one != recorder_in(tmp_path / "elsewhere").digest("acme", b"42")
    assert len(one) == 32


async def test_checkpoints_go_to_sinks_and_hold_a_copy_of_the_record_to_account(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "auditor.jsonl"
    async with recorder_in(tmp_path, sinks=[FileSink(kept)]).running() as recorder:
        await keep(recorder, "one", "two")
    last = last_checkpoint_in(kept.read_bytes())
    assert last is not None
    keys = read_public_keys(load_or_create(tmp_path, now()).public_keys_pem().encode())
    assert verify(tmp_path / "record", public_keys=keys, against=last).intact
    # The whole tail goes, checkpoints included: only the auditor's copy can tell.
    (writer,) = writers(tmp_path / "record")
    (_, path) = segments(tmp_path / "record", writer)[-1]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    (tmp_path / "record" / "checkpoints.jsonl").write_bytes(b"")
    assert verify(tmp_path / "record", public_keys=keys).intact
    report = verify(tmp_path / "record", public_keys=keys, against=last)
    assert {finding.kind for finding in report.findings} == {"checkpoint", "removed"}


async def test_a_sink_that_fails_is_no_obstacle(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "no" / "such" / "directory")
    async with recorder_in(tmp_path, sinks=[sink]).running() as recorder:
        await keep(recorder, "one")
        await recorder.checkpoint()
    assert verified(tmp_path).intact


async def crashed(data: Path, rest: bytes = b"", *, covered: bool = False) -> tuple[Path, Path]:
    """The data directory as ``kill -9`` leaves it, with ``rest`` behind its two entries.

    A copy taken while it is written is just that. Returns it and its newest segment.
    """
    copy = data / "crashed"
    async with recorder_in(data / "original").running() as recorder:
        await keep(recorder, "one", "two")
        if covered:
            await recorder.checkpoint()
        await to_thread.run_sync(shutil.copytree, data / "original", copy)
    (writer,) = writers(copy / "record")
    path = segments(copy / "record", writer)[-1][1]
    content = path.read_bytes().rstrip(b"\0") + rest
    with path.open("r+b") as file:
        file.write(content)
    return copy, path


async def test_a_torn_tail_is_cut_kept_and_recorded_and_is_no_tampering(tmp_path: Path) -> None:
    half = b'{"n":4,"entry":{"call":"half'
    data, path = await crashed(tmp_path, half)
    before = verified(data)
    assert before.intact
    assert before.writers[0].unfinished_bytes == len(half)
    async with recorder_in(data).running() as recorder:
        await keep(recorder, "after")
    assert path.with_suffix(".torn").read_bytes() == half
    assert any(b'"torn":{' in file.read_bytes() for file in (data / "record").rglob("*.jsonl"))
    assert verified(data).intact
    assert calls_of(tail(data / "record", 10)) == ["after", "two", "one"]


@pytest.mark.parametrize("rest", [b"", b'{"n":4,"seal":{"segment":1,'])
async def test_a_crash_between_two_segments_is_no_tampering(tmp_path: Path, rest: bytes) -> None:
    data, path = await crashed(tmp_path, rest)
    path.with_name("000002.jsonl").write_bytes(bytes(8192))
    assert verified(data).intact
    async with recorder_in(data).running():
        pass
    assert verified(data).intact
    assert calls_of(tail(data / "record", 10)) == ["two", "one"]


async def test_a_hole_left_by_lost_power_ends_what_can_be_believed(tmp_path: Path) -> None:
    data, path = await crashed(tmp_path, bytes(100) + b'{"n":9,"entry":{}}\n')
    async with recorder_in(data).running():
        pass
    assert path.with_suffix(".torn").exists()
    assert verified(data).intact


async def test_what_a_checkpoint_covers_is_never_cut_as_a_torn_tail(tmp_path: Path) -> None:
    data, path = await crashed(tmp_path, covered=True)
    content = path.read_bytes().replace(b"find_order", b"find_Order", 1)
    path.write_bytes(content)
    async with recorder_in(data).running():
        pass
    assert path.read_bytes() == content
    (finding,) = verified(data).findings
    assert (finding.kind, finding.line, finding.sequence) == ("altered", 2, 2)


async def closed(data: Path, count: int = 30) -> Path:
    """A closed log of small segments; its record directory."""
    async with recorder_in(data, settings=SMALL).running() as recorder:
        await keep(recorder, *(f"call-{number}" for number in range(count)))
    return data / "record"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


async def test_a_flipped_byte_is_pinpointed(tmp_path: Path) -> None:
    record = await closed(tmp_path)
    (writer,) = writers(record)
    _, path = segments(record, writer)[1]
    lines = lines_of(path)
    lines[4] = lines[4].replace(b"ci-bot", b"ci-bat")
    path.write_bytes(b"".join(lines))
    (finding,) = verified(tmp_path).findings
    assert (finding.kind, finding.file, finding.line) == ("altered", f"{writer}/{path.name}", 5)
    assert f'"n":{finding.sequence},'.encode() in lines[4]


async def test_reordered_and_removed_lines_are_pinpointed(tmp_path: Path) -> None:
    record = await closed(tmp_path)
    (writer,) = writers(record)
    _, path = segments(record, writer)[1]
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:3], lines[4], lines[3], *lines[5:]]))
    (finding,) = verified(tmp_path).findings
    assert (finding.kind, finding.line) == ("reordered", 5)
    path.write_bytes(b"".join([*lines[:3], *lines[5:]]))
    (finding,) = verified(tmp_path).findings
    assert (finding.kind, finding.line) == ("removed", 4)
    assert "2 of the lines" in finding.detail


async def test_a_removed_segment_a_removed_chain_and_a_removed_tail_are_missed(
    tmp_path: Path,
) -> None:
    record = await closed(tmp_path)
    async with recorder_in(tmp_path).running() as recorder:
        await keep(recorder, "of the second")
    first, second = writers(record)
    whole = tmp_path / "whole"
    shutil.copytree(record, whole)

    segments(record, first)[1][1].unlink()
    assert [finding.kind for finding in verified(tmp_path).findings] == ["missing_segment"]

    _restore(whole, record)
    segments(record, first)[-1][1].unlink()
    assert "removed" in [finding.kind for finding in verified(tmp_path).findings]

    _restore(whole, record)
    shutil.rmtree(record / first)
    assert [finding.kind for finding in verified(tmp_path).findings] == ["missing_writer"]

    _restore(whole, record)
    _, path = segments(record, second)[-1]
    path.write_bytes(b"".join(lines_of(path)[:-2]))
    (finding,) = verified(tmp_path).findings
    assert (finding.kind, finding.writer) == ("removed", second)


def _restore(whole: Path, record: Path) -> None:
    shutil.rmtree(record)
    shutil.copytree(whole, record)


async def test_checkpoints_of_another_key_are_not_believed(tmp_path: Path) -> None:
    record = await closed(tmp_path)
    stranger = load_or_create(tmp_path / "stranger", now()).public_keys()
    kinds = {finding.kind for finding in verify(record, public_keys=stranger).findings}
    assert kinds == {"signature"}


async def test_entries_newer_than_the_last_checkpoint_are_stated(tmp_path: Path) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        await recorder.checkpoint()
        await keep(recorder, "one", "two", "three")
        report = verified(tmp_path)
    assert report.intact
    assert report.uncovered_lines == 3


async def test_seals_outlive_the_segments_that_retention_removes(tmp_path: Path) -> None:
    record = await closed(tmp_path)
    (writer,) = writers(record)
    total = len(segments(record, writer))
    assert retire(tmp_path, now() - timedelta(days=1)) == 0
    assert retire(tmp_path, now()) == total
    assert segments(record, writer) == []
    assert verified(tmp_path).intact
    async with recorder_in(tmp_path).running() as recorder:
        await keep(recorder, "after")
    report = verified(tmp_path)
    assert report.intact
    assert report.writers[0].retired_lines > 30
    seals = record / writer / "seals.jsonl"
    seals.write_bytes(seals.read_bytes().replace(b'"segment":2', b'"segment":3', 1))
    assert verified(tmp_path).findings != ()
    seals.unlink()
    assert "removed" in [finding.kind for finding in verified(tmp_path).findings]


async def test_searching_finds_by_every_filter_newest_first(tmp_path: Path) -> None:
    record = tmp_path / "record"
    start = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
    async with recorder_in(tmp_path, settings=SMALL).running() as recorder:
        for number in range(40):
            await keep(
                recorder,
                f"call-{number}",
                at=start + timedelta(minutes=number),
                principal="ann" if number % 2 else "bob",
                target=f"tool_{number % 4}",
                original=f"original_{number % 4}",
                outcome="failed" if number == 7 else "ok",
                tenant="acme" if number < 10 else "default",
                reason='says "no"' if number == 9 else "",
            )
    assert calls_of(tail(record, 3)) == ["call-39", "call-38", "call-37"]
    assert len(list(search(record, Filters(principal="ann")))) == 20
    for name in ("tool_3", "original_3", "orders/original_3"):
        assert len(list(search(record, Filters(capability=name)))) == 10
    assert calls_of(list(search(record, Filters(outcome="failed")))) == ["call-7"]
    assert calls_of(list(search(record, Filters(text='says "no"')))) == ["call-9"]
    assert calls_of(list(search(record, Filters(call="call-12")))) == ["call-12"]
    assert len(list(search(record, Filters(tenant="acme", principal="bob")))) == 5
    since, until = start + timedelta(minutes=10), start + timedelta(minutes=12)
    assert calls_of(list(search(record, Filters(since=since, until=until)))) == [
        "call-11",
        "call-10",
    ]


async def test_a_projection_catches_up_from_where_it_was(tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with recorder_in(tmp_path, settings=SMALL).running() as recorder:
        await keep(recorder, *(f"call-{number}" for number in range(30)))
        assert recorder.head is not None
        writer = recorder.head.writer
        everything = list(entries_since(record, writer, 0))
        assert calls_of(everything) == [f"call-{number}" for number in range(30)]
        seen = everything[19].sequence
        assert calls_of(list(entries_since(record, writer, seen)))[0] == "call-20"
        assert list(entries_since(record, writer, recorder.head.sequence)) == []


async def test_followers_see_entries_of_every_process_as_they_come(tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with recorder_in(tmp_path).running() as recorder:
        await keep(recorder, "before")
        found = follow(record, Filters(principal="ci-bot"), every_s=0.01)
        seen: set[str] = set()
        with anyio.fail_after(5):
            async with recorder_in(tmp_path).running() as other, anyio.create_task_group() as tasks:
                tasks.start_soon(_keep_until_cancelled, recorder, "here")
                tasks.start_soon(_keep_until_cancelled, other, "there")
                async for recorded in found:
                    seen.add(recorded.entry.call)
                    if {"here", "there"} <= seen:
                        break
                tasks.cancel_scope.cancel()
    assert "before" not in seen


async def _keep_until_cancelled(recorder: Recorder, call: str) -> None:
    while True:
        await keep(recorder, call)


async def test_an_export_proves_what_it_shows_and_shows_nothing_else(tmp_path: Path) -> None:
    async with recorder_in(tmp_path, settings=SMALL).running() as recorder:
        for number in range(20):
            tenant = "acme" if number % 3 == 0 else "secretive"
            await keep(recorder, f"call-{number}", tenant=tenant)
        await recorder.checkpoint()
        lines = list(export(tmp_path / "record", Filters(tenant="acme")))
    keys = load_or_create(tmp_path, now()).public_keys()
    report = verify_export(lines, keys)
    assert (report.problems, report.entries, report.uncovered) == ((), 7, 0)
    assert not any(b"secretive" in line for line in lines)
    for index in range(1, len(lines)):
        assert not verify_export([*lines[:index], *lines[index + 1 :]], keys).intact
    altered = [line.replace(b"ci-bot", b"ci-bat") for line in lines]
    assert not verify_export(altered, keys).intact


async def test_an_export_says_what_no_checkpoint_covers_yet(tmp_path: Path) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        await recorder.checkpoint()
        await keep(recorder, "one", "two")
        lines = list(export(tmp_path / "record", Filters()))
    report = verify_export(lines, load_or_create(tmp_path, now()).public_keys())
    assert (report.intact, report.entries, report.uncovered) == (True, 2, 2)
