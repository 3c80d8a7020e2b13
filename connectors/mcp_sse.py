"""MCP upstreams over HTTP+SSE, the transport of 2024-11-05."""

import asyncio
import ssl
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from connectors.errors import ConnectorError, Unreachable
from connectors.handshake import LISTING_CAPABILITIES
from connectors.http_connection import HttpConnection
from connectors.http_message import Heads, Response, endpoint_of, header_lines
from connectors.http_pool import HttpPool, Resolve
from connectors.http_settings import HttpSettings
from connectors.legacy_changes import LegacyChanges, Stream
from connectors.legacy_sessions import LegacySession, RefusedError, SessionKey
from connectors.listing import fetch_listing
from connectors.mcp_legacy import LegacyCall, LegacyUpstream, may_be_asked
from connectors.opening import opened_first
from connectors.outcome import Failure, Outcome, Result
from connectors.probe import no_revision_in_common, raise_unless_conclusive
from connectors.protocol import Credential, Listing, OnChange, Request, ServerIdentity
from connectors.sse_sessions import SseSession, SseSessions


class McpSseConnector:
    """One HTTP+SSE upstream; see :class:`connectors.protocol.Connector`.

    A caller that may be asked back has its session to itself meanwhile: the one stream does not say
    whom a question is for. Arguments as for :class:`connectors.mcp_http.McpHttpConnector`.
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        resolve: Resolve,
        tasks: TaskGroup,
        on_change: OnChange,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._tasks = tasks
        self._on_change = on_change
        self._tls = tls
        self._opening = anyio.Lock()
        self._live: _Live | None = None
        self._is_closed = False

    async def open(self) -> ServerIdentity:
        """Open the session that lists, and listen for changes. Idempotent.

        Raises ConnectorError: Inconclusive when it must be asked again, Misconfigured for settings
        that cannot work.
        """
        async with self._opening:
            if self._is_closed:
                raise Unreachable("The upstream was closed.")
            live = self._live or self._wire()
            self._live = live
            upstream = live.upstream
            try:
                session = await upstream.sessions.get(
                    upstream.own_key, upstream.own, self._settings.timeout_s
                )
            except RefusedError as error:
                raise_unless_conclusive(error.failure)
                raise no_revision_in_common(error.failure) from error
            await live.changes.start()
            return session.identity

    async def list(self) -> Listing:
        """All definitions. Raises ConnectorError."""
        identity = await self.open()
        if self._live is None:
            raise Unreachable("The upstream was closed.")
        return await fetch_listing(self._live.upstream.ask, identity.protocol_capabilities)

    def invoke(self, request: Request, credential: Credential) -> Outcome:
        """Send one request; see :meth:`connectors.protocol.Connector.invoke`."""
        if self._live is None:
            return opened_first(
                lambda: self._open_and_invoke(request, credential), request.timeout_s
            )
        return self._live.upstream.call(request, credential)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Have updates of exactly these resources announced; those the upstream agreed to."""
        if not uris and self._live is None:
            return frozenset()
        try:
            await self.open()
        except ConnectorError:
            return frozenset()
        return await self._live.changes.watch(uris) if self._live is not None else frozenset()

    def roots_changed(self, affinity: str) -> None:
        """See :class:`connectors.protocol.Conversing`."""
        if self._live is not None:
            self._live.upstream.sessions.roots_changed(affinity)

    def left(self, affinity: str) -> None:
        """See :class:`connectors.protocol.Conversing`."""
        if self._live is not None:
            self._live.upstream.sessions.left(affinity)

    async def close(self) -> None:
        """End sessions and connections; bounded to 5 s. Idempotent."""
        self._is_closed = True
        if self._live is not None:
            self._live.changes.close()
            await self._live.upstream.sessions.close()
            await self._live.upstream.sessions.pool.close()

    async def _open_and_invoke(self, request: Request, credential: Credential) -> Outcome:
        await self.open()
        return self.invoke(request, credential)

    def _wire(self) -> "_Live":
        settings = self._settings
        header_lines(settings.headers)
        endpoint = endpoint_of(settings.url)
        own = Credential()
        own_key = SessionKey((own.id, own.version), bytes(LISTING_CAPABILITIES))
        sessions = SseSessions(
            HttpPool(endpoint, settings.limits, self._resolve, self._tls),
            Heads(endpoint, settings.headers),
            self._tasks,
            cap_s=settings.timeout_cap_s,
            own_key=own_key,
            on_change=self._on_change,
        )
        upstream = LegacyUpstream(
            sessions,
            own=own,
            own_capabilities=LISTING_CAPABILITIES,
            timeout_s=settings.timeout_s,
            on_change=self._on_change,
            on_doubt=lambda: None,
            calls=SseCall,
            hears_callers=False,
        )
        return _Live(upstream, SseChanges(upstream, self._tasks))


