"""What changes in the course of a legacy session, under its nonce.

Everything here may be lost: a session that is asked for and not found begins again with defaults,
and its stream is told once that lists may have changed. Sessions are kept while they do something
and, beyond that, as many of the recent ones as fit.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Raw

from hub.domain.announcement import ListKind
from hub.live.replays import Replay, Replays, request_of
from mcp_wire.jsonrpc import Message

MAX_IDLE: Final = 10_000
"""Sessions kept though nothing goes on in them; the one used longest ago goes first."""

MAX_ENDED: Final = 100_000
"""Ended sessions remembered, so that their ids stay unknown."""

_TRIES: Final = 4
"""How many of the oldest sessions are looked at for an idle one, per session that comes."""


class LiveSession:
    """The changing part of one session."""

    __slots__ = (
        "_nonce",
        "_replays",
        "asks",
        "calls",
        "client_info",
        "hang_up",
        "log_level",
        "restored",
        "subscribed",
        "told",
    )

    def __init__(self, nonce: str, replays: Replays, *, restored: bool = False) -> None:
        self._nonce = nonce
        self._replays = replays
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
        self.told: dict[ListKind, object | None] | None = None
        """What its stream knew of lists when it ended; None before there was one."""

    def begin_stream(self, request_id: bytes) -> Replay:
        """The stream of the answer to a request, whose id is given as JSON text."""
        return self._replays.begin(self._nonce, request_id)

    def stream_of(self, event_id: str) -> Replay | None:
        """The stream that an event belongs to; None when it is no longer known."""
        return self._replays.find(self._nonce, event_id)

    def request_of(self, event_id: str) -> bytes | None:
        """The id of the request that an event's stream answered, known or not; None for others."""
        return request_of(event_id)

    @property
    def busy(self) -> bool:
        """Whether calls, questions or a stream depend on this object."""
        return bool(self.calls or self.asks) or self.hang_up is not None


class Sessions:
    """Live sessions by nonce."""

    def __init__(
        self,
        max_idle: int = MAX_IDLE,
        max_ended: int = MAX_ENDED,
        replays: Replays | None = None,
    ) -> None:
        self._replays = replays or Replays()
        self._live: dict[str, LiveSession] = {}
        self._ended: dict[str, None] = {}
        self._max_idle = max_idle
        self._max_ended = max_ended

    def begin(self, nonce: str) -> LiveSession:
        """The state of a session that was just initialised."""
        session = self._live[nonce] = LiveSession(nonce, self._replays)
        self._forget_idle()
        return session

    def resume(self, nonce: str) -> LiveSession | None:
        """The state of a session that a valid id names; None once it was ended."""
        session = self._live.pop(nonce, None)
        if session is None:
            if nonce in self._ended:
                return None
            session = LiveSession(nonce, self._replays, restored=True)
        self._live[nonce] = session
        self._forget_idle()
        return session

    def end(self, nonce: str) -> None:
        """End a session for good: its stream closes and its id is unknown from now on."""
        session = self._live.pop(nonce, None)
        if session is not None and session.hang_up is not None:
            session.hang_up()
        self._replays.forget(nonce)
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
