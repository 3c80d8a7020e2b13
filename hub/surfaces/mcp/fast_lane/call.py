"""One call in the fast lane, from its admission to its answer or to the plain lane."""

import logging
from asyncio import Future
from collections.abc import MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from hub.domain.outcome import Event, Refusal, Result
from hub.errors import RecordUnavailable
from hub.pipeline import Running
from hub.surfaces.asgi import Fields, Receive, Scope, Send, encoded
from hub.surfaces.connection import Connection
from hub.surfaces.mcp.answering import Answer
from hub.surfaces.mcp.arrival import Arrival
from hub.surfaces.mcp.asked import Asked
from hub.surfaces.mcp.calls import Caller
from hub.surfaces.mcp.inbound import Inbound
from hub.surfaces.mcp.legacy import LegacyHttp, cancelled
from hub.surfaces.mcp.machinery import Machinery
from hub.surfaces.mcp.modern import ModernHttp
from hub.surfaces.mcp.session_ids import Session

_logger = logging.getLogger(__name__)

_GONE_SCOPE: Final[dict[str, Any]] = {"path": "", "headers": []}
_HEAD: Final = b"HTTP/1.1 %b\r\ncontent-length: %d\r\ncontent-type: application/json\r\n%b\r\n%b"
_CLOSE: Final = b"connection: close\r\n"
_STATUS_LINES: Final = {
    status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus
}


class Ways:
    """What calls in the fast lane are answered with, and where those go on that do not end at once."""

    def __init__(self, machinery: Machinery, modern: ModernHttp, legacy: LegacyHttp) -> None:
        self.pipeline = machinery.given.pipeline
        self.answering = machinery.answering
        self.tasks = machinery.given.tasks
        self.modern = modern
        self.legacy = legacy
        self.answered_count = 0
        """How many calls were answered without leaving the fast lane."""


