"""Hearing of a legacy upstream's changes: the stream of its listing session, and subscriptions in it."""

from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from connectors.errors import ConnectorError
from connectors.http_changes import SETTLE_S, Patience, changed_lists, is_refusal, offers
from connectors.legacy_sessions import LegacySession
from connectors.legacy_streams import SessionStream
from connectors.mcp_legacy import LegacyUpstream
from connectors.outcome import Failure, Result
from connectors.protocol import Change
from mcp_wire.jsonrpc import raw


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
        honoured = set(self._honoured & self._wanted)
        for uri in self._honoured - self._wanted:
            await self._told("resources/unsubscribe", uri)
        for uri in self._wanted - self._honoured:
            if await self._told("resources/subscribe", uri):
                honoured.add(uri)
        self._honoured = frozenset(honoured)

    async def _told(self, method: str, uri: str) -> bool:
        try:
            await self._upstream.ask(method, {"uri": raw(uri)})
        except ConnectorError:
            return False
        return True

    async def _keep(self) -> None:
        """Hold the stream open, in a new session when the upstream has lost the one before."""
        patience = Patience()
        last_id, has_stood, told_closed = "", False, False
        while self._is_running and not self._upstream.sessions.is_closed:
            patience.opened()
            session = await self._session_to_hear()
            if session is None:
                end: Result | Failure = Failure("unreachable", "There is no session.")
            else:
                if session is not self._session:
                    last_id, has_stood = "", False
                    await self._adopt(session)
                elif has_stood and not last_id:
                    self._catch_up(session)
                self._stream = stream = self._stream_of(session, last_id)
                end = await stream.last()
                last_id, has_stood = stream.last_id, has_stood or stream.has_stood
                patience.asked_s = stream.retry_s
            self._settled.set()
            is_lost = isinstance(end, Failure) and end.status == 404 and has_stood
            if session is not None and is_lost:
                self._upstream.sessions.forget(session)
                continue
            if is_refusal(end):
                break
            is_away = isinstance(end, Failure) and end.kind == "unreachable"
            if is_away and not told_closed:
                self._upstream.on_change(Change("closed"))
            told_closed = is_away
            await anyio.sleep(patience.pause_s())
        self._is_running = False

    def _stream_of(self, session: LegacySession, last_id: str) -> "Stream":
        upstream = self._upstream
        session.stream = stream = SessionStream(
            upstream.sessions,
            session,
            settled=self._settled,
            last_id=last_id,
            on_change=upstream.on_change,
        )
        return stream

    async def _session_to_hear(self) -> LegacySession | None:
        upstream = self._upstream
        try:
            return await upstream.sessions.get(upstream.own_key, upstream.own, upstream.timeout_s)
        except ConnectorError:
            return None

    async def _adopt(self, session: LegacySession) -> None:
        """Follow a new session; what an earlier one would have announced counts as changed."""
        is_first = self._session is None
        self._session, self._honoured = session, frozenset()
        session.is_kept = True
        if is_first:
            return
        await self._subscribe(session)
        self._catch_up(session)

    def _catch_up(self, session: LegacySession) -> None:
        for change in changed_lists(session.identity.protocol_capabilities):
            self._upstream.on_change(change)
        for uri in self._honoured:
            self._upstream.on_change(Change("resource", uri))