class _Live:
    """An upstream that was reached for."""

    def __init__(self, upstream: LegacyUpstream, changes: "SseChanges") -> None:
        self.upstream = upstream
        self.changes = changes


class SseCall(LegacyCall):
    """A request whose POST is only acknowledged: its answer comes on the session's stream."""

    __slots__ = ("_holds_place", "_holds_turn", "_is_interactive")

    def __init__(
        self,
        upstream: LegacyUpstream,
        request: Request,
        credential: Credential,
        key: SessionKey,
        *,
        counted: bool = True,
    ) -> None:
        super().__init__(upstream, request, credential, key, counted=counted)
        self._is_interactive = counted and may_be_asked(key.capabilities)
        self._holds_place = False
        self._holds_turn = False

    def launch(self) -> Failure | None:
        """See :meth:`connectors.http_exchange.HttpExchange.launch`."""
        if self._is_interactive:
            self.proceed(self._open_and_send)
            return None
        return super().launch()

    def response(self, response: Response) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        if 200 <= response.status < 300 or self.end is not None:
            self.reader = None
        else:
            super().response(response)

    def finish(self, end: Result | Failure) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.finish`."""
        super().finish(end)
        self._let_go()

    async def _allow_logs_and_send(self, session: LegacySession) -> None:
        if self._is_interactive and isinstance(session, SseSession):
            await self._take_turn(session)
        if self.end is None:
            await super()._allow_logs_and_send(session)

    async def _take_turn(self, session: SseSession) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await session.turn.acquire()
        except TimeoutError:
            self.finish(Failure("unreachable", "Another caller's question was not answered."))
            return
        if self.end is not None:
            session.turn.release()
        else:
            self._holds_turn = True
            session.asked = self

    def _send_on(self, connection: HttpConnection, message: bytes, last_id: str) -> None:
        super()._send_on(connection, message, last_id)
        self._holds_place = self._pool.keep_place(connection) or self._holds_place

    def _let_go(self) -> None:
        if self._holds_place:
            self._holds_place = False
            self._pool.give_place()
        session = self._session
        if self._holds_turn and isinstance(session, SseSession):
            self._holds_turn = False
            session.asked = None
            session.turn.release()


class SseChanges(LegacyChanges):
    """Changes come on the stream of the session that lists, for as long as that lasts."""

    def _stream_of(
        self, session: LegacySession, last_id: str, on_stood: Callable[[], None] | None
    ) -> Stream:
        del last_id  # this transport cannot resume
        if not isinstance(session, SseSession):
            raise TypeError("a session of another transport")
        self._settled.set()
        if on_stood is not None:
            on_stood()
        return _SessionStream(session)


class _SessionStream:
    """Lasts as long as a session."""

    last_id = ""
    has_stood = True
    retry_s: float | None = None

    def __init__(self, session: SseSession) -> None:
        self._session = session

    async def last(self) -> Result | Failure:
        """How it ended."""
        await self._session.ended.wait()
        return Failure("disconnected", "The session has ended.")

    def give_up(self, _reason: str) -> None:
        """End it."""
        self._session.close()
