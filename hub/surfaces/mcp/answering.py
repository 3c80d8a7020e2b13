"""Taking one call through the pipeline: its notifications as they come, then its answer.

The answer is made, and the record closed, before its last byte is offered: whoever calls
:meth:`Answering.answer` writes what it returns.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct

from hub.domain.call import Call
from hub.domain.outcome import Ask, Event, Failure, Log, Progress, Refusal, Result
from hub.pipeline import Admitted, Pipeline, Running
from hub.surfaces.mcp import wire
from hub.surfaces.mcp.bridge import shown, why_not_asked
from hub.surfaces.mcp.collaborators import LiveSession
from hub.surfaces.mcp.inbound import Malformed, Mismatch, text_of
from hub.wire_errors import CRASHED, Words, failed, refused
from mcp_wire import codes
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.jsonrpc import Message, decode_error, members_of, raw
from mcp_wire.revisions import Era

_logger = logging.getLogger(__name__)
_number: Final = msgspec.json.Decoder(float)
_WITHIN_SESSION: Final = frozenset((codes.METHOD_NOT_FOUND, codes.INVALID_PARAMS))
"""Errors that legacy clients expect with status 200: a 404 means to them that the session ended."""


class UnknownSession(Refusal):
    """The session belongs to another principal, tenant or virtual server: it is unknown here."""

    def __init__(self) -> None:
        super().__init__("invalid", "Unknown session.", cause="session")


class Exchange(Protocol):
    """Where the messages of one call go before its answer."""

    @property
    def gone(self) -> bool:
        """Whether the caller can no longer be reached this way."""
        ...

    @property
    def can_show(self) -> bool:
        """Whether anything can be sent before the answer."""
        ...

    async def show(self, message: bytes) -> None:
        """Send a notification or a request; does nothing once the caller has gone."""
        ...


class Silent:
    """An exchange that shows nothing: for requests that are answered with nothing before."""

    gone = False
    can_show = False

    async def show(self, message: bytes) -> None:
        """Nothing is shown."""


SILENT: Final = Silent()


class Asked(Struct, frozen=True):
    """A request of the call's own and everything its answer depends on."""

    call: Call
    id: Raw
    era: Era
    exchange: Exchange
    progress_token: Raw | None = None
    extra: Mapping[str, Raw] = {}
    """Members of the result that the surface knows and no provider: ``supportedVersions`` and such."""
    check: Callable[[Admitted], None] | None = None
    """Looks at what was admitted; may raise Refusal."""
    session: LiveSession | None = None
    """Where a legacy client's answers to questions arrive."""
    questions: list[str] = []
    """Ids of the questions of this call that are open, in ``session.asks``."""


class Answer(Struct, frozen=True):
    """One whole JSON-RPC answer, and what goes with it over HTTP."""

    message: bytes
    status: int = 200
    headers: Mapping[str, str] = {}
    call: str = ""
    """The call id; empty where there was no call."""
    admitted: Admitted | None = None
    """Set where the call came to a result."""


class Cancellation:
    """Lets somebody else end the work inside ``with``, from another task.

    The block is left early and quietly then, and :attr:`requested` says that it was. The task is
    cancelled the way :func:`asyncio.timeout` does it: what cancels it otherwise goes through.
    """

    __slots__ = ("_cancelling", "_task", "requested")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self.requested = False

    def cancel(self) -> None:
        """End the block, or keep it from going on once it begins; does nothing when it has ended."""
        if not self.requested:
            self.requested = True
            if self._task is not None:
                self._task.cancel()

    def __enter__(self) -> "Cancellation":
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task to cancel")
        self._task, self._cancelling = task, task.cancelling()
        if self.requested:
            task.cancel()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        task, self._task = self._task, None
        if task is None or not self.requested:
            return False
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError


