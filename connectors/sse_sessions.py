"""Sessions of the oldest HTTP transport: one event stream carries every answer (2024-11-05)."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw

from connectors.errors import ConnectorError, ProtocolViolation, Unreachable
from connectors.handshake import identity_of_initialization, initialize_params
from connectors.http_answer import STREAM_TYPE, content_type, failure_of
from connectors.http_changes import change_of
from connectors.http_connection import Breakage, HttpConnection, Receiver
from connectors.http_exchange import HttpExchange
from connectors.http_message import Endpoint, Headers, Heads, Response, resolved, with_body
from connectors.http_pool import HttpPool
from connectors.legacy_sessions import (
    Handshake,
    LegacySession,
    LegacySessions,
    RefusedError,
    SessionKey,
)
from connectors.outcome import Failure, Result
from connectors.peer_exchange import COMPLETION
from connectors.protocol import Credential, OnChange
from mcp_wire.codes import INVALID_REQUEST, META_PROGRESS
from mcp_wire.jsonrpc import (
    EMPTY_OBJECT,
    Message,
    decode_message,
    encode_error,
    encode_result,
    members_of,
)
from mcp_wire.sse import SseDecoder, SseError

_number: Final = msgspec.json.Decoder(int)


class SseSession(LegacySession):
    """A conversation that lasts as long as its event stream."""

    def __init__(self, key: SessionKey, credential: Credential) -> None:
        super().__init__(key, credential)
        self.heads: Heads | None = None
        """For requests to the address that the upstream named."""
        self.ended = asyncio.Event()
        self.turn = asyncio.Lock()
        """Held by the one call that may be asked back: nothing says whom a question is for."""
        self.asked: HttpExchange | None = None
        """The call that holds the turn."""
        self.events: EventStream | None = None

    def close(self) -> None:
        """End the stream, and with it the session; whatever is in flight fails."""
        if self.events is not None:
            self.events.abandon()
        self.fail("The session was closed.")

    def fail(self, reason: str) -> None:
        """The stream has ended: no answer will come."""
        self.ended.set()
        for call in list(self.calls.values()):
            call.finish(Failure("disconnected", reason))
        self.calls.clear()


class SseSessions(LegacySessions):
    """All sessions with one HTTP+SSE upstream; what the one of ``own_key`` announces is heard of."""

    def __init__(
        self,
        pool: HttpPool,
        heads: Heads,
        tasks: TaskGroup,
        *,
        cap_s: float,
        own_key: SessionKey,
        on_change: OnChange,
    ) -> None:
        super().__init__(pool, heads, tasks, cap_s=cap_s)
        self._own_key = own_key
        self._on_change = on_change

    def message(self, session: LegacySession, body: bytes) -> bytes:
        """A whole POST request in ``session``. Raises Misconfigured."""
        heads = session.heads if isinstance(session, SseSession) else None
        return with_body((heads or self.heads).of("POST", session.credential), b"", body)

    def forget(self, session: LegacySession) -> None:
        """The upstream does not know it any more."""
        super().forget(session)
        if isinstance(session, SseSession):
            session.close()

    async def end(self, session: LegacySession) -> None:
        """Closing the stream ends the session."""
        self.forget(session)

    async def _begin(
        self, key: SessionKey, credential: Credential, timeout_s: float
    ) -> LegacySession:
        session = SseSession(key, credential)
        begun = False
        try:
            async with asyncio.timeout(timeout_s):
                endpoint = await self._open_stream(session, timeout_s)
                session.heads = self.heads.to(endpoint)
                handshake = _StreamHandshake(self, session, timeout_s)
                end = await handshake.last()
                if isinstance(end, Failure):
                    raise RefusedError(end)
                session.establish(identity_of_initialization(end.body, "sse"), endpoint.target)
                await self._confirm(session)
                begun = True
        except TimeoutError:
            raise RefusedError(Failure("timeout", "The session was not opened in time.")) from None
        finally:
            if not begun:
                session.close()
        return session

    async def _open_stream(self, session: SseSession, timeout_s: float) -> Endpoint:
        """Open the stream and wait for the address that requests go to."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        head = self.heads.of("GET", session.credential)
        connection = await self.pool.acquire(
            session.key.credential, deadline=deadline, counted=False
        )
        session.events = stream = EventStream(
            connection,
            self.heads.endpoint,
            on_message=lambda message: self._take(session, message),
            on_end=lambda reason: self._lost(session, reason),
        )
        connection.send(head + b"\r\n", stream)
        return await stream.endpoint

    def _lost(self, session: SseSession, reason: str) -> None:
        super().forget(session)
        session.fail(reason)

    def _take(self, session: SseSession, message: Message) -> None:
        if message.is_answer:
            call = session.calls.get(_id_of(message.id))
            if call is not None:
                call.take_answer(message, 200)
        elif message.is_request:
            self._take_request(session, message)
        elif message.is_notification:
            self._take_notification(session, message)

    def _take_request(self, session: SseSession, message: Message) -> None:
        if not isinstance(message.id, Raw):
            return
        if message.method == "ping":
            self.tell(session, encode_result(message.id, EMPTY_OBJECT))
        elif session.asked is not None:
            session.asked.take_other(message)
        else:
            words = "There is nobody here to be asked."
            self.tell(session, encode_error(message.id, INVALID_REQUEST, words))

    def _take_notification(self, session: SseSession, message: Message) -> None:
        if message.method == "notifications/progress":
            try:
                token = members_of(message.params).get(META_PROGRESS)
            except msgspec.DecodeError:
                return
            call = session.calls.get(_id_of(token))
            if call is not None:
                call.take_other(message)
        elif message.method == "notifications/message":
            self._take_log(session, message)
        elif message.method == "notifications/cancelled" and session.asked is not None:
            session.asked.take_other(message)
        elif message.method == COMPLETION:
            self.take_completion(session, message)
        elif session.key == self._own_key:
            change = change_of(message)
            if change is not None:
                self._on_change(change)

    def _take_log(self, session: SseSession, message: Message) -> None:
        """Nothing says whose it is: it is a call's own where that is the only one, and dropped else."""
        calls = list(session.calls.values())
        if len(calls) == 1:
            calls[0].take_other(message)


