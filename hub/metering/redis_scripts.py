"""The two scripts that count in Redis, and what they are told, encoded.

Keys begin with ``{prefix}:`` and the id of their epoch, so that counts from before a loss are never
mixed with those after it; the braces keep all of them in one hash slot. Every key runs out by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from math import inf
from pathlib import Path
from typing import Final

from msgspec import Struct

from hub.domain.metering import Counter, Hold
from hub.metering.pacing import depth_us, interval_us
from hub.metering.periods import span_s
from hub.metering.redis_connection import word

TAKE: Final = Path(__file__).with_name("take.lua").read_bytes()
POST: Final = Path(__file__).with_name("post.lua").read_bytes()

_LETTERS: Final = {"rate": "r", "quota": "q", "concurrency": "c", "budget": "b"}
_KEEP_S: Final = 86_400
"""How long the counts of a period outlive it, for calls that end after it."""
_REMEMBERED: Final = 20_000


class Epoch(Struct, frozen=True):
    """One unbroken life of the counts in one server."""

    id: str
    run_id: str
    """Of the server it was made in: another one has lost something, even if it kept the key."""
    empty_us: int = 0
    """When buckets that must never run over were empty, as an epoch before was lost; 0: never."""

    @property
    def value(self) -> str:
        """As Redis keeps it."""
        return f"{self.id}:{self.run_id}:{self.empty_us}"


def epoch_of(value: object) -> Epoch | None:
    """What :attr:`Epoch.value` was made of; None where there is nothing, or nothing of ours."""
    parts = value.decode(errors="replace").split(":") if isinstance(value, bytes) else []
    if len(parts) != 3 or not parts[2].isdigit():
        return None
    return Epoch(parts[0], parts[1], int(parts[2]))


class Debt(Struct, kw_only=True):
    """What was used of a quota or budget in a period, and Redis has to be told of."""

    counter: Counter
    at: float
    """A moment of the period, in seconds since the epoch."""
    used: int = 0


class Prepared:
    """A counter in a period of its own, as the scripts are told of it."""

    __slots__ = ("counter", "end", "key", "period", "seen", "start", "told")

    def __init__(self, counter: Counter, at: float, epoch: Epoch, space: str) -> None:
        self.counter = counter
        self.start, self.end = -inf, inf
        self.period = b""
        """Start and end of the period, seconds to keep it, field in the spent hash."""
        self.seen = 0
        """What was used of it, by everybody, when it was last heard of."""
        letter = _LETTERS[counter.kind]
        name = f"{space}{epoch.id}:{letter}:{counter.key}"
        more = _words("", "", "", "")
        if counter.kind == "rate":
            depth = depth_us(counter)
            is_strict = epoch.empty_us and counter.on_outage == "refuse"
            begins = epoch.empty_us + depth if is_strict else 0
            more = _words(interval_us(counter), depth, begins, "")
        elif counter.period is not None:
            self.start, self.end = span_s(counter.period, at)
            name = f"{name}:{self.start}"
            keep = int(self.end - at) + _KEEP_S
            more = self.period = _words(self.start, self.end, keep, counter.key)
        self.key = word(name)
        shown = letter if counter.blocks else letter.upper()
        self.told = b"%b%b%b" % (word(shown), word(counter.amount), more)

    def fits(self, counter: Counter, at: float) -> bool:
        """Whether this is that counter in the period of that moment."""
        is_same = self.counter is counter or self.counter == counter
        return is_same and self.start <= at < self.end

    def is_same_count(self, counter: Counter, at: float) -> bool:
        """The same for one that was written anew: another amount, or one that no longer denies."""
        return self.counter.period == counter.period and self.start <= at < self.end


class Scripts:
    """Commands for one epoch; remembers how counters are encoded."""

    def __init__(self, prefix: str, process: str, lease_s: float, alive_s: float) -> None:
        self.space = f"{{{prefix}}}:"
        self._epoch = Epoch("", "")
        self._known: dict[str, Prepared] = {}
        self._heads: dict[int, bytes] = {}
        self._epoch_key = word(f"{self.space}epoch")
        self._lease = word(int(lease_s * 1000))
        self._alive = word(int(alive_s * 1000))
        self._process = word(process)
        self._value = b""
        # What a script is known by; nothing is secured by it.
        self._shas = [sha1(text, usedforsecurity=False).hexdigest() for text in (TAKE, POST)]

    def enter(self, epoch: Epoch, *, is_open: bool) -> None:
        """Speak of this epoch from now on; one that is not open yet is being made."""
        self._epoch = epoch
        self._value = word(epoch.value if is_open else "")
        self._known = {}

    def prepared(self, counter: Counter, at: float) -> Prepared:
        """A counter in the period of a moment."""
        known = self._known.get(counter.key)
        if known is not None and known.fits(counter, at):
            return known
        prepared = Prepared(counter, at, self._epoch, self.space)
        if known is not None and known.is_same_count(counter, at):
            prepared.seen = known.seen
        if known is None or known.start <= prepared.start:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[counter.key] = prepared
        return prepared

    def recollection(self) -> Callable[[Counter, float], int]:
        """What everybody together had used of a counter when it was last heard of, as of now."""
        remembered = self._known

        def seen(counter: Counter, at: float) -> int:
            known = remembered.get(counter.key)
            return known.seen if known is not None and known.is_same_count(counter, at) else 0

        return seen

    def take(self, hold: Hold) -> tuple[bytes, list[Prepared]]:
        """The command that takes ``hold``, and its counters."""
        at = hold.at
        prepared = [self.prepared(counter, at) for counter in hold.counters]
        count = len(prepared)
        head = self._heads.get(count)
        if head is None:
            head = self._heads[count] = self._head(self._shas[0], count + 1, 4 + 6 * count)
        parts = [head]
        parts += [one.key for one in prepared]
        parts += (self._value, word(hold.id), word(hold.micro), self._lease)
        parts += [one.told for one in prepared]
        return b"".join(parts), prepared

    def post(self, number: int, told: Sequence[tuple[int, bytes]], *, leaves: bool) -> bytes:
        """The command that applies a batch of encoded words, told with how many they are."""
        words = [
            self._head(self._shas[1], 1, 6 + sum(count for count, _ in told)),
            self._value,
            word(f"{self.space}{self._epoch.id}"),
            self._process,
            word(number),
            self._lease,
            word(0) if leaves else self._alive,
        ]
        words += [encoded for _, encoded in told]
        return b"".join(words)

    def settled(self, hold: Hold, micro: int) -> Iterator[tuple[int, bytes]]:
        """A call has ended that Redis knew of."""
        for counter in hold.counters:
            if counter.kind == "concurrency":
                key = self.prepared(counter, hold.at).key
                yield 3, b"%b%b%b" % (_FREE, key, word(hold.id))
            elif counter.kind == "budget" and (micro or hold.micro):
                one = self.prepared(counter, hold.at)
                told = (_SPEND, one.key, _words(hold.id, hold.micro, micro), one.period)
                yield 9, b"".join(told)

    def held(self, hold: Hold, *, is_new: bool) -> Iterator[tuple[int, bytes]]:
        """A call is under way; ``is_new``: Redis has not heard of it."""
        for counter in hold.counters:
            one = self.prepared(counter, hold.at)
            if counter.kind == "concurrency":
                yield 3, b"%b%b%b" % (_HOLD, one.key, word(hold.id))
            elif counter.kind == "budget" and hold.micro:
                yield 8, b"".join((_RESERVE, one.key, _words(hold.id, hold.micro), one.period))
            elif counter.kind == "quota" and is_new:
                yield 7, b"".join((_COUNT, one.key, word(1), one.period))

    def owed(self, debt: Debt) -> tuple[int, bytes]:
        """What was used of a counter elsewhere."""
        one = self.prepared(debt.counter, debt.at)
        one.seen += debt.used
        if debt.counter.kind == "quota":
            return 7, b"".join((_COUNT, one.key, word(debt.used), one.period))
        return 9, b"".join((_SPEND, one.key, _words("", 0, debt.used), one.period))

    def _head(self, sha: str, keys: int, arguments: int) -> bytes:
        begin = b"*%d\r\n%b%b%b" % (3 + keys + arguments, word("EVALSHA"), word(sha), word(keys))
        return begin + self._epoch_key


def _words(*values: bytes | str | int) -> bytes:
    return b"".join([word(value) for value in values])


_FREE, _HOLD, _SPEND, _RESERVE, _COUNT = (word(letter) for letter in "fhsrq")