class FastCall:
    """One call in the fast lane; see :class:`hub.front.door.LaneCall`."""

    __slots__ = (
        "_answer",
        "_asked",
        "_connection",
        "_is_handed_over",
        "_key",
        "_message",
        "_passage",
        "_running",
        "_session",
        "_ways",
    )

    def __init__(
        self,
        ways: Ways,
        connection: Connection,
        asked: Asked,
        message: Inbound,
        session: Session | None = None,
    ) -> None:
        self._ways = ways
        self._connection = connection
        self._asked = asked
        self._message = message
        self._session = session
        """Where a legacy request belongs."""
        self._passage = ways.pipeline.begin(asked.call)
        self._running: Running | None = None
        self._answer: Answer | None = None
        """Set when the call has ended and its record is on the way."""
        self._is_handed_over = False
        self._key: bytes | None = None
        """Under which a legacy client may cancel it."""

    def begin(self) -> None:
        """Go as far as is possible without waiting."""
        try:
            self._running = running = self._ways.pipeline.enter(self._passage)
            if running is None or self._has_more_to_check(running):
                self._hand_over()
                return
            live = self._asked.session
            if live is not None:
                self._key = key = bytes(self._asked.id)
                live.calls[key] = self._cancel
            running.first(self._take)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception:  # the surface's barrier
            _logger.exception("call %s crashed", self._asked.call.id)
            self._crash()

    def hung_up(self) -> None:
        """The client has gone, which cancels a modern request and no legacy one (mcp.md S14)."""
        if self._answer is not None:
            return
        if self._session is None:
            self._answer = Answer(b"")
            self._ways.tasks.start_soon(self._abandon)
        else:
            self._is_handed_over = True
            self._ways.tasks.start_soon(self._go_on, _GONE_SCOPE, _gone, _unheard)

    def lasts(self) -> None:
        """Nothing came for a while: the plain lane knows how to keep a client waiting."""
        if self._answer is None:
            self._hand_over()

    def _take(self, event: Event | None) -> None:
        """The first event came; None: it has to be awaited."""
        running = self._running
        if running is None:
            return
        if self._answer is not None or self._is_handed_over:
            if event is not None:
                running.put_back(event)
            return
        if not isinstance(event, Result) or event.input_required:
            if event is not None:
                running.put_back(event)
            self._hand_over()
            return
        try:
            running.end = event
            self._end(self._ways.answering.ended(self._asked, running.admitted, event))
        except Exception:  # the surface's barrier
            _logger.exception("call %s crashed", self._asked.call.id)
            self._crash()

    def _recorded(self, durable: "Future[None]") -> None:
        answer, error = self._answer, durable.exception()
        if error is not None:
            answer = self._ways.answering.unkept(self._asked, error)
        if answer is not None:
            self._connection.answered(self._written(answer))

    def _written(self, answer: Answer) -> bytes:
        """The whole HTTP answer, in the words of the plain lane."""
        fields = b"x-portico-call: %b\r\n" % self._asked.call.id.encode("ascii")
        if answer.headers:
            fields = b"".join(b"%b: %b\r\n" % field for field in encoded(answer.headers)) + fields
        if self._connection.closing:
            fields += _CLOSE
        message = answer.message
        return _HEAD % (_STATUS_LINES[answer.status], len(message), fields, message)

    def _hand_over(self) -> None:
        """Leave the rest to the plain lane."""
        self._is_handed_over = True
        self._uncancellable()
        self._connection.continued(self._go_on)

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The rest of the call, over ASGI."""
        asked, ways = self._asked, self._ways
        arrival = Arrival(
            path=scope["path"],
            query=b"",
            headers=scope["headers"],
            fields=Fields(scope["headers"]),
            caller=Caller(asked.call.evidence, asked.call.virtual_server),
            cors=(),
            receive=receive,
            send=send,
        )
        if self._session is None:
            await ways.modern.go_on(asked, self._message, arrival, self._passage)
        else:
            await ways.legacy.go_on(asked, self._session, arrival, self._passage)

    def _cancel(self) -> None:
        """A legacy client does not want the answer any more."""
        if self._answer is None and not self._is_handed_over:
            self._answer = cancelled(self._asked)
            self._uncancellable()
            self._ways.tasks.start_soon(self._abandon)

    def _uncancellable(self) -> None:
        live = self._asked.session
        if live is not None and live.calls.get(self._key or b"") == self._cancel:
            del live.calls[self._key or b""]

    def _has_more_to_check(self, running: Running) -> bool:
        """Whether header fields have to agree with arguments (mcp.md S4), or the session is another's."""
        exposure, session = running.admitted.exposure, self._session
        if session is not None:
            return not session.belongs_to(running.admitted.principal)
        return exposure is not None and bool(exposure.param_headers)

    def _refuse(self, refusal: Refusal) -> None:
        """The provider turned the call down."""
        self._passage.refusal = refusal
        self._end(self._ways.answering.refused(self._asked, refusal))

    def _crash(self) -> None:
        """Something of ours failed: the call is recorded and answered all the same."""
        self._passage.crashed = True
        self._end(self._ways.answering.crashed(self._asked))

    def _end(self, answer: Answer) -> None:
        self._answer = answer
        if self._key is not None:
            self._uncancellable()
        self._ways.answered_count += 1
        self._ways.pipeline.settle(self._passage).add_done_callback(self._recorded)

    async def _abandon(self) -> None:
        """Give the call up; the upstream is told, and the client, if it is still there."""
        durable = self._ways.pipeline.settle(self._passage)
        if self._running is not None:
            await self._running.abandon()
        with suppress(RecordUnavailable):
            await durable
        if self._answer is not None and self._answer.message:
            self._connection.answered(self._written(self._answer))


async def _gone() -> MutableMapping[str, Any]:
    """What a client that has hung up sends."""
    return {"type": "http.disconnect"}


async def _unheard(_event: MutableMapping[str, Any]) -> None:
    """What is said to a client that has hung up."""
