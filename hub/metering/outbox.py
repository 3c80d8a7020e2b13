"""What Redis still has to be told by this process: nobody waits for it, and nothing is told twice.

A hold is *known* when Redis has it in the epoch of now, else a *stranger*: taken while Redis was
away, or before an epoch was lost. What strangers have used when they end is *owed*, added up by
counter. Batches are numbered; Redis applies each number of a process once, so that a batch whose
answer was lost is simply sent again.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from hub.domain.metering import CounterKind, Hold
from hub.metering.redis_connection import RedisError, Reply
from hub.metering.redis_scripts import Debt, Scripts

BATCH = 200
"""Calls told of in one batch: Redis serves nobody else while it applies one."""


class Batch:
    """What is told at once. Is told of the answer itself."""

    def __init__(self, number: int, done: "Callable[[Batch, Reply | RedisError], None]") -> None:
        self.number = number
        self.settled: list[tuple[Hold, int]] = []
        self.held: list[Hold] = []
        self.are_new = False
        """Those held are strangers until now."""
        self.owed: list[Debt] = []
        self.leaves = False
        self._done = done

    def answered(self, reply: Reply | RedisError) -> None:
        """Redis has applied it, or not."""
        self._done(self, reply)

    def told(self, scripts: Scripts) -> Iterator[tuple[int, bytes]]:
        """Its words, encoded."""
        for debt in self.owed:
            yield scripts.owed(debt)
        for hold, micro in self.settled:
            yield from scripts.settled(hold, micro)
        for hold in self.held:
            yield from scripts.held(hold, is_new=self.are_new)


class Outbox:
    """Holds of this process, and what Redis does not know of them."""

    def __init__(self, scripts: Scripts, refused: Callable[[Reply | RedisError], object]) -> None:
        """``refused`` is told of each batch that Redis has not applied."""
        self._scripts = scripts
        self._refused = refused
        self._holds: dict[str, Hold] = {}
        self._strangers: dict[str, Hold] = {}
        self._settled: list[tuple[Hold, int]] = []
        self._owed: dict[tuple[CounterKind, str, float], Debt] = {}
        self._sent: deque[Batch] = deque()
        self._number = 0
        self.alive: frozenset[str] = frozenset()
        """Processes that were alive when Redis was last asked, this one among them."""

    def __contains__(self, hold_id: str) -> bool:
        return hold_id in self._holds

    @property
    def holds(self) -> list[Hold]:
        """Those of calls under way."""
        return list(self._holds.values())

    @property
    def has_settled(self) -> bool:
        """Whether calls have ended that Redis was not told of yet."""
        return bool(self._settled)

    @property
    def is_clear(self) -> bool:
        """Whether Redis has applied everything it was sent."""
        return not self._sent

    @property
    def left(self) -> int:
        """How many strangers and debts Redis has to be told of."""
        return len(self._strangers) + len(self._owed)

    def add(self, hold: Hold, *, is_known: bool) -> None:
        """A call runs with what it has taken from Redis, or elsewhere."""
        self._holds[hold.id] = hold
        if not is_known:
            self._strangers[hold.id] = hold

    def settle(self, hold_id: str, micro: int) -> bool:
        """A call has ended. Whether there is something to be sent."""
        hold = self._holds.pop(hold_id, None)
        if hold is None:
            return False
        if self._strangers.pop(hold_id, None) is not None:
            self._owe(hold, micro)
            return False
        return self.undo(hold, micro)

    def undo(self, hold: Hold, micro: int = 0) -> bool:
        """Give back what Redis may have taken for a call. Whether there is something to be sent."""
        if all(counter.kind in {"rate", "quota"} for counter in hold.counters):
            return False
        self._settled.append((hold, micro))
        return True

    def lose(self) -> None:
        """The epoch is lost: whoever is under way is a stranger, what was not told yet is owed."""
        for batch in self._sent:
            for debt in batch.owed:
                self._add(debt)
            for hold, micro in batch.settled:
                self._owe(hold, micro)
        for hold, micro in self._settled:
            self._owe(hold, micro)
        self._sent.clear()
        self._settled.clear()
        self._strangers = dict(self._holds)

    def forgive(self) -> None:
        """The ledger tells Redis of what was owed until now."""
        self._owed.clear()

    def ended(self, *, leaves: bool = False) -> tuple[bytes, Batch]:
        """A batch of calls that have ended; it may be empty."""
        batch = self._begun()
        batch.settled, self._settled = self._settled[:BATCH], self._settled[BATCH:]
        batch.leaves = leaves
        return self._encoded(batch), batch

    def renewals(self) -> list[tuple[bytes, Batch]]:
        """Batches that keep what calls under way hold; one at least, as it says who is alive."""
        made = []
        holds = self.holds
        for first in range(0, len(holds) or 1, BATCH):
            batch = self._begun()
            batch.held = holds[first : first + BATCH]
            made.append((self._encoded(batch), batch))
        return made

    def announcement(self) -> tuple[bytes, Batch]:
        """A batch of strangers and debts. They are known from now on: it is sent until it arrives."""
        batch = self._begun()
        batch.owed = [self._owed.pop(key) for key in list(islice(self._owed, BATCH))]
        names = list(islice(self._strangers, BATCH))
        batch.held, batch.are_new = [self._strangers.pop(name) for name in names], True
        return self._encoded(batch), batch

    def again(self) -> list[tuple[bytes, Batch]]:
        """What was sent and not answered."""
        return [(self._encoded(batch), batch) for batch in self._sent]

    def _begun(self) -> Batch:
        self._number += 1
        batch = Batch(self._number, self._applied)
        self._sent.append(batch)
        return batch

    def _encoded(self, batch: Batch) -> bytes:
        told = list(batch.told(self._scripts))
        return self._scripts.post(batch.number, told, leaves=batch.leaves)

    def _applied(self, batch: Batch, reply: Reply | RedisError) -> None:
        """What Redis has applied is done with; anything else stays until it is sent again."""
        if not isinstance(reply, bytes) or not reply.startswith(b"0"):
            self._refused(reply)
        elif batch in self._sent:
            self._sent.remove(batch)
            self.alive = frozenset(reply.decode().split()[1:])

    def _owe(self, hold: Hold, micro: int) -> None:
        for counter in hold.counters:
            if counter.kind == "quota":
                self._add(Debt(counter=counter, at=hold.at, used=1))
            elif counter.kind == "budget":
                self._add(Debt(counter=counter, at=hold.at, used=micro))

    def _add(self, debt: Debt) -> None:
        start = self._scripts.prepared(debt.counter, debt.at).start
        key = (debt.counter.kind, debt.counter.key, start)
        known = self._owed.setdefault(key, Debt(counter=debt.counter, at=debt.at))
        known.used += debt.used
