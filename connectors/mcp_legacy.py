"""Calling an upstream of the legacy era over HTTP: requests inside sessions (2025-03-26 to 2025-11-25)."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import anyio
import msgspec
from msgspec import Raw

from connectors.envelope import request_params
from connectors.errors import ConnectorError, Misconfigured
from connectors.exchange import severity
from connectors.http_answer import (
    AnswerReader,
    end_with_status,
    is_answer_to,
    is_error_of,
    is_of_http,
    message_in,
    take_notification,
)
from connectors.http_changes import SETTLE_S
from connectors.http_connection import Breakage
from connectors.http_exchange import HttpExchange
from connectors.http_message import Response
from connectors.jsonrpc_peer import result_of
from connectors.legacy_sessions import (
    LegacySession,
    LegacySessions,
    RefusedError,
    SessionKey,
)
from connectors.legacy_streams import keep_stream
from connectors.outcome import Ask, Failure, Pause, Result, Withdrawn
from connectors.peer_exchange import ASKING_METHODS, COMPLETION, EVERY_LEVEL
from connectors.protocol import Change, Credential, OnChange, Request
from mcp_wire.codes import INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_REVISION
from mcp_wire.headers import LAST_EVENT_HEADER
from mcp_wire.jsonrpc import (
    EMPTY_OBJECT,
    Message,
    decode_members,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    members_of,
    raw,
)
from mcp_wire.revisions import LATEST_LEGACY, era_of

MAX_RESUMPTIONS: Final = 20
"""How often in a row a stream is taken up again that brings nothing new."""
RESUME_AFTER_S: Final = 1.0
"""Pause before a stream is taken up again, where the upstream names none."""
MAX_RESUME_AFTER_S: Final = 30.0

_INTERACTIVE: Final = frozenset(("elicitation", "sampling", "roots"))


class LegacyUpstream:
    """What the calls of one legacy upstream share."""

    def __init__(
        self,
        sessions: LegacySessions,
        *,
        own: Credential,
        own_capabilities: Raw,
        timeout_s: float,
        on_change: OnChange,
        on_doubt: Callable[[], None],
        calls: "type[LegacyCall] | None" = None,
        hears_callers: bool = True,
    ) -> None:
        self.sessions = sessions
        sessions.completed = lambda affinity, elicitation: on_change(
            Change("elicitation", elicitation, affinity)
        )
        self._hears_callers = hears_callers
        self._calls = calls or LegacyCall
        self.own = own
        """What authenticates requests of discovery and listing."""
        self.own_key = SessionKey((own.id, own.version), bytes(own_capabilities))
        """The session that lists and hears of changes."""
        self.timeout_s = timeout_s
        self.on_change = on_change
        self.on_doubt = on_doubt
        """Told of answers that a legacy upstream would not give."""

    def call(self, request: Request, credential: Credential) -> "LegacyCall":
        """A caller's request; sent when its first event is awaited."""
        key = SessionKey(
            (credential.id, credential.version),
            bytes(request.client_capabilities),
            request.affinity,
        )
        return self._calls(self, request, credential, key)

    async def session(
        self, key: SessionKey, credential: Credential, timeout_s: float
    ) -> LegacySession:
        """The session for a call. Where its caller can be asked, all of its streams are heard.

        Raises ConnectorError.
        """
        session = await self.sessions.get(key, credential, timeout_s)
        if key != self.own_key and self._hears_callers and may_be_asked(key.capabilities):
            if session.is_heard is None:
                session.is_heard = anyio.Event()
                self.sessions.start_soon(keep_stream, self.sessions, session, session.is_heard)
            with anyio.move_on_after(SETTLE_S):
                await session.is_heard.wait()
        return session

    async def ask(self, method: str, params: Mapping[str, Raw]) -> Raw:
        """The result of a request of our own. Raises ConnectorError."""
        request = Request(
            method=method, params=params, revision=LATEST_LEGACY, timeout_s=self.timeout_s
        )
        call = self._calls(self, request, self.own, self.own_key, counted=False)
        return result_of(method, await call.last())


