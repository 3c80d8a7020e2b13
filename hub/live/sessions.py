"""What changes in the course of a legacy session, under its nonce.

Everything here may be lost: a session that is asked for and not found begins again with defaults,
and its stream is told once that lists may have changed. Sessions are kept while they do something
and, beyond that, as many of the recent ones as fit.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Raw

from mcp_wire.jsonrpc import Message

MAX_IDLE: Final = 10_000
"""Sessions kept though nothing goes on in them; the one used longest ago goes first."""

MAX_ENDED: Final = 100_000
"""Ended sessions remembered, so that their ids stay unknown."""

_TRIES: Final = 4
"""How many of the oldest sessions are looked at for an idle one, per session that comes."""


class LiveSession:
    """The changing part of one session."""

    __slots__ = ("asks", "calls", "client_info", "hang_up", "log_level", "restored", "subscribed")

    def __init__(self, *, restored: bool = False) -> None:
        self.log_level: str | None = None
        self.client_info: Raw | None = None
        self.subscribed: set[str] = set()
        """Exposed URIs of ``resources/subscribe``."""
        self.calls: dict[bytes, Callable[[], None]] = {}
        """By JSON-RPC id as it came: what cancels the call."""
        self.asks: dict[str, Callable[[Message], Coroutine[Any, Any, None]]] = {}
        """By id of a request to the client: what takes its answer."""
        self.hang_up: Callable[[], None] | None = None
        """Ends the stream that server messages go to, when there is one."""
        self.restored = restored
        """The id was known and this state was lost: lists may have changed unannounced."""

    @property
    def busy(self) -> bool:
        """Whether calls, questions or a stream depend on this object."""
        return bool(self.calls or self.asks) or self.hang_up is not None


class Sessions:
    """Live sessions by nonce."""

    def __init__(self, max_idle: int = MAX_IDLE, max_ended: int = MAX_ENDED) -> None:
        self._live: dict[str, LiveSession] = {}
        self._ended: dict[str, None] = {}
        self._max_idle = max_idle
        self._max_ended = max_ended

    def begin(self, nonce: str) -> LiveSession:
        """The state of a session that was just initialised."""
        session = self._live[nonce] = LiveSession()
        self._forget_idle()
        return session

    def resume(self, nonce: str) -> LiveSession | None:
        """The state of a session that a valid id names; None once it was ended."""
        session = self._live.pop(nonce, None)
        if session is None:
            if nonce in self._ended:
                return None
            session = LiveSession(restored=True)
        self._live[nonce] = session
        self._forget_idle()
        return session

    def end(self, nonce: str) -> None:
        """End a session for good: its stream closes and its id is unknown from now on."""
        session = self._live.pop(nonce, None)
        if session is not None and session.hang_up is not None:
            session.hang_up()
        self._ended[nonce] = None
        if len(self._ended) > self._max_ended:
            del self._ended[next(iter(self._ended))]

    def _forget_idle(self) -> None:
        for _ in range(_TRIES):
            if len(self._live) <= self._max_idle:
                return
            nonce = next(iter(self._live))
            session = self._live.pop(nonce)
            if session.busy:
                self._live[nonce] = session