class Answering:
    """Answers requests of both eras through the pipeline."""

    def __init__(self, pipeline: Pipeline, server_info: Raw) -> None:
        self._pipeline = pipeline
        self._server_info = server_info
        self._ask_ids: Iterator[int] = count(1)

    async def answer(self, asked: Asked) -> Answer:
        """The answer of a request; its record is closed when this returns."""
        call = asked.call
        try:
            async with self._pipeline.run(call) as running:
                if asked.check is not None:
                    asked.check(running.admitted)
                end = await self._end_of(running, asked)
                if asked.exchange.gone:
                    running.delivered = "none"
            return self._ended(asked, running.admitted, end)
        except Mismatch as mismatch:
            return self._in_words(
                asked, Words(code=codes.HEADER_MISMATCH, message=mismatch.message, status=400)
            )
        except UnknownSession as unknown:
            return self._in_words(
                asked, Words(code=codes.INVALID_REQUEST, message=unknown.message, status=404)
            )
        except Refusal as refusal:
            return self._in_words(asked, refused(refusal, call.operation, asked.era))
        except Exception:  # the surface's barrier
            _logger.exception("call %s crashed", call.id, extra={"call": call.id})
            return self._in_words(asked, Words(code=codes.INTERNAL_ERROR, message=CRASHED))

    async def answer_unless_cancelled(
        self, asked: Asked, in_flight: dict[bytes, Callable[[], None]]
    ) -> Answer | None:
        """The same for clients that cancel by id; None when this one did."""
        key = bytes(asked.id)
        cancellation = Cancellation()
        cancel = in_flight[key] = cancellation.cancel
        answer: Answer | None = None
        try:
            with cancellation:
                answer = await self.answer(asked)
        finally:
            if in_flight.get(key) == cancel:
                del in_flight[key]
        return answer

    def malformed(self, error: Malformed, era: Era) -> Answer:
        """The answer of a request that became no call."""
        words = Words(code=error.code, message=error.message, data=error.data)
        status = codes.HTTP_STATUS.get(error.code, 400)
        if era == "legacy":
            status = 200 if error.code in _WITHIN_SESSION else 400
        return Answer(wire.error_answer(error.request_id, words, ""), status)

    async def _end_of(self, running: Running, asked: Asked) -> Result | Failure:
        relay: _Relay | None = None
        try:
            async for event in running:
                if isinstance(event, Result | Failure):
                    return event
                if relay is None:
                    relay = _Relay(asked, self._ask_ids)
                await relay.pass_on(event)
        finally:
            if relay is not None:
                relay.close()
        raise RuntimeError("an outcome ended without a result")

    def _ended(self, asked: Asked, admitted: Admitted, end: Result | Failure) -> Answer:
        end = shown(end, asked.era)
        call = asked.call
        if isinstance(end, Result):
            server = admitted.virtual_server
            public = server is not None and server.cacheable_publicly
            return Answer(
                self._result(asked, end.body, public=public), call=call.id, admitted=admitted
            )
        exposure = admitted.exposure
        upstream = exposure.capability.upstream if exposure is not None else ""
        words = failed(end, call.operation, asked.era, upstream, call.target.name)
        return self._in_words(asked, words)

    def _result(self, asked: Asked, body: Raw, *, public: bool = False) -> bytes:
        call = asked.call
        if asked.extra:
            body = raw({**members_of(body), **asked.extra})
        if asked.era == "modern":
            result = wire.modern_result(
                body, call.operation, call.id, self._server_info, public=public
            )
        else:
            result = wire.legacy_result(body, call.operation, call.id)
        return wire.result_answer(asked.id, result)

    def _in_words(self, asked: Asked, words: Words) -> Answer:
        if words.result is not None:
            message = self._result(asked, words.result)
        else:
            message = wire.error_answer(asked.id, words, asked.call.id)
        return Answer(message, words.status, words.headers, asked.call.id)


class _Relay:
    """Passes on what happens before the end; made when there is something to pass on."""

    def __init__(self, asked: Asked, ask_ids: Iterator[int]) -> None:
        self._asked = asked
        self._ask_ids = ask_ids
        self._progress = float("-inf")

    async def pass_on(self, event: Event) -> None:
        exchange = self._asked.exchange
        if isinstance(event, Ask):
            await self._ask(event)
        elif isinstance(event, Progress):
            token = self._asked.progress_token
            if token is not None and exchange.can_show and self._advances(event):
                await exchange.show(wire.progress(token, event.params))
        elif isinstance(event, Log) and exchange.can_show and self._is_wanted(event):
            await exchange.show(wire.log_message(event.params))

    def close(self) -> None:
        """Forget questions that are still open; their answers come too late."""
        session = self._asked.session
        if session is not None:
            for ask_id in self._asked.questions:
                session.asks.pop(ask_id, None)

    def _advances(self, event: Progress) -> bool:
        """Progress must increase with each notification (mcp.md S13)."""
        try:
            value = _number.decode(event.params["progress"])
        except (KeyError, msgspec.DecodeError):
            return False
        if value <= self._progress:
            return False
        self._progress = value
        return True

    def _is_wanted(self, event: Log) -> bool:
        wanted = self._asked.call.traits.log_level
        if wanted is None:
            return self._asked.era == "legacy"
        level = text_of(event.params.get("level"))
        return level in LOG_LEVELS and LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted)

    async def _ask(self, question: Ask) -> None:
        asked, session = self._asked, self._asked.session
        declined = why_not_asked(question, asked.call.traits)
        if declined is None and (session is None or not asked.exchange.can_show):
            declined = Failure("unsupported", "The caller cannot be reached for a question.")
        if declined is not None or session is None:
            await question.answer(declined or Failure("unsupported", "Nobody can be asked."))
            return
        ask_id = f"portico-{next(self._ask_ids)}"

        async def take(message: Message) -> None:
            session.asks.pop(ask_id, None)
            await question.answer(_answer_in(message))

        session.asks[ask_id] = take
        asked.questions.append(ask_id)
        await asked.exchange.show(
            wire.ask(ask_id, question.method, question.params, asked.call.meta)
        )


def _answer_in(message: Message) -> Raw | Failure:
    """What a client said to a question: its result, or its error in its own words."""
    if isinstance(message.result, Raw):
        return message.result
    try:
        error = decode_error(message.error) if message.error is not UNSET else None
    except (msgspec.DecodeError, RecursionError):
        error = None
    if error is None:
        return Failure("error", "The caller's answer cannot be read.", code=codes.INVALID_REQUEST)
    data = error.data if isinstance(error.data, Raw) else None
    return Failure("error", error.message, code=error.code, data=data)
