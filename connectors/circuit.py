"""Leaving an upstream alone that fails again and again, and finding out when it is back."""

from collections.abc import Callable
from typing import Final

THRESHOLD: Final = 5
"""Failures in a row that open the circuit."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


class Circuit:
    """Closed while an upstream answers; open after failures in a row; one probe at a time after that.

    ``clock`` gives seconds and never goes back; ``jitter`` gives a number from 0 to 1, so that
    replicas do not probe together.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        """``opened`` is called each time the circuit opens."""
        self._clock = clock
        self._jitter = jitter
        self._opened = opened
        self.failures = 0
        """In a row; without any a success is no news."""
        self._pause_s = FIRST_PAUSE_S
        self._until: float | None = None
        self._probing = False

    @property
    def retry_after_s(self) -> float:
        """How long until the next probe."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def admits(self) -> bool:
        """Whether a request may be sent now; one admitted while the circuit is open is the probe."""
        if self._until is None:
            return True
        if self._probing or self._clock() < self._until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The upstream answered, whatever it said."""
        self.failures, self._pause_s = 0, FIRST_PAUSE_S
        self._until, self._probing = None, False

    def failed(self) -> None:
        """The upstream did not answer, or broke its protocol."""
        self.failures += 1
        if not self._probing and (self._until is not None or self.failures < THRESHOLD):
            return
        self._probing = False
        self._until = self._clock() + self._pause_s * (0.5 + self._jitter() / 2)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._opened()

    def given_up(self) -> None:
        """A request ended without telling anything about the upstream; a probe may be sent again."""
        self._probing = False
