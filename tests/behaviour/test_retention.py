"""What is old is forgotten: removed and signed for, while everything else that goes is missed."""

import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from hub.audit.log import Segmentation
from hub.audit.reading import search
from hub.audit.recorder import RecorderSettings
from hub.audit.retention import Forget, Passed, Retention, due, remove, sign_for
from hub.audit.retention_notes import RETENTION
from hub.audit.segments import SEALS, retained_seals, segments
from hub.audit.signatures import Signer
from hub.audit.verify import Report, verify
from hub.domain.record import ChainLine
from hub.errors import StoreUnavailableError
from hub.stores.chain_lines import ChainLineStore
from hub.stores.database import open_database, sqlite_url
from hub.vault.key_ring import load_or_create
from tests.peers.portico import portico
from tests.peers.record_writer import entry, now, recorder_in, retire

SMALL = RecorderSettings(segmentation=Segmentation(segment_bytes=4096, step_bytes=16 * 1024))


async def written(data: Path, count: int = 40) -> str:
    """A closed chain of some small segments, covered by a checkpoint."""
    async with recorder_in(data, settings=SMALL).running() as recorder:
        for number in range(count):
            await recorder.append(entry(f"call-{number}"))
        assert recorder.head is not None
        return recorder.head.writer


def retention(
    data: Path, *, passed: Passed | None = None, forget: Forget | None = None
) -> Retention:
    """As it is two days from now, when one day is kept."""
    return Retention(
        data / "record",
        days=1,
        signer=load_or_create(data, now()).signer(),
        now=lambda: now() + timedelta(days=2),
        passed=passed,
        forget=forget,
    )


def passed_up_to(places: Mapping[str, int]) -> Passed:
    async def passed() -> Mapping[str, int]:
        return places

    return passed


def verified(data: Path) -> Report:
    return verify(data / "record", public_keys=load_or_create(data, now()).public_keys())


def numbers(data: Path, writer: str) -> list[int]:
    return [number for number, _ in segments(data / "record", writer)]


