"""Sessions with a legacy upstream over HTTP: opened when needed, shared by who may share, let go."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw, Struct

from connectors.errors import ConnectorError, Misconfigured, ProtocolViolation, Unreachable
from connectors.handshake import identity_of_initialization, initialize_params
from connectors.http_answer import end_with_status
from connectors.http_connection import NOBODY
from connectors.http_exchange import HttpExchange, fetch
from connectors.http_message import Heads, Response, header_of, with_body
from connectors.http_pool import HttpPool
from connectors.outcome import Failure
from connectors.protocol import Credential, ServerIdentity
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.headers import REVISION_HEADER, SESSION_HEADER
from mcp_wire.jsonrpc import (
    Message,
    decode_members,
    encode_notification,
    encode_request,
    members_of,
    string_of,
)

MAX_SESSIONS: Final = 4096
IDLE_S: Final = 900.0
"""After this long without a request a session is ended; upstreams do so on their own."""
SWEEP_S: Final = 60.0
CONTROL_S: Final = 10.0
"""How long a notification or the end of a session may take."""
CLOSE_S: Final = 2.0
MAX_CLOSING: Final = 16
"""Sessions that are ended at the same time."""


class SessionKey(Struct, frozen=True):
    """What two requests must have in common to share a session."""

    credential: tuple[str, int]
    """Id and version."""
    capabilities: bytes
    """Client capabilities declared in the handshake."""
    affinity: str = ""


class LegacySession:
    """One conversation with the upstream."""

    def __init__(self, key: SessionKey, credential: Credential) -> None:
        self.key = key
        self.credential = credential
        self.id: str | None = None
        """None: this server keeps no sessions."""
        self.identity = ServerIdentity(revisions=())
        self.fields = b""
        """Header lines of every request in it."""
        self.calls: dict[int, HttpExchange] = {}
        """What is in flight, by request id."""
        self.stream: HttpExchange | None = None
        """What the upstream says outside of calls; None where nobody needs to hear it."""
        self.is_heard: anyio.Event | None = None
        """Set once it is settled whether the upstream offers that stream."""
        self.is_kept = False
        """It is not ended for being idle: changes are heard of in it."""
        self.last_used = 0.0
        self.log_rank = len(LOG_LEVELS)
        """The least severe log messages it was told to send."""

    def establish(self, identity: ServerIdentity, session_id: str | None) -> None:
        """The upstream has taken the handshake."""
        self.identity = identity
        self.id = session_id
        self.fields = f"{REVISION_HEADER}: {identity.revisions[0]}\r\n".encode("ascii")
        if session_id is not None:
            self.fields += f"{SESSION_HEADER}: {session_id}\r\n".encode("ascii")


class LegacySessions:
    """All sessions with one upstream. Opening is single-flight per key."""

    def __init__(self, pool: HttpPool, heads: Heads, tasks: TaskGroup, *, cap_s: float) -> None:
        self.pool = pool
        self.heads = heads
        self.cap_s = cap_s
        self.is_closed = False
        self.completed: Callable[[str, str], None] = lambda _affinity, _elicitation: None
        """Told of elicitations by URL that are over: whose conversation it was, and the id."""
        self._tasks = tasks
        self._live: dict[SessionKey, LegacySession] = {}
        self._opening: dict[SessionKey, asyncio.Future[ConnectorError | None]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._last_id = 0

    def next_id(self) -> int:
        """An id that no other request to this upstream has."""
        self._last_id += 1
        return self._last_id

    def live(self, key: SessionKey) -> LegacySession | None:
        """The session that stands, if one does."""
        return self._live.get(key)

    async def get(self, key: SessionKey, credential: Credential, timeout_s: float) -> LegacySession:
        """The session of ``key``, opened if need be; whoever waits for it shares a failure.

        Raises ConnectorError; RefusedError when the upstream did not take the handshake.
        """
        while (session := self._live.get(key)) is None:
            opening = self._opening.get(key)
            if opening is None:
                return await self._open_alone(key, credential, timeout_s)
            done, _ = await asyncio.wait([opening], timeout=timeout_s)
            if not done:
                raise Unreachable("The session with the upstream was not opened in time.")
            error = opening.result()
            if error is not None:
                raise error
        return session

    def forget(self, session: LegacySession) -> None:
        """The upstream does not know it any more."""
        if self._live.get(session.key) is session:
            del self._live[session.key]
        if session.stream is not None:
            session.stream.give_up("The session is over.")

    def start_over(self) -> None:
        """Open new sessions from now on; what is in flight ends in its own."""
        for session in list(self._live.values()):
            if session.calls:
                self.forget(session)
            else:
                self.end_soon(session)

    def end_soon(self, session: LegacySession) -> None:
        """End it without waiting for the upstream; nobody gets it any more."""
        self.forget(session)
        self._tasks.start_soon(self.end, session)

    async def end(self, session: LegacySession) -> None:
        """Tell the upstream that it is over (2025-11-25 transports, Session Management)."""
        self.forget(session)
        if session.id is not None:
            head = self.heads.of("DELETE", session.credential) + session.fields + b"\r\n"
            await fetch(
                self.pool, head, key=session.key.credential, timeout_s=CONTROL_S, counted=False
            )

    def message(self, session: LegacySession, body: bytes) -> bytes:
        """A whole POST request in ``session``. Raises Misconfigured."""
        return with_body(self.heads.of("POST", session.credential), session.fields, body)

    async def post(self, session: LegacySession, body: bytes) -> Response | Failure:
        """Send a notification or an answer, which takes no caller's place."""
        return await fetch(
            self.pool,
            self.message(session, body),
            key=session.key.credential,
            timeout_s=CONTROL_S,
            counted=False,
        )

    def tell(self, session: LegacySession, body: bytes) -> None:
        """The same for those who cannot wait: sent at once, or as soon as there is a connection."""
        if self.is_closed:
            return
        connection = self.pool.take(session.key.credential, counted=False)
        if connection is not None:
            connection.send(self.message(session, body), NOBODY)
        else:
            self._tasks.start_soon(self.post, session, body)

    def roots_changed(self, affinity: str) -> None:
        """Tell the conversations with these callers, as far as the upstream may ask for roots there."""
        for session in self._live.values():
            if affinity and session.key.affinity == affinity and _has_roots(session.key):
                self.tell(session, encode_notification("notifications/roots/list_changed"))

    def left(self, affinity: str) -> None:
        """End the conversations of a caller that has gone for good, but for what is in flight."""
        for session in list(self._live.values()):
            is_theirs = affinity and session.key.affinity == affinity
            if is_theirs and not session.calls and not session.is_kept:
                self.end_soon(session)

    def take_completion(self, session: LegacySession, message: Message) -> None:
        """An elicitation by URL is over (2025-11-25): only whoever was asked is concerned."""
        try:
            elicitation = string_of(members_of(message.params).get("elicitationId"))
        except msgspec.DecodeError:
            return
        if elicitation is not None and session.key.affinity:
            self.completed(session.key.affinity, elicitation)

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, object]], *arguments: object
    ) -> None:
        """Have something done that outlives whoever wants it."""
        self._tasks.start_soon(work, *arguments)

    async def close(self) -> None:
        """End every session; bounded to 2 s. Idempotent."""
        self.is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        limiter = anyio.CapacityLimiter(MAX_CLOSING)

        async def end_one(session: LegacySession) -> None:
            async with limiter:
                await self.end(session)

        with anyio.move_on_after(CLOSE_S):
            async with anyio.create_task_group() as ending:
                for session in list(self._live.values()):
                    ending.start_soon(end_one, session)
        self._live.clear()

    async def _open_alone(
        self, key: SessionKey, credential: Credential, timeout_s: float
    ) -> LegacySession:
        self._make_room()
        opening = self._opening[key] = asyncio.get_running_loop().create_future()
        failure: ConnectorError | None = None
        try:
            session = await self._begin(key, credential, timeout_s)
            if self.is_closed:
                raise Unreachable("The upstream was closed.")
            self._live[key] = session
            self._plan_sweep()
        except ConnectorError as error:
            failure = error
            raise
        finally:
            del self._opening[key]
            opening.set_result(failure)
        return session

    async def _begin(
        self, key: SessionKey, credential: Credential, timeout_s: float
    ) -> LegacySession:
        params = initialize_params(Raw(key.capabilities))
        handshake = Handshake(self, credential, params, timeout_s)
        end = await handshake.last()
        if isinstance(end, Failure):
            raise RefusedError(end)
        session_id = header_of(handshake.headers, SESSION_HEADER.lower().encode())
        identity = identity_of_initialization(end.body, "http")
        if session_id is not None and not _is_visible(session_id):
            raise ProtocolViolation("the upstream's session id holds characters it must not")
        session = LegacySession(key, credential)
        session.establish(identity, session_id)
        await self._confirm(session)
        return session

    async def _confirm(self, session: LegacySession) -> None:
        """End the handshake. Raises Unreachable."""
        session.last_used = asyncio.get_running_loop().time()
        answer = await self.post(session, encode_notification("notifications/initialized"))
        if isinstance(answer, Failure) or answer.status >= 400:
            status = answer.status if isinstance(answer, Response) else None
            raise Unreachable(f"the handshake could not be completed (status {status})")

    def _make_room(self) -> None:
        """Beyond the bound, end the session that was idle longest. Raises Unreachable."""
        if len(self._live) < MAX_SESSIONS:
            return
        idle = [session for session in self._live.values() if not session.calls]
        if not idle:
            raise Unreachable(f"All {MAX_SESSIONS} sessions with the upstream are in use.")
        self.end_soon(min(idle, key=lambda session: session.last_used))

    def _plan_sweep(self) -> None:
        if self._sweeper is None and not self.is_closed:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """End sessions that nobody has used for long."""
        self._sweeper = None
        too_old = asyncio.get_running_loop().time() - IDLE_S
        for session in list(self._live.values()):
            if session.last_used <= too_old and not session.calls and not session.is_kept:
                self.end_soon(session)
        if self._live:
            self._plan_sweep()


