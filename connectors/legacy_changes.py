"""Hearing of a legacy upstream's changes: the stream of its listing session, and subscriptions in it."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from connectors.errors import ConnectorError
from connectors.http_changes import (
    SETTLE_S,
    Patience,
    changed_lists,
    is_refusal,
    offers,
    subscribed,
)
from connectors.legacy_sessions import LegacySession
from connectors.legacy_streams import SessionStream
from connectors.mcp_legacy import LegacyUpstream
from connectors.outcome import Failure, Result
from connectors.protocol import Change


class Stream(Protocol):
    """What brings changes until it ends."""

    @property
    def last_id(self) -> str:
        """The last event, after which the next stream goes on."""
        ...

    @property
    def has_stood(self) -> bool:
        """Whether the upstream offered it at all."""
        ...

    @property
    def retry_s(self) -> float | None:
        """The pause before the next one that the upstream asked for."""
        ...

    async def last(self) -> Result | Failure:
        """How it ended."""
        ...

    def give_up(self, reason: str) -> None:
        """End it."""
        ...


class LegacyChanges:
    """What one legacy upstream is listened to for, in the session that lists."""

    def __init__(self, upstream: LegacyUpstream, tasks: TaskGroup) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._session: LegacySession | None = None
        """The session whose changes are heard of."""
        self._wanted: frozenset[str] = frozenset()
        self._honoured: frozenset[str] = frozenset()
        self._settled = anyio.Event()
        self._stream: Stream | None = None
        self._is_running = False

    async def start(self) -> None:
        """Begin to listen; waits a little for the stream to stand."""
        if not self._is_running:
            self._is_running = True
            self._settled = anyio.Event()
            self._tasks.start_soon(self._keep)
        with anyio.move_on_after(SETTLE_S):
            await self._settled.wait()

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Hear of updates of exactly these resources; those the upstream agreed to."""
        self._wanted = uris
        session = self._upstream.sessions.live(self._upstream.own_key)
        if session is None or not offers(
            session.identity.protocol_capabilities, "resources", "subscribe"
        ):
            return frozenset()
        await self._subscribe(session)
        return self._honoured

    def close(self) -> None:
        """Listen no more."""
        self._is_running = False
        if self._stream is not None:
            self._stream.give_up("Nobody listens any more.")

    async def _subscribe(self, session: LegacySession) -> None:
        if session is not self._session:
            self._session, self._honoured = session, frozenset()
        self._honoured = await subscribed(self._upstream.ask, self._honoured, self._wanted)

    async def _keep(self) -> None:
        """Hold the stream open, in a new session when the upstream has lost the one before."""
        patience = Patience()
        last_id, has_stood, told_closed = "", False, False
        while self._is_running and not self._upstream.sessions.is_closed:
            patience.opened()
            missed = False
            session = await self._session_to_hear()
            if session is None:
                end: Result | Failure = Failure("unreachable", "There is no session.")
            else:
                if session is not self._session:
                    last_id, has_stood = "", False
                    missed = await self._adopt(session)
                else:
                    missed = has_stood and not last_id
                catch_up = partial(self._catch_up, session)
                self._stream = stream = self._stream_of(
                    session, last_id, catch_up if missed else None
                )
                end = await stream.last()
                last_id, has_stood = stream.last_id, has_stood or stream.has_stood
                patience.asked_s = stream.retry_s
            self._settled.set()
            is_lost = isinstance(end, Failure) and end.status == 404 and has_stood
            if session is not None and is_lost:
                self._upstream.sessions.forget(session)
                continue
            if is_refusal(end):
                if session is not None and missed and not has_stood:
                    self._catch_up(session)
                break
            is_away = isinstance(end, Failure) and end.kind == "unreachable"
            if is_away and not told_closed:
                self._upstream.on_change(Change("closed"))
            told_closed = is_away
            await anyio.sleep(patience.pause_s())
        self._is_running = False

    def _stream_of(
        self, session: LegacySession, last_id: str, on_stood: Callable[[], None] | None
    ) -> "Stream":
        """The next stream of a session; ``on_stood`` is called when nothing more can be missed."""
        upstream = self._upstream
        session.stream = stream = SessionStream(
            upstream.sessions,
            session,
            settled=self._settled,
            last_id=last_id,
            on_change=upstream.on_change,
            on_stood=on_stood,
        )
        return stream

    async def _session_to_hear(self) -> LegacySession | None:
        upstream = self._upstream
        try:
            return await upstream.sessions.get(upstream.own_key, upstream.own, upstream.timeout_s)
        except ConnectorError:
            return None

    async def _adopt(self, session: LegacySession) -> bool:
        """Follow a new session; whether an earlier one may have had something to announce."""
        is_first = self._session is None
        self._session, self._honoured = session, frozenset()
        session.is_kept = True
        if is_first:
            return False
        await self._subscribe(session)
        return True

    def _catch_up(self, session: LegacySession) -> None:
        """What was missed cannot be told from what was not: everything counts as changed."""
        for change in changed_lists(session.identity.protocol_capabilities):
            self._upstream.on_change(change)
        for uri in self._honoured:
            self._upstream.on_change(Change("resource", uri))
