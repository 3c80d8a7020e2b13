"""Reading the record back: the last entries, searching, following, and catching up.

Readers take no lock and see whatever is written; they do not verify.
"""

import heapq
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Literal

import anyio
import msgspec
from msgspec import Struct

from hub.audit.chain_reader import ChainReader
from hub.audit.frontier import Frontier
from hub.audit.lines import Line, decode_entry, parse
from hub.audit.scanning import matching_backwards
from hub.audit.segments import seal_of, segments, writers
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
    group: str = ""
    """One of the groups that the principal was in."""
    capability: str = ""
    """Exposed or original name, or ``upstream/original``."""
    virtual_server: str = ""
    outcome: EntryOutcome | None = None
    rule: str = ""
    """A guardrail, limit or budget that acted: its name, or ``name=action``."""
    call: str = ""
    since: datetime | None = None
    """Arrived at or after; ``until``: before."""
    until: datetime | None = None
    text: str = ""
    """Occurs anywhere in the entry, letter for letter."""

    def admit(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        return (
            all(getattr(entry, name) == value for name, value in self._equal())
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
            and (not self.group or self.group in entry.groups)
            and (not self.capability or self.capability in _names(entry))
            and (not self.rule or any(_is_of(note, self.rule) for note in entry.rules))
        )

    def needle(self) -> bytes:
        """What the line of an entry must contain for its text."""
        return _quoted(self.text)[1:-1]

    def needles(self) -> tuple[bytes, ...]:
        """What lines of wanted entries contain; lines without all of it need no closer look."""
        found = [b'"%b":%b' % (name.encode(), _quoted(value)) for name, value in self._equal()]
        if self.group:
            found.append(_quoted(self.group))
        if self.capability:  # whichever of its names it is, it ends so
            found.append(_quoted(self.capability.partition("/")[2] or self.capability)[1:])
        if self.rule:
            found.append(_quoted(self.rule) if "=" in self.rule else _quoted(self.rule + "=")[:-1])
        if self.text:
            found.append(self.needle())
        return tuple(found)

    def _equal(self) -> list[tuple[str, str]]:
        """Members of an entry that must have a value, and the value."""
        wanted = (
            ("tenant", self.tenant),
            ("principal", self.principal),
            ("virtual_server", self.virtual_server),
            ("outcome", self.outcome),
            ("call", self.call),
        )
        return [(name, value) for name, value in wanted if value]


ANY = Filters()


class Place(Struct, frozen=True, kw_only=True):
    """How far a search has come, for one that goes on from there."""

    as_of: float
    """The moment of the newest entry that was found, seconds since 1970."""
    before: Mapping[str, int]
    """Chain -> the number that lines still wanted are below of; chains not looked into are absent."""


class Search:
    """Entries of all chains, newest first by the moment they were recorded; read as they are taken.

    What is recorded while a search goes on is not part of it.
    """

    def __init__(self, record: Path, filters: Filters = ANY, place: Place | None = None) -> None:
        """``place``: where an earlier one with the same filters had come to."""
        self._record = record
        self._filters = filters
        self._as_of = place.as_of if place is not None else None
        self._before = dict(place.before) if place is not None else {}
        # Chains nobody has looked into yet stand in the heap with the latest moment they can hold.
        self._heap: list[tuple[float, str, Recorded | None, Iterator[Recorded]]] = []
        self._current: tuple[str, Iterator[Recorded]] | None = None
        for writer in writers(record):
            latest = _last_written(record, writer)
            if latest is not None and self._before.get(writer) != 0:
                heapq.heappush(self._heap, (-latest, writer, None, self._chain(writer)))

    def __iter__(self) -> Iterator[Recorded]:
        return self

    def __next__(self) -> Recorded:
        self._advance()
        while self._heap:
            _, writer, recorded, following = heapq.heappop(self._heap)
            self._current = (writer, following)
            if recorded is not None:
                self._before[writer] = recorded.sequence
                if self._as_of is None:
                    self._as_of = _moment(recorded.entry)
                return recorded
            self._advance()
        raise StopIteration

    @property
    def place(self) -> Place | None:
        """Where another search would go on; None where nothing was found yet, or nothing is left."""
        if self._as_of is None or (self._current is None and not self._heap):
            return None
        return Place(as_of=self._as_of, before=dict(self._before))

    def _advance(self) -> None:
        """The next entry of the chain that was taken from last goes into the heap."""
        if self._current is None:
            return
        (writer, following), self._current = self._current, None
        further = next(following, None)
        if further is None:
            self._before[writer] = 0
            return
        self._before[writer] = further.sequence + 1
        heapq.heappush(self._heap, (-_moment(further.entry), writer, further, following))

    def _chain(self, writer: str) -> Iterator[Recorded]:
        before = self._before.get(writer)
        found = _backwards(self._record, writer, self._filters, before)
        as_of = self._as_of
        if before is not None or as_of is None:
            return found
        return (each for each in found if _moment(each.entry) <= as_of)


def tail(record: Path, count: int, filters: Filters = ANY) -> list[Recorded]:
    """The last entries of all chains, newest first."""
    return list(islice(search(record, filters), count))


def search(record: Path, filters: Filters = ANY) -> Iterator[Recorded]:
    """Entries of all chains, newest first; see :class:`Search`."""
    return Search(record, filters)


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


def _backwards(
    record: Path, writer: str, filters: Filters, before: int | None
) -> Iterator[Recorded]:
    needles = filters.needles()
    for _, path in reversed(segments(record, writer)):
        try:
            where = _where(path, filters, before)
            if where == "older":
                return
            if where == "newer":
                continue
            for text in matching_backwards(path, needles, before):
                recorded = _recorded(writer, parse(text))
                if recorded is None or (before is not None and recorded.sequence >= before):
                    continue
                if filters.admit(recorded.entry):
                    yield recorded
        except FileNotFoundError:  # retention took it meanwhile, and all that is older
            return


def _recorded(writer: str, line: Line | None) -> Recorded | None:
    if line is None or line.kind != "entry":
        return None
    try:
        entry = decode_entry(line)
    except ValueError:  # written by a newer version
        return None
    return Recorded(writer=writer, sequence=line.sequence, hash=line.hash.hex(), entry=entry)


def _where(path: Path, filters: Filters, before: int | None) -> Literal["older", "newer", "wanted"]:
    """Whether a segment's seal tells that all it holds is older or newer than what is wanted."""
    if filters.since is None and filters.until is None and before is None:
        return "wanted"
    sealed = seal_of(path)
    if sealed is None:
        return "wanted"
    seal = sealed[1]
    if filters.since is not None and seal.ended < filters.since:
        return "older"
    is_newer = filters.until is not None and seal.began >= filters.until
    return "newer" if is_newer or (before is not None and seal.first >= before) else "wanted"


def _last_written(record: Path, writer: str) -> float | None:
    """When a chain was last written to, seconds since 1970; None where no segment is left."""
    present = segments(record, writer)
    try:
        return present[-1][1].stat().st_mtime if present else None
    except FileNotFoundError:  # retention took it meanwhile
        return None


def _moment(entry: Entry) -> float:
    """When an entry was recorded: when its call ended."""
    return (entry.at.astimezone(UTC) + timedelta(microseconds=entry.duration_us)).timestamp()


def _quoted(text: str) -> bytes:
    """As it stands in a line, with its quotes."""
    return msgspec.json.encode(text)


def _is_of(note: str, rule: str) -> bool:
    """Whether what an entry notes of a rule is about this one."""
    return note == rule or note.rpartition("=")[0] == rule


def _names(entry: Entry) -> tuple[str, ...]:
    return (entry.target, entry.original, f"{entry.upstream}/{entry.original}")