class RefusedError(ConnectorError):
    """The upstream did not take the handshake; ``failure`` is how it said so."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"initialize: {failure.message}")
        self.failure = failure


class Handshake(HttpExchange):
    """``initialize``: it is never cancelled, and belongs to no session yet."""

    __slots__ = ("_credential", "_params", "_sessions")

    def __init__(
        self,
        sessions: LegacySessions,
        credential: Credential,
        params: Mapping[str, Raw],
        timeout_s: float,
    ) -> None:
        super().__init__(
            sessions.pool,
            (credential.id, credential.version),
            sessions.next_id(),
            timeout_s=timeout_s,
            cap_s=sessions.cap_s,
            counted=False,
        )
        self._sessions = sessions
        self._credential = credential
        self._params = params

    def launch(self) -> Failure | None:
        """See :meth:`connectors.http_exchange.HttpExchange.launch`."""
        try:
            message = self.prepared(encode_request(self.request_id, "initialize", self._params))
        except Misconfigured as error:
            return Failure("unreachable", str(error))
        self.post(message)
        return None

    def prepared(self, body: bytes) -> bytes:
        """The whole HTTP request. Raises Misconfigured."""
        return with_body(self._sessions.heads.of("POST", self._credential), b"", body)

    def take_answer(self, message: Message, status: int) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.take_answer`."""
        self.finish(end_with_status(message, status, modern=False))


def _has_roots(key: SessionKey) -> bool:
    try:
        return "roots" in decode_members(key.capabilities)
    except msgspec.DecodeError:
        return False


def _is_visible(text: str) -> bool:
    return bool(text) and all("\x21" <= character <= "\x7e" for character in text)