async def test_old_segments_go_their_seals_stay_and_verification_says_so(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    total = len(numbers(tmp_path, writer))
    assert total > 3
    assert await retention(tmp_path).apply() == total
    assert numbers(tmp_path, writer) == []
    assert len(retained_seals(tmp_path / "record", writer)) == total
    report = verified(tmp_path)
    assert report.intact
    (chain,) = report.writers
    assert (chain.retired_segments, chain.entries) == (total, 0)
    assert chain.retired_lines > 30
    assert report.retained_since > "2026"
    assert await retention(tmp_path).apply() == 0
    shown = await portico("audit", "verify", data=tmp_path)
    assert shown["intact"]
    assert shown["writers"][0]["retired_segments"] == total


async def test_what_is_young_stays(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    before = numbers(tmp_path, writer)
    assert retire(tmp_path, now() - timedelta(hours=1)) == 0
    assert numbers(tmp_path, writer) == before
    assert not (tmp_path / "record" / RETENTION).exists()


async def test_what_is_still_written_stays(tmp_path: Path) -> None:
    async with recorder_in(tmp_path, settings=SMALL).running() as recorder:
        for number in range(30):
            await recorder.append(entry(f"call-{number}"))
        await recorder.checkpoint()
        assert recorder.head is not None
        writer = recorder.head.writer
        last = numbers(tmp_path, writer)[-1]
        assert await retention(tmp_path).apply() == last - 1
        assert numbers(tmp_path, writer) == [last]
        await recorder.append(entry("after"))
    assert verified(tmp_path).intact
    assert next(iter(search(tmp_path / "record"))).entry.call == "after"


async def test_what_no_checkpoint_covers_stays(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    before = numbers(tmp_path, writer)
    (tmp_path / "record" / "checkpoints.jsonl").unlink()
    assert await retention(tmp_path).apply() == 0
    assert numbers(tmp_path, writer) == before


async def test_what_a_projection_has_not_taken_in_stays(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    everything = list(search(tmp_path / "record"))
    total = len(numbers(tmp_path, writer))
    assert await retention(tmp_path, passed=passed_up_to({})).apply() == 0
    middle = everything[len(everything) // 2].sequence
    removed = await retention(tmp_path, passed=passed_up_to({writer: middle})).apply()
    assert 0 < removed < total - 1
    left = list(search(tmp_path / "record"))
    assert min(each.sequence for each in left) <= middle + 1
    assert {each.sequence for each in everything if each.sequence > middle} <= {
        each.sequence for each in left
    }
    last = everything[0].sequence
    assert await retention(tmp_path, passed=passed_up_to({writer: last})).apply() == total - removed
    assert verified(tmp_path).intact


async def test_a_projection_that_cannot_tell_keeps_everything_and_ends_nothing(
    tmp_path: Path,
) -> None:
    writer = await written(tmp_path)
    before = numbers(tmp_path, writer)
    asked = anyio.Event()

    async def passed() -> Mapping[str, int]:
        asked.set()
        raise StoreUnavailableError("the database is away")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(retention(tmp_path, passed=passed).run)
        with anyio.fail_after(5):
            await asked.wait()
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert numbers(tmp_path, writer) == before


async def test_copies_in_the_database_are_forgotten_as_well(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    async with open_database(sqlite_url(tmp_path)) as database:
        store = ChainLineStore(database)
        lines = [
            ChainLine(writer, number, "seal" if b'"seal":{' in text[:40] else "entry", text)
            for _, path in segments(tmp_path / "record", writer)
            for number, text in ((_number(text), text) for text in path.read_bytes().splitlines())
        ]
        await store.keep(lines)
        assert await retention(tmp_path, forget=store.forget).apply() > 0
        assert {line.kind for line in await store.read(writer)} == {"seal"}


def _number(text: bytes) -> int:
    return int(text[len(b'{"n":') : text.index(b",")])


async def test_a_crash_at_any_step_is_made_good_and_no_tampering(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    record, signer = tmp_path / "record", load_or_create(tmp_path, now()).signer()
    total = len(numbers(tmp_path, writer))
    limit = now() + timedelta(days=1)
    found = due(record, limit, public_key=signer.public_key)
    sign_for(record, found, limit, signer=signer, at=now())
    found[0].path.unlink()  # and then the machine stopped
    assert verified(tmp_path).intact
    with (record / RETENTION).open("ab") as file:
        file.write(b'{"number":2,"at":"20')
    assert verified(tmp_path).intact
    assert await retention(tmp_path).apply() == total - 1
    assert (record / RETENTION).read_bytes().count(b"\n") == 1
    second = await written(tmp_path)
    assert await retention(tmp_path).apply() == len(retained_seals(record, second))
    assert (record / RETENTION).read_bytes().count(b"\n") == 2
    assert verified(tmp_path).intact


def _take_away(record: Path, writer: str) -> None:
    segments(record, writer)[0][1].unlink()


def _take_away_and_keep_its_seal(record: Path, writer: str) -> None:
    _, path = segments(record, writer)[0]
    with (record / writer / SEALS).open("ab") as file:
        file.write(path.read_bytes().splitlines(keepends=True)[-1])
    path.unlink()


def _withdraw_the_note(record: Path, _: str) -> None:
    (record / RETENTION).unlink()


def _note_it_with_another_key(record: Path, writer: str) -> None:
    stranger = load_or_create(record.parent / "stranger", now()).signer()
    _, path = segments(record, writer)[0]
    found = due(record, now() + timedelta(days=1), public_key=_own(record).public_key)[:1]
    sign_for(record, found, now(), signer=stranger, at=now())
    path.unlink()


def _own(record: Path) -> Signer:
    return load_or_create(record.parent, now()).signer()


@pytest.mark.parametrize(
    ("tamper", "kind"),
    [
        (_take_away, "missing_segment"),
        (_take_away_and_keep_its_seal, "missing_segment"),
        (_withdraw_the_note, "missing_segment"),
        (_note_it_with_another_key, "signature"),
    ],
)
async def test_what_goes_without_retentions_note_is_found(
    tmp_path: Path, tamper: Callable[[Path, str], None], kind: str
) -> None:
    writer = await written(tmp_path)
    record = tmp_path / "record"
    before = due(record, now(), public_key=_own(record).public_key)[1]
    passed = passed_up_to({writer: before.retired.first - 1})
    assert await retention(tmp_path, passed=passed).apply() == 1
    assert verified(tmp_path).intact
    tamper(record, writer)
    assert kind in {finding.kind for finding in verified(tmp_path).findings}


async def test_what_was_put_back_from_a_backup_is_verified_again(tmp_path: Path) -> None:
    writer = await written(tmp_path)
    aside = tmp_path / "aside"
    shutil.copytree(tmp_path / "record" / writer, aside)
    assert await retention(tmp_path).apply() > 0
    shutil.copytree(aside, tmp_path / "record" / writer, dirs_exist_ok=True)
    assert verified(tmp_path).intact
    assert len(list(search(tmp_path / "record"))) == 40
    path = tmp_path / "record" / writer / "000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"ci-bot", b"ci-bat", 1))
    assert not verified(tmp_path).intact


async def test_readers_are_not_disturbed_by_what_goes_meanwhile(tmp_path: Path) -> None:
    for _ in range(4):
        await written(tmp_path)
    found = search(tmp_path / "record")
    next(found)
    went = threading.Event()
    reports: list[Report] = []

    def keep_verifying() -> None:
        while not went.is_set():
            reports.append(verified(tmp_path))

    def go_one_by_one() -> None:
        signer, limit = _own(tmp_path / "record"), now() + timedelta(days=1)
        while found := due(tmp_path / "record", limit, public_key=signer.public_key)[:1]:
            sign_for(tmp_path / "record", found, limit, signer=signer, at=now())
            remove(found)
        went.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, keep_verifying)
        tasks.start_soon(to_thread.run_sync, go_one_by_one)
    assert [report.findings for report in reports if not report.intact] == []
    assert len(reports) > 1
    assert len(list(found)) < 160
    assert verified(tmp_path).intact