class LegacyCall(HttpExchange):
    """One request: its POST, the answer's stream, what the upstream asks meanwhile, and its end."""

    __slots__ = (
        "_accepted",
        "_asked",
        "_credential",
        "_key",
        "_renewed",
        "_request",
        "_resumptions",
        "_session",
        "_upstream",
    )

    def __init__(
        self,
        upstream: LegacyUpstream,
        request: Request,
        credential: Credential,
        key: SessionKey,
        *,
        counted: bool = True,
    ) -> None:
        sessions = upstream.sessions
        super().__init__(
            sessions.pool,
            key.credential,
            sessions.next_id(),
            timeout_s=request.timeout_s,
            cap_s=sessions.cap_s,
            counted=counted,
        )
        self.wants_progress = request.wants_progress
        self.log_level = request.log_level
        if request.log_level is None and counted and era_of(request.revision) == "legacy":
            self.log_level = EVERY_LEVEL
        self._upstream = upstream
        self._request = request
        self._credential = credential
        self._key = key
        self._session: LegacySession | None = None
        self._accepted = False
        """It is being executed: an answer was begun, and is being taken up again."""
        self._renewed = False
        self._resumptions = 0
        self._asked: dict[bytes, Ask] = {}
        """By id: the upstream's requests that wait for the caller."""

    def launch(self) -> Failure | None:
        """See :meth:`connectors.http_exchange.HttpExchange.launch`."""
        session = self._upstream.sessions.live(self._key)
        if session is None:
            self.proceed(self._open_and_send)
        elif severity(self._request.log_level) not in range(session.log_rank):
            return self._send_in(session)
        else:
            self.proceed(partial(self._allow_logs_and_send, session))
        return None

    def dismiss(self, reason: str) -> None:
        """A closed stream cancels nothing in this era; a notification does."""
        if self._session is not None and self.sent:
            params = {"requestId": self.request_id, "reason": reason}
            notice = encode_notification("notifications/cancelled", params)
            self._upstream.sessions.tell(self._session, notice)
        super().dismiss(reason)

    def take_answer(self, message: Message, status: int) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.take_answer`."""
        if is_error_of(message, UNSUPPORTED_REVISION):
            self._upstream.on_doubt()
        if not is_answer_to(self.request_id, message):
            self.finish(Failure("violation", "The upstream answered another request."))
        else:
            self.finish(end_with_status(message, status, modern=False))

    def take_other(self, message: Message) -> None:
        """A notification, or a request that is meant for this very call's caller."""
        self._resumptions = 0
        if message.is_request:
            self._take_request(message)
        elif message.method == "notifications/cancelled":
            self._take_withdrawal(message)
        elif message.method == COMPLETION and self._session is not None:
            self._upstream.sessions.take_completion(self._session, message)
        else:
            take_notification(self, message)

    def response(self, response: Response) -> None:
        """See :class:`connectors.http_answer.Sink`; a lost session is opened anew, once (C9)."""
        session = self._session
        if self._accepted:
            self.finish(Failure("disconnected", "The upstream does not continue its answer."))
        elif session is None or session.id is None or self._renewed or not _is_lost(response):
            super().response(response)
        else:
            self._renewed = True
            self.reader = None
            self._leave()
            self._upstream.sessions.forget(session)
            self.proceed(self._open_and_send)

    def stream_ended(self) -> None:
        """See :class:`connectors.http_answer.Sink`; an upstream may do so to be polled."""
        reader = self.reader
        if reader is not None and self._is_resumable(reader, "disconnected"):
            self._put(Pause(reader.retry_ms))
        super().stream_ended()

    def broken(self, breakage: Breakage, reason: str) -> None:
        """A stream that can be taken up again is; the request itself is never sent again."""
        reader = self.reader
        if reader is None or not self._is_resumable(reader, breakage):
            super().broken(breakage, reason)
            return
        self.reader = None
        self._accepted = True
        self._resumptions += 1
        retry_ms = reader.retry_ms
        pause_s = RESUME_AFTER_S if retry_ms is None else retry_ms / 1000
        asyncio.get_running_loop().call_later(
            min(pause_s, MAX_RESUME_AFTER_S),
            self.proceed,
            partial(self._resume, reader.last_id, reason),
        )

    def _is_resumable(self, reader: AnswerReader, breakage: Breakage) -> bool:
        return (
            breakage == "disconnected"
            and bool(reader.last_id)
            and self._resumptions < MAX_RESUMPTIONS
        )

    def finish(self, end: Result | Failure) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.finish`."""
        super().finish(end)
        self._asked.clear()
        self._leave()

    def _leave(self) -> None:
        session = self._session
        if session is not None:
            session.calls.pop(self.request_id, None)

    async def _open_and_send(self) -> None:
        try:
            session = await self._upstream.session(self._key, self._credential, self._timeout_s)
        except RefusedError as error:
            if not is_of_http(error.failure.status or 500):
                self._upstream.on_doubt()
            self.finish(_refusal(error.failure))
        except ConnectorError as error:
            self.finish(Failure("unreachable", str(error)))
        else:
            await self._allow_logs_and_send(session)

    async def _allow_logs_and_send(self, session: LegacySession) -> None:
        """Have the upstream send log messages as severe as the caller wants; it is never made quieter.

        Sessions are shared and levels are not, so each call's own level filters what comes. An
        upstream that refuses keeps its own choice.
        """
        rank = severity(self._request.log_level)
        if 0 <= rank < session.log_rank:
            session.log_rank = rank
            if "logging" in members_of(session.identity.protocol_capabilities):
                params = {"level": raw(self._request.log_level)}
                request_id = self._upstream.sessions.next_id()
                body = encode_request(request_id, "logging/setLevel", params)
                await self._upstream.sessions.post(session, body)
        if self.end is None:
            failure = self._send_in(session)
            if failure is not None:
                self.finish(failure)

    def _send_in(self, session: LegacySession) -> Failure | None:
        params = request_params(self._request, modern_revision=None, progress_token=self.request_id)
        body = encode_request(self.request_id, self._request.method, params)
        try:
            message = self._upstream.sessions.message(session, body)
        except Misconfigured as error:
            return Failure("unreachable", str(error))
        self._session = session
        session.calls[self.request_id] = self
        session.last_used = asyncio.get_running_loop().time()
        self.post(message)
        return None

    async def _resume(self, last_id: str, reason: str) -> None:
        """Take the stream up again after its last event (2025-11-25 transports, Resumability)."""
        session = self._session
        if session is None or not last_id.isprintable() or not last_id.isascii():
            self.finish(Failure("disconnected", reason))
            return
        head = self._upstream.sessions.heads.of("GET", self._credential)
        line = f"{LAST_EVENT_HEADER}: {last_id}\r\n\r\n".encode()
        self.post(head + session.fields + line, last_id=last_id)

    def _take_request(self, message: Message) -> None:
        session, request_id = self._session, message.id
        if session is None or not isinstance(request_id, Raw):
            return
        tell = partial(self._upstream.sessions.tell, session)
        if message.method == "ping":
            tell(encode_result(request_id, EMPTY_OBJECT))
        elif message.method not in ASKING_METHODS:
            tell(encode_error(request_id, METHOD_NOT_FOUND, "This client does not know that."))
        elif self.end is None and bytes(request_id) not in self._asked:
            params = message.params if isinstance(message.params, Raw) else EMPTY_OBJECT
            answer = partial(self._answer, session, request_id)
            ask = self._asked[bytes(request_id)] = Ask(str(message.method), params, answer)
            self.asked(ask)

    async def _answer(self, session: LegacySession, request_id: Raw, answer: Raw | Failure) -> None:
        """See :class:`connectors.outcome.Ask`; a second answer, or one that comes late, is dropped."""
        if self._asked.pop(bytes(request_id), None) is None:
            return
        if isinstance(answer, Failure):
            code = INVALID_REQUEST if answer.code is None else answer.code
            body = encode_error(request_id, code, answer.message, answer.data)
        else:
            body = encode_result(request_id, answer)
        self.replied()
        await self._upstream.sessions.post(session, body)

    def _take_withdrawal(self, message: Message) -> None:
        """The upstream does not want its question answered any more."""
        try:
            request_id = members_of(message.params).get("requestId")
        except msgspec.DecodeError:
            return
        ask = None if request_id is None else self._asked.pop(bytes(request_id), None)
        if ask is not None:
            self.replied()
            self._put(Withdrawn(ask))


def may_be_asked(client_capabilities: bytes) -> bool:
    """Whether a caller declared that questions can be put to it."""
    try:
        return not _INTERACTIVE.isdisjoint(decode_members(client_capabilities))
    except msgspec.DecodeError:
        return False


def _is_lost(response: Response) -> bool:
    """Whether the upstream does not know the session, so that nothing was executed.

    The status for that is 404; many servers answer 400 with an error to no request.
    """
    if response.status != 400:
        return response.status == 404
    message = message_in(response)
    return message is not None and isinstance(message.id, Raw) and bytes(message.id) == b"null"


def _refusal(failure: Failure) -> Failure:
    """A handshake that failed: the call itself was not sent."""
    kind = failure.kind if failure.kind in {"status", "error", "unreachable"} else "unreachable"
    return Failure(
        kind,
        failure.message,
        code=failure.code,
        data=failure.data,
        status=failure.status,
        retry_after_s=failure.retry_after_s,
        challenge=failure.challenge,
    )