class EventStream(Receiver):
    """The answer to the GET; see :class:`connectors.http_connection.Receiver`.

    ``endpoint`` completes with the address that requests go to, which has to be of the same origin.
    """

    def __init__(
        self,
        connection: HttpConnection,
        address: Endpoint,
        *,
        on_message: Callable[[Message], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.endpoint: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._address = address
        self._on_message = on_message
        self._on_end = on_end
        self._decoder = SseDecoder()
        self._is_over = False

    def head(self, status: int, headers: Headers) -> None:
        """The head came."""
        if status != 200:
            self._end(RefusedError(failure_of(Response(status, headers, b""), None)))
        elif content_type(headers) != STREAM_TYPE:
            self._end(ProtocolViolation("the address does not answer with an event stream"))

    def body(self, chunk: bytes) -> None:
        """A piece of the body came."""
        try:
            for frame in self._decoder.feed(chunk):
                if self._is_over:
                    return
                if frame.event == "endpoint":
                    self._take_endpoint(frame.data)
                elif frame.event == "message":
                    self._on_message(decode_message(frame.data))
        except (SseError, msgspec.DecodeError):
            self._end(ProtocolViolation("the event stream holds something else than JSON-RPC"))

    def complete(self) -> None:
        """The upstream ended the stream."""
        self._end(Unreachable("The upstream ended the event stream."))

    def broken(self, breakage: Breakage, reason: str) -> None:
        """The connection is gone."""
        self._end(ProtocolViolation(reason) if breakage == "violation" else Unreachable(reason))

    def abandon(self) -> None:
        """Close the stream; nobody is told."""
        if not self._is_over:
            self._is_over = True
            self._connection.abandon()
            self.endpoint.cancel()

    def _take_endpoint(self, data: bytes) -> None:
        if self.endpoint.done():
            return
        try:
            endpoint = resolved(self._address, data.decode())
        except (ConnectorError, UnicodeDecodeError):
            self._end(ProtocolViolation("the upstream named an unreadable address"))
            return
        if endpoint.origin != self._address.origin:
            self._end(ProtocolViolation(f"the upstream named another origin, {endpoint.url}"))
            return
        self.endpoint.set_result(endpoint)

    def _end(self, error: ConnectorError) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._connection.abandon()
        if not self.endpoint.done():
            self.endpoint.set_exception(error)
        self._on_end(str(error))


class _StreamHandshake(Handshake):
    """``initialize``, whose answer comes on the session's stream."""

    def __init__(self, sessions: SseSessions, session: SseSession, timeout_s: float) -> None:
        params = initialize_params(Raw(session.key.capabilities))
        super().__init__(sessions, session.credential, params, timeout_s)
        self._session = session

    def launch(self) -> Failure | None:
        """See :meth:`connectors.http_exchange.HttpExchange.launch`."""
        self._session.calls[self.request_id] = self
        return super().launch()

    def prepared(self, body: bytes) -> bytes:
        """The whole request."""
        return self._sessions.message(self._session, body)

    def response(self, response: Response) -> None:
        """See :class:`connectors.http_answer.Sink`; the answer itself comes on the stream."""
        if 200 <= response.status < 300:
            self.reader = None
        else:
            super().response(response)

    def finish(self, end: Result | Failure) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.finish`."""
        super().finish(end)
        self._session.calls.pop(self.request_id, None)


def _id_of(raw_id: object) -> int:
    """Our id or token as it came back; -1 for what cannot be ours."""
    if not isinstance(raw_id, Raw):
        return -1
    try:
        return _number.decode(raw_id)
    except msgspec.DecodeError:
        return -1
