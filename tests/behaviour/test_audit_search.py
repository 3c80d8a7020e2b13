"""Finding entries: by every filter, page by page, without reading what cannot hold any."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio import run_process

from hub.audit.log import Segmentation
from hub.audit.pages import page
from hub.audit.reading import Filters, Recorded, search
from hub.audit.recorder import Recorder, RecorderSettings
from hub.audit.segments import seal_of, segments
from tests.peers.clients import connected
from tests.peers.portico import PORTICO, portico, running_portico
from tests.peers.record_writer import entry, recorder_in
from tests.peers.running import modern_server

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SMALL = RecorderSettings(segmentation=Segmentation(segment_bytes=4096, step_bytes=16 * 1024))
AWKWARD = 'says "no"\\ to\nthé 漢字/\x01'


def clock() -> datetime:
    """Later than all that is recorded."""
    return START + timedelta(days=1)


async def keep(recorder: Recorder, number: int, **fields: Any) -> None:
    """The entry of call ``number``, which arrived that many minutes after the start."""
    at = START + timedelta(minutes=number)
    await recorder.append(entry(f"call-{number}", at=at, duration_us=0, **fields))


async def varied(data: Path) -> Path:
    """Entries that differ in everything one can ask for; the record."""
    async with recorder_in(data, settings=SMALL, now=clock).running() as recorder:
        for number in range(60):
            await keep(
                recorder,
                number,
                principal=("ann", "bob", AWKWARD)[number % 3],
                groups=frozenset(("support", "ops", AWKWARD)[: number % 4]),
                tenant="acme" if number < 10 else "default",
                virtual_server="dev" if number % 2 else "prod",
                target=("find_order", "file:///a/b", AWKWARD, "")[number % 4],
                original=("get_order", "file:///a/b", "x/y", "")[number % 4],
                upstream=("orders", "files", "odd", "")[number % 4],
                outcome="refused" if number % 5 == 0 else "ok",
                rules=((), ("burst=refuse",), ("no-secrets=redact", "burst-2=monitor"))[number % 3],
                reason=AWKWARD if number == 9 else "",
            )
    return data / "record"


def calls(found: Iterator[Recorded] | list[Recorded]) -> list[str]:
    return [each.entry.call for each in found]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(principal="ann"), 20),
        (Filters(principal=AWKWARD), 20),
        (Filters(principal="an"), 0),
        (Filters(group="support"), 45),
        (Filters(group=AWKWARD), 15),
        (Filters(group="supp"), 0),
        (Filters(virtual_server="dev"), 30),
        (Filters(capability="find_order"), 15),
        (Filters(capability="get_order"), 15),
        (Filters(capability="orders/get_order"), 15),
        (Filters(capability="orders/get"), 0),
        (Filters(capability="file:///a/b"), 15),
        (Filters(capability="files/file:///a/b"), 15),
        (Filters(capability="odd/x/y"), 15),
        (Filters(capability=AWKWARD), 15),
        (Filters(outcome="refused"), 12),
        (Filters(rule="burst"), 20),
        (Filters(rule="burst=refuse"), 20),
        (Filters(rule="burst=monitor"), 0),
        (Filters(rule="burst-2"), 20),
        (Filters(rule="no-secrets=redact"), 20),
        (Filters(rule="no-secrets", group="ops", virtual_server="prod"), 5),
        (Filters(tenant="acme"), 10),
        (Filters(call="call-12"), 1),
        (Filters(text=AWKWARD, call="call-9"), 1),
        (Filters(text="unheard of"), 0),
        (Filters(since=START + timedelta(minutes=50)), 10),
        (Filters(until=START + timedelta(minutes=3)), 3),
    ],
    ids=lambda value: repr(value) if isinstance(value, Filters) else None,
)
async def test_every_filter_finds_what_it_admits_and_nothing_else(
    tmp_path: Path, filters: Filters, expected: int
) -> None:
    record = await varied(tmp_path)
    everything = list(search(record))
    assert len(everything) == 60
    found = calls(search(record, filters))
    if not filters.text:
        assert found == [one.entry.call for one in everything if filters.admit(one.entry)]
    assert len(found) == expected


async def test_pages_go_on_where_they_ended_whatever_is_recorded_meanwhile(tmp_path: Path) -> None:
    record = tmp_path / "record"
    numbers = count()
    filters = Filters(principal="ann")
    async with (
        recorder_in(tmp_path, settings=SMALL, now=clock).running() as one,
        recorder_in(tmp_path, settings=SMALL, now=clock).running() as two,
    ):
        for _ in range(120):
            number = next(numbers)
            who = "ann" if number % 3 else "bob"
            await keep(one if number % 7 < 4 else two, number, principal=who)
        expected = calls(search(record, filters))
        assert len(expected) == 80
        assert expected == sorted(expected, key=lambda call: -int(call[5:]))
        shown: list[str] = []
        cursor, pages = "", 0
        while True:
            found = page(record, filters, 7, cursor)
            shown += calls(list(found.items))
            pages += 1
            cursor = found.cursor
            if not cursor:
                break
            await keep(one, next(numbers), principal="ann")
            async with recorder_in(tmp_path, settings=SMALL, now=clock).running() as later:
                await keep(later, next(numbers), principal="ann")
        assert shown == expected
        assert pages == 12
        assert len(cursor) < 2000


async def test_a_page_that_holds_all_has_no_cursor_and_nonsense_is_none(tmp_path: Path) -> None:
    record = await varied(tmp_path)
    assert page(record, Filters(), 61).cursor == ""
    whole = page(record, Filters(), 60)
    assert page(record, Filters(), 60, whole.cursor).items == []
    for nonsense in ("x", "é", "AAAA", whole.cursor[:-9]):
        with pytest.raises(ValueError, match="cursor"):
            page(record, Filters(), 5, nonsense)


def bytes_read() -> int:
    counters = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in counters if line.startswith("rchar")).split()[1])


async def test_segments_outside_the_wanted_time_are_not_read(tmp_path: Path) -> None:
    moment = START
    large = RecorderSettings(
        segmentation=Segmentation(segment_bytes=1024 * 1024, step_bytes=1024 * 1024)
    )
    async with recorder_in(tmp_path, settings=large, now=lambda: moment).running() as recorder:
        for number in range(24_000):
            moment = START + timedelta(seconds=number)
            durable = recorder.append(entry(f"call-{number}", at=moment, duration_us=0))
            if number % 100 == 0:
                await durable
    record = tmp_path / "record"
    (writer,) = {path.name for path in record.iterdir() if path.is_dir()}
    present = [path for _, path in segments(record, writer)]
    assert len(present) > 6
    sealed = seal_of(present[3])
    assert sealed is not None
    seal = sealed[1]
    wanted = Filters(since=seal.began, until=seal.began + timedelta(seconds=5))
    before = bytes_read()
    assert len(list(search(record, wanted))) == 5
    assert bytes_read() - before < 4 * 1024 * 1024  # two segments, and the ends of the others
    before = bytes_read()
    whole = page(record, Filters(), 3)
    far = page(record, Filters(), 3, whole.cursor)
    assert calls(list(far.items)) == [f"call-{number}" for number in (23_996, 23_995, 23_994)]
    assert bytes_read() - before < 2 * 1024 * 1024


async def test_the_command_line_and_the_api_ask_the_same_way(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    data = tmp_path / "data"
    with modern_server() as upstream:
        config = f'version: 1\nupstreams: {{modern: {{url: "{upstream.url}"}}}}\n'
        async with running_portico(data, config=config) as hub:
            async with connected(hub.url, "modern") as client:
                for text in ("one", "two", "three"):
                    await client.call_tool("echo", {"text": text})
            asked = ["audit", "search", "--capability", "echo", "--virtual-server", "default"]
            first = await portico(*asked, "-n", "2", data=data)
            rest = await portico(*asked, "--cursor", first["cursor"], data=data)
            assert (len(first["items"]), len(rest["items"]), rest["cursor"]) == (2, 1, "")
            arrived = [entry["at"] for entry in (*first["items"], *rest["items"])]
            assert arrived == sorted(arrived, reverse=True)
            answer = await http.get(
                f"{hub.origin}/api/audit/entries",
                params={"capability": "echo", "limit": 2},
                headers=hub.admin_headers,
            )
            assert [one["call"] for one in answer.json()["items"]] == [
                one["call"] for one in first["items"]
            ]
            nothing = await http.get(
                f"{hub.origin}/api/audit/entries",
                params={"rule": "none=block", "group": "support"},
                headers=hub.admin_headers,
            )
            assert nothing.json() == {"items": [], "cursor": ""}
            refused = await http.get(
                f"{hub.origin}/api/audit/entries",
                params={"cursor": "nonsense"},
                headers=hub.admin_headers,
            )
            assert refused.status_code == 400
            words = ["audit", "tail", "--outcome", "ok", "-n", "2", "--data", str(data)]
            shown = await run_process([PORTICO, *words])
            assert shown.stdout.decode().splitlines()[0].split() == [
                "AT", "PRINCIPAL", "OPERATION", "TARGET", "OUTCOME", "RULES", "MS", "CALL",
            ]  # fmt: skip
            assert b"--cursor" in shown.stderr
