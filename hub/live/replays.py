"""What streams of answers said lately, so that a client which lost one can take it up again.

Everything here may be lost, and much is let go: after a while, and the oldest first where a session
or the process keeps too much. The name of a stream tells which request it answers, so that whoever
asks for a lost one can be told what became of it, by any process and after any restart.

Source: 2025-11-25 transports, Resumability and Redelivery.
"""

import asyncio
import base64
import binascii
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

import msgspec
from msgspec import Raw

MAX_EVENTS: Final = 64
"""Messages kept for one session."""
MAX_SESSION_BYTES: Final = 8 * 1024 * 1024
MAX_BYTES: Final = 64 * 1024 * 1024
"""For all sessions together."""
KEPT_S: Final = 300.0


_json: Final = msgspec.json.Decoder(Raw)


class Reader(Protocol):
    """Whoever follows a stream it has taken up."""

    def end(self) -> None:
        """Another one follows it from now on."""
        ...


class Replay:
    """The stream of one answer. Messages have numbers, which begin with 1; what marks it has too."""

    __slots__ = ("_last", "_on_taken_up", "_replays", "ended", "is_whole", "name", "of", "reader")

    def __init__(self, replays: "Replays", of: "_Session", name: str) -> None:
        self.of = of
        self.name = name
        self.ended = False
        """Whether the answer was said."""
        self.is_whole = True
        """Whether the answer will come, or is kept."""
        self.reader: Reader | None = None
        """Who has taken it up and is still there."""
        self._replays = replays
        self._last = 0
        self._on_taken_up: Callable[[], None] | None = None

    @property
    def beginning(self) -> str:
        """The id of an event before all others."""
        return f"{self.name}.0"

    def mark(self) -> str:
        """The id of an event that says nothing."""
        self._last += 1
        return f"{self.name}.{self._last}"

    def keep(self, message: bytes, *, last: bool = False) -> str:
        """Keep a message as well as possible; the id of its event. ``last``: it is the answer."""
        event_id = self.mark()
        if last:
            self.ended, self._on_taken_up = True, None
        self._replays.keep(self, self._last, message, last=last)
        return event_id

    def after(self, event_id: str) -> list[tuple[str, bytes]]:
        """Ids and messages of what was said after an event and is still kept."""
        number = int(event_id.rpartition(".")[2])
        return [
            (f"{self.name}.{kept.number}", kept.message)
            for kept in self.of.kept.values()
            if kept.stream is self and kept.number > number
        ]

    def forget(self) -> None:
        """There will be no answer."""
        self._replays.remove(self)

    def on_taken_up(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called when a reader comes, and when the last one has left."""
        self._on_taken_up = listener

    def take_up(self, reader: Reader) -> None:
        """Follow the stream from now on; whoever did so before is sent away."""
        before, self.reader = self.reader, reader
        if before is not None:
            before.end()
        self._tell()

    def leave(self, reader: Reader) -> None:
        """Follow it no longer."""
        if self.reader is reader:
            self.reader = None
            self._tell()

    def _tell(self) -> None:
        if self._on_taken_up is not None:
            self._on_taken_up()


class _Kept:
    """One message."""

    __slots__ = ("is_answer", "kept_at", "message", "number", "stream")

    def __init__(
        self, stream: Replay, number: int, message: bytes, kept_at: float, *, is_answer: bool
    ) -> None:
        self.stream = stream
        self.number = number
        self.message = message
        self.kept_at = kept_at
        self.is_answer = is_answer


class _Session:
    """What is kept for one session, oldest first."""

    __slots__ = ("kept", "name", "size_bytes", "streams")

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[str, Replay] = {}
        self.kept: OrderedDict[int, _Kept] = OrderedDict()
        self.size_bytes = 0


class Replays:
    """The streams of all sessions. ``clock`` gives seconds and never goes back."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_events: int = MAX_EVENTS,
        max_session_bytes: int = MAX_SESSION_BYTES,
        max_bytes: int = MAX_BYTES,
        kept_s: float = KEPT_S,
    ) -> None:
        self._clock = clock
        self._max_events = max_events
        self._max_session_bytes = max_session_bytes
        self._max_bytes = max_bytes
        self._kept_s = kept_s
        self._run = secrets.token_urlsafe(6)
        self._numbers = count(1)
        self._sessions: dict[str, _Session] = {}
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        """By serial number, oldest first, as those of each session are."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When the oldest message may be too old, at the earliest."""
        self.size_bytes = 0
        """How much is kept."""

    def begin(self, session: str, request_id: bytes) -> Replay:
        """The stream of the answer to a request; ``request_id`` is its JSON text."""
        known = self._sessions.get(session)
        if known is None:
            known = self._sessions[session] = _Session(session)
        told = base64.urlsafe_b64encode(request_id).decode("ascii").rstrip("=")
        replay = Replay(self, known, f"{self._run}~{next(self._numbers)}~{told}")
        known.streams[replay.name] = replay
        return replay

    def find(self, session: str, event_id: str) -> Replay | None:
        """The stream an event belongs to; None when it is no longer known."""
        self._forget_old(self._clock())
        name, _, number = event_id.rpartition(".")
        known = self._sessions.get(session)
        return known.streams.get(name) if known is not None and _is_number(number) else None

    def forget(self, session: str) -> None:
        """The session was ended."""
        known = self._sessions.get(session)
        for replay in list(known.streams.values()) if known is not None else ():
            self.remove(replay)
            if replay.reader is not None:
                replay.reader.end()

    def remove(self, replay: Replay) -> None:
        """Forget a stream and everything it said."""
        known = replay.of
        if known.streams.pop(replay.name, None) is None:
            return
        replay.is_whole = False
        for serial in [key for key, kept in known.kept.items() if kept.stream is replay]:
            self._drop(serial)
        if not known.streams and self._sessions.get(known.name) is known:
            del self._sessions[known.name]

    def keep(self, replay: Replay, number: int, message: bytes, *, last: bool) -> None:
        """See :meth:`Replay.keep`."""
        now = self._clock()
        if now >= self._due:
            self._forget_old(now)
        known = replay.of
        if replay.name not in known.streams:
            return
        if len(message) > self._max_session_bytes:
            if last:
                self.remove(replay)
            return
        serial = next(self._numbers)
        kept = _Kept(replay, number, message, now, is_answer=last)
        self._kept[serial] = known.kept[serial] = kept
        self.size_bytes += len(message)
        known.size_bytes += len(message)
        while len(known.kept) > self._max_events or known.size_bytes > self._max_session_bytes:
            serial, oldest = known.kept.popitem(last=False)
            del self._kept[serial]
            self._dropped(oldest)
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        if self._timer is None:
            self._plan()

    def _forget_old(self, now: float) -> None:
        while self._kept:
            serial = next(iter(self._kept))
            self._due = self._kept[serial].kept_at + self._kept_s
            if self._due > now:
                return
            self._drop(serial)
        self._due = now + self._kept_s

    def _drop(self, serial: int) -> None:
        kept = self._kept.pop(serial)
        del kept.stream.of.kept[serial]
        self._dropped(kept)

    def _dropped(self, kept: _Kept) -> None:
        """A message was let go; a stream whose answer that was is forgotten."""
        known = kept.stream.of
        self.size_bytes -= len(kept.message)
        known.size_bytes -= len(kept.message)
        if kept.is_answer:
            self.remove(kept.stream)

    def _plan(self) -> None:
        """What nobody asks for is let go in time as well."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._kept_s, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        self._forget_old(self._clock())
        if self._kept:
            self._plan()


def request_of(event_id: str) -> bytes | None:
    """The JSON text of the id of the request that an event's stream answers.

    None for ids of events that no stream of ours had.
    """
    name, _, number = event_id.rpartition(".")
    _, _, told = name.rpartition("~")
    if name.count("~") != 2 or not _is_number(number):
        return None
    try:
        text = base64.b64decode(told + "=" * (-len(told) % 4), altchars=b"-_", validate=True)
        _json.decode(text)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return text if text[:1] in b'"-' or text[:1].isdigit() else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
