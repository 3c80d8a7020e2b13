"""Reading the record back: the last entries, searching, following, and catching up.

Readers take no lock and see whatever is written; they do not verify.
"""

import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import anyio
import msgspec
from msgspec import Struct

from hub.audit.chain_reader import ChainReader
from hub.audit.frontier import Frontier
from hub.audit.lines import Line, decode_entry, parse
from hub.audit.segments import lines_backwards, seal_of, segments, writers
from hub.domain.record import Entry, EntryOutcome


class Recorded(Struct, frozen=True, kw_only=True):
    """An entry and where it stands; ``hash`` is its chain hash, hexadecimal."""

    writer: str
    sequence: int
    hash: str
    entry: Entry


class Filters(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which entries are wanted; empty means any. All that are given must hold."""

    tenant: str = ""
    principal: str = ""
    capability: str = ""
    """Exposed or original name, or ``upstream/original``."""
    virtual_server: str = ""
    outcome: EntryOutcome | None = None
    call: str = ""
    since: datetime | None = None
    """Arrived at or after; ``until``: before."""
    until: datetime | None = None
    text: str = ""
    """Occurs anywhere in the entry, letter for letter."""

    def admit(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        return (
            (not self.tenant or entry.tenant == self.tenant)
            and (not self.principal or entry.principal == self.principal)
            and (not self.virtual_server or entry.virtual_server == self.virtual_server)
            and (self.outcome is None or entry.outcome == self.outcome)
            and (not self.call or entry.call == self.call)
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
            and (not self.capability or self.capability in _names(entry))
        )

    def needle(self) -> bytes:
        """What the line of an entry must contain."""
        return msgspec.json.encode(self.text)[1:-1]


ANY = Filters()


def tail(record: Path, count: int, filters: Filters = ANY) -> list[Recorded]:
    """The last entries of all chains, newest first."""
    return list(islice(search(record, filters), count))


def search(record: Path, filters: Filters = ANY) -> Iterator[Recorded]:
    """Entries of all chains, newest first by the moment they were recorded; read as they are taken."""
    # Chains nobody has looked into yet stand in the heap with the latest moment they can hold.
    heap: list[tuple[float, str, Recorded | None, Iterator[Recorded]]] = []
    for writer in writers(record):
        latest = _last_written(record, writer)
        if latest is not None:
            heapq.heappush(heap, (-latest, writer, None, _backwards(record, writer, filters)))
    while heap:
        _, writer, recorded, following = heapq.heappop(heap)
        if recorded is not None:
            yield recorded
        further = next(following, None)
        if further is not None:
            heapq.heappush(heap, (-_moment(further.entry), writer, further, following))


def entries_since(record: Path, writer: str, sequence: int) -> Iterator[Recorded]:
    """Entries of one chain after a line that is known, in order: what a projection catches up with."""
    with ChainReader(record, writer, sequence) as reader:
        while lines := reader.read():
            for line in lines:
                recorded = _recorded(writer, parse(line.text))
                if recorded is not None:
                    yield recorded


async def follow(
    record: Path, filters: Filters = ANY, *, every_s: float = 0.25
) -> AsyncIterator[Recorded]:
    """Entries as they are recorded from now on, by any process; in order within a chain.

    Looks every ``every_s``: chains belong to other processes, and files do not call back.
    """
    frontier, needle = Frontier(record), filters.needle()
    readers: dict[str, ChainReader] = {}
    with ExitStack() as opened:
        for writer in writers(record):
            head = frontier.head(writer)
            reader = ChainReader(record, writer, 0 if head is None else head.sequence)
            readers[writer] = opened.enter_context(reader)
        while True:
            for writer in writers(record):
                if writer not in readers:
                    readers[writer] = opened.enter_context(ChainReader(record, writer))
            for writer, reader in readers.items():
                for line in reader.read():
                    recorded = _recorded(writer, parse(line.text))
                    if recorded and needle in line.text and filters.admit(recorded.entry):
                        yield recorded
            await anyio.sleep(every_s)


def _backwards(record: Path, writer: str, filters: Filters) -> Iterator[Recorded]:
    needle = filters.needle()
    for _, path in reversed(segments(record, writer)):
        if _is_outside(path, filters):
            continue
        for text in lines_backwards(path):
            if needle not in text:
                continue
            recorded = _recorded(writer, parse(text))
            if recorded is not None and filters.admit(recorded.entry):
                yield recorded


def _recorded(writer: str, line: Line | None) -> Recorded | None:
    if line is None or line.kind != "entry":
        return None
    try:
        entry = decode_entry(line)
    except ValueError:  # written by a newer version
        return None
    return Recorded(writer=writer, sequence=line.sequence, hash=line.hash.hex(), entry=entry)


def _is_outside(path: Path, filters: Filters) -> bool:
    """Whether a segment's seal rules out that it holds anything of the wanted time."""
    if filters.since is None and filters.until is None:
        return False
    sealed = seal_of(path)
    if sealed is None:
        return False
    return (filters.since is not None and sealed[1].ended < filters.since) or (
        filters.until is not None and sealed[1].began >= filters.until
    )


def _last_written(record: Path, writer: str) -> float | None:
    """When a chain was last written to, seconds since 1970; None where no segment is left."""
    present = segments(record, writer)
    return present[-1][1].stat().st_mtime if present else None


def _moment(entry: Entry) -> float:
    """When an entry was recorded: when its call ended."""
    return (entry.at.astimezone(UTC) + timedelta(microseconds=entry.duration_us)).timestamp()


def _names(entry: Entry) -> tuple[str, ...]:
    return (entry.target, entry.original, f"{entry.upstream}/{entry.original}")
