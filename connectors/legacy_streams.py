"""The stream on which a legacy session says what belongs to no request of ours, or does not say so.

Source: 2025-11-25 transports, Listening for Messages from the Server. Many servers ask here what
they should have asked on the stream of the call, so that callers who can be asked need it too.
"""

from collections.abc import Callable
from typing import Final

import anyio
import msgspec
from msgspec import Raw

from connectors.http_answer import NO_JSONRPC, failure_of
from connectors.http_changes import Patience, change_of, is_refusal
from connectors.http_connection import Breakage
from connectors.http_exchange import HttpExchange
from connectors.http_message import Response
from connectors.legacy_sessions import LegacySession, LegacySessions
from connectors.outcome import Failure
from connectors.peer_exchange import ASKING_METHODS, COMPLETION
from connectors.protocol import OnChange
from mcp_wire.codes import INVALID_REQUEST, META_PROGRESS, METHOD_NOT_FOUND
from mcp_wire.headers import LAST_EVENT_HEADER
from mcp_wire.jsonrpc import EMPTY_OBJECT, Message, encode_error, encode_result, members_of

_FOREVER: Final = float("inf")


class SessionStream(HttpExchange):
    """What a GET in a session opens; it lasts until one side ends it."""

    __slots__ = (
        "_on_change",
        "_on_stood",
        "_session",
        "_sessions",
        "_settled",
        "has_stood",
        "last_id",
        "retry_s",
    )

    def __init__(
        self,
        sessions: LegacySessions,
        session: LegacySession,
        *,
        settled: anyio.Event,
        last_id: str = "",
        on_change: OnChange | None = None,
        on_stood: Callable[[], None] | None = None,
    ) -> None:
        """``on_stood`` is called when the upstream has opened it: nothing is missed from then on."""
        super().__init__(
            sessions.pool,
            session.key.credential,
            sessions.next_id(),
            timeout_s=_FOREVER,
            cap_s=_FOREVER,
            counted=False,
        )
        self.last_id = last_id
        """Of the last event, where the next stream goes on."""
        self.has_stood = False
        """Whether the upstream offered it at all."""
        self.retry_s: float | None = None
        """The pause before the next one that the upstream asked for."""
        self._sessions = sessions
        self._session = session
        self._settled = settled
        self._on_change = on_change
        self._on_stood = on_stood

    def launch(self) -> Failure | None:
        """See :meth:`connectors.http_exchange.HttpExchange.launch`."""
        head = self._sessions.heads.of("GET", self._session.credential)
        line = b""
        if self.last_id and self.last_id.isascii() and self.last_id.isprintable():
            line = f"{LAST_EVENT_HEADER}: {self.last_id}\r\n".encode()
        self.post(b"%b%b%b\r\n" % (head, self._session.fields, line), last_id=self.last_id)
        return None

    def stream_began(self) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        self.has_stood = True
        self._settled.set()
        if self._on_stood is not None:
            self._on_stood()

    def broken(self, breakage: Breakage, reason: str) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        if self.reader is not None:
            self.last_id = self.reader.last_id
            if self.reader.retry_ms is not None:
                self.retry_s = self.reader.retry_ms / 1000
        super().broken(breakage, reason)

    def message(self, message: Message) -> None:
        """See :class:`connectors.http_answer.Sink`; answers have no business here."""
        if message.is_request:
            self._take_request(message)
        elif message.method == "notifications/progress":
            self._pass_on(message)
        elif message.method == COMPLETION:
            self._sessions.take_completion(self._session, message)
        elif message.method in {"notifications/message", "notifications/cancelled"}:
            self._pass_to_calls(message)
        elif message.is_notification and self._on_change is not None:
            change = change_of(message)
            if change is not None:
                self._on_change(change)

    def take_response(self, response: Response, message: Message | None) -> None:
        """See :class:`connectors.http_exchange.HttpExchange`; whatever is no stream refuses it."""
        if 200 <= response.status < 300:
            self.finish(Failure("violation", NO_JSONRPC, status=response.status))
        else:
            self.finish(failure_of(response, message))

    def _take_request(self, message: Message) -> None:
        if not isinstance(message.id, Raw):
            return
        calls = list(self._session.calls.values())
        if message.method == "ping":
            self._tell(encode_result(message.id, EMPTY_OBJECT))
        elif message.method not in ASKING_METHODS:
            self._tell(
                encode_error(message.id, METHOD_NOT_FOUND, "This client does not know that.")
            )
        elif len(calls) == 1:
            calls[0].take_other(message)
        else:
            words = "It cannot be told who is to be asked: ask on the stream of the call."
            self._tell(encode_error(message.id, INVALID_REQUEST, words))

    def _pass_on(self, message: Message) -> None:
        """Progress of a call in the same session."""
        try:
            token = int(bytes(members_of(message.params).get(META_PROGRESS, b"0")))
        except (msgspec.DecodeError, ValueError):
            return
        call = self._session.calls.get(token)
        if call is not None:
            call.take_other(message)

    def _pass_to_calls(self, message: Message) -> None:
        """A log message of the only call there is; or a question withdrawn, which its call knows."""
        calls = list(self._session.calls.values())
        if len(calls) == 1 or message.method == "notifications/cancelled":
            for call in calls:
                call.take_other(message)

    def _tell(self, body: bytes) -> None:
        self._sessions.tell(self._session, body)


async def keep_stream(
    sessions: LegacySessions, session: LegacySession, settled: anyio.Event
) -> None:
    """Hold the stream of a caller's session open as long as that lives.

    ``settled`` is set when the stream stands, or will not.
    """
    patience = Patience()
    last_id = ""
    while sessions.live(session.key) is session:
        patience.opened()
        stream = SessionStream(sessions, session, settled=settled, last_id=last_id)
        session.stream = stream
        end = await stream.last()
        settled.set()
        if is_refusal(end):
            return
        last_id, patience.asked_s = stream.last_id, stream.retry_s
        await anyio.sleep(patience.pause_s())
