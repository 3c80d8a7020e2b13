"""Where uses are counted: in this process, or in Redis for all processes together.

One call takes from all of its counters or from none. ``hub.metering.local`` answers at once;
``hub.metering.shared`` with one awaited round trip for all counters of a call together.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from hub.domain.metering import Denied, Hold, Spent

Refill = Callable[[], Awaitable[Mapping[str, Spent]]]
"""What was counted in the periods that are not over, by counter key, out of the ledger.

It first brings what this process has recorded into the ledger. May raise StoreUnavailableError.
"""


CountingState = Literal["shared", "local", "refused"]
"""With other processes, in this one, or not at all for rules that say so while others are away."""


class Counting(Protocol):
    """Counts what calls use. Called on the event loop it runs on."""

    @property
    def waits(self) -> bool:
        """Whether :meth:`take` may give something to await."""
        ...

    @property
    def state(self) -> CountingState:
        """How calls are counted now."""
        ...

    def take(self, hold: Hold) -> Denied | Awaitable[Denied | None] | None:
        """Take what ``hold`` needs of all its counters, or of none; None: it was taken.

        rate: one call of a bucket that holds ``burst``. quota: one call of the period ``hold.at``
        lies in; never given back. concurrency: one of the calls under way. budget: ``hold.micro``
        of what is left of the period, so that a hold of nothing is never turned down by a budget.
        Counters with ``blocks=False`` count and never deny. No two counters of a hold have equal
        keys. Taking a hold that is held already takes nothing.

        Whoever is cancelled while awaiting the answer settles the hold.
        """
        ...

    def settle(self, hold: Hold, micro: int) -> None:
        """The call has ended and cost ``micro``: frees concurrency, replaces the reserved money.

        Never waits and never raises; the second time it does nothing.
        """
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Count for as long as the context is open; entered once, before the first ``take``."""
        ...
