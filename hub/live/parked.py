"""Calls that wait for their callers to come back, in this process (DESIGN.md section 2).

Whoever is not resumed is abandoned: after a while, when its caller's rights are gone, when its
caller parks too many, or when the process ends.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from hub.domain.call import Call
from hub.domain.outcome import Refusal
from hub.domain.parked import AbandonReason, ParkedCall

TTL_S: Final = 600.0
"""How long a caller may take to come back."""
MAX_PER_PRINCIPAL: Final = 16
MAX_IN_PROCESS: Final = 256


class ParkedCalls:
    """Parked calls by handle, oldest first. All of it runs on the event loop."""

    def __init__(
        self,
        admits: Callable[[Call], bool],
        *,
        ttl_s: float = TTL_S,
        max_per_principal: int = MAX_PER_PRINCIPAL,
        max_in_process: int = MAX_IN_PROCESS,
    ) -> None:
        """``admits`` says whether a call would be let in by now."""
        self._admits = admits
        self._ttl_s = ttl_s
        self._max_per_principal = max_per_principal
        self._max_in_process = max_in_process
        self._calls: dict[str, tuple[ParkedCall, asyncio.TimerHandle]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._calls)

    def make_room(self, owner: tuple[str, str]) -> None:
        """Make sure that this principal can park one more call, at the cost of its own oldest one.

        Raises Refusal: ``limit`` where all places belong to others, ``unavailable`` on the way out.
        """
        if self._closed:
            raise Refusal("unavailable", "Portico is shutting down.", cause="draining")
        own = [call.handle for call, _ in self._calls.values() if call.owner == owner]
        is_full = len(self._calls) >= self._max_in_process
        if is_full and not own:
            raise Refusal(
                "limit", "Too many calls wait for their callers' input.", cause="parked calls"
            )
        if is_full or len(own) >= self._max_per_principal:
            self.abandon(own[0], "displaced")

    def park(self, call: ParkedCall) -> None:
        """Keep a call for which room was made."""
        timer = asyncio.get_running_loop().call_later(
            self._ttl_s, self.abandon, call.handle, "expired"
        )
        self._calls[call.handle] = (call, timer)

    def take(self, handle: str) -> ParkedCall | None:
        """The call of a handle, which is the taker's from now on; None for an unknown one."""
        found = self._calls.pop(handle, None)
        if found is None:
            return None
        found[1].cancel()
        return found[0]

    def abandon(self, handle: str, reason: AbandonReason) -> None:
        """Give a call up; nothing for an unknown handle."""
        call = self.take(handle)
        if call is not None:
            call.abandon(reason)

    def check(self) -> None:
        """Give up what its caller may not use any more."""
        for call, _ in list(self._calls.values()):
            if not self._admits(call.call):
                self.abandon(call.handle, "revoked")

    def close(self) -> None:
        """Give up everything, and take nothing more. Idempotent."""
        self._closed = True
        for handle in list(self._calls):
            self.abandon(handle, "draining")
