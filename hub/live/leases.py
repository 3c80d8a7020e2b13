"""Who may do a thing that only one replica should: inside one process, whoever comes first."""

from collections.abc import Callable


class Leases:
    """Named leases that run out by themselves. ``clock`` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    def acquire(self, name: str, holder: str, ttl_s: float) -> bool:
        """Take or renew a lease; False while somebody else holds it."""
        now = self._clock()
        held = self._held.get(name)
        if held is not None and held[0] != holder and held[1] > now:
            return False
        self._held[name] = (holder, now + ttl_s)
        return True

    def release(self, name: str, holder: str) -> None:
        """Give a lease back; one that somebody else holds stays theirs."""
        held = self._held.get(name)
        if held is not None and held[0] == holder:
            del self._held[name]
