"""What was withdrawn and may not wait for the next snapshot."""

from collections.abc import Callable, Iterable


class Revocations:
    """The small table asked on each call, kept level with the store by epoch.

    Keys stay in it for good: a snapshot compiled earlier may still hold them.
    """

    def __init__(self) -> None:
        self._keys: frozenset[str] = frozenset()
        self._listeners: dict[object, Callable[[], None]] = {}
        self.epoch = 0
        """Grows in the store with each revocation and each change of grants."""

    def has_key(self, key_id: str) -> bool:
        """Whether this key no longer proves anything."""
        return key_id in self._keys

    def revoke(self, *key_ids: str) -> None:
        """Withdraw keys at once."""
        self.advance(self.epoch, key_ids)

    def advance(self, epoch: int, key_ids: Iterable[str] = ()) -> None:
        """Take over what the store says at ``epoch``; open streams check themselves when it is news."""
        keys = self._keys.union(key_ids)
        news = epoch > self.epoch or len(keys) > len(self._keys)
        self._keys, self.epoch = keys, max(epoch, self.epoch)
        if news:
            for listener in list(self._listeners.values()):
                listener()

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called, on the event loop, after each change; the result ends it."""
        token = object()
        self._listeners[token] = listener

        def unregister() -> None:
            self._listeners.pop(token, None)

        return unregister
