"""Taking one call through the pipeline: its notifications as they come, then its answer.

The answer is made, and the record closed, before its last byte is offered: whoever calls
:meth:`Answering.answer` writes what it returns.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from types import TracebackType
from typing import Any, Final

from msgspec import Raw, Struct

from hub.cache import MAX_FORMS
from hub.domain.outcome import Failure, Refusal, Result
from hub.passage import Passage
from hub.pipeline import Admitted, Pipeline, Running, unkept
from hub.surfaces.mcp import wire
from hub.surfaces.mcp.asked import Asked
from hub.surfaces.mcp.bridge import RETRY_PARAMS
from hub.surfaces.mcp.inbound import Malformed, Mismatch
from hub.surfaces.mcp.parking import Parking, Retry
from hub.surfaces.mcp.relay import Relay
from hub.wire_errors import CRASHED, Words, failed, refused
from mcp_wire import codes
from mcp_wire.jsonrpc import decode_members, encode_result, members_of, raw
from mcp_wire.revisions import Era

_logger = logging.getLogger(__name__)
_PLACE: Final = "the call id comes here"
_WITHIN_SESSION: Final = frozenset((codes.METHOD_NOT_FOUND, codes.INVALID_PARAMS))
"""Errors that legacy clients expect with status 200: a 404 means to them that the session ended."""


class UnknownSession(Refusal):
    """The session belongs to another principal, tenant or virtual server: it is unknown here."""

    def __init__(self) -> None:
        super().__init__("invalid", "Unknown session.", cause="session")


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

    def __init__(
        self, pipeline: Pipeline, server_info: Raw, parking: Parking, answer_within_s: float
    ) -> None:
        """``answer_within_s``: how long legacy callers may take to answer questions."""
        self._pipeline = pipeline
        self._server_info = server_info
        self._parking = parking
        self._answer_within_s = answer_within_s
        self._ask_ids: Iterator[int] = count(1)

    async def answer(self, asked: Asked, passage: Passage | None = None) -> Answer:
        """The answer of a request; its record is closed when this returns.

        ``passage``: its own, where it has begun already.
        """
        retry: Retry | None = None
        if not RETRY_PARAMS.isdisjoint(asked.call.params):
            asked, retry = self._parking.retried(asked)
        call = asked.call
        try:
            return await self._answer(asked, retry, passage)
        except Mismatch as mismatch:
            return self._in_words(
                asked, Words(code=codes.HEADER_MISMATCH, message=mismatch.message, status=400)
            )
        except UnknownSession as unknown:
            return self._in_words(
                asked, Words(code=codes.INVALID_REQUEST, message=unknown.message, status=404)
            )
        except Refusal as refusal:
            return self.refused(asked, refusal)
        except Exception:  # the surface's barrier
            _logger.exception("call %s crashed", call.id, extra={"call": call.id})
            return self.crashed(asked)

    async def answer_unless_cancelled(
        self,
        asked: Asked,
        in_flight: dict[bytes, Callable[[], None]],
        passage: Passage | None = None,
    ) -> Answer | None:
        """The same for clients that cancel by id; None when this one did."""
        key = bytes(asked.id)
        cancellation = Cancellation()
        cancel = in_flight[key] = cancellation.cancel
        answer: Answer | None = None
        try:
            with cancellation:
                answer = await self.answer(asked, passage)
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

    async def _answer(self, asked: Asked, retry: Retry | None, passage: Passage | None) -> Answer:
        running: Running | None = None
        try:
            async with self._pipeline.run(asked.call, retry, passage) as running:
                if asked.check is not None:
                    asked.check(running.admitted)
                end = await self._end_of(running, asked, retry)
                if asked.exchange.gone:
                    running.delivered = "none"
        except BaseException:
            if running is not None and running.parked:
                self._parking.abandon(running.parked, "undelivered")
            raise
        return self.ended(asked, running.admitted, end)

    async def _end_of(
        self, running: Running, asked: Asked, retry: Retry | None
    ) -> Result | Failure:
        relay: Relay | None = None
        try:
            if retry is not None and retry.parked is not None:
                relay = self._relay(running, asked, retry.parked.rounds)
                left = await retry.deliver()
                if left:
                    return await relay.park(left)
            async for event in running:
                if isinstance(event, Result) and not event.input_required:
                    return event
                if relay is None:
                    relay = self._relay(running, asked)
                end = await relay.take(event)
                if end is not None:
                    return end
        finally:
            if relay is not None:
                relay.close()
        raise RuntimeError("an outcome ended without a result")

    def _relay(self, running: Running, asked: Asked, rounds: int = 0) -> Relay:
        return Relay(
            asked,
            running,
            self._parking,
            self._ask_ids,
            answer_within_s=self._answer_within_s,
            rounds=rounds,
        )

    def unkept(self, asked: Asked, error: BaseException) -> Answer:
        """The answer of a request whose record could not be kept."""
        return self.refused(asked, unkept(error))

    def refused(self, asked: Asked, refusal: Refusal) -> Answer:
        """The answer of a request that was turned down."""
        return self._in_words(asked, refused(refusal, asked.call.operation, asked.era))

    def crashed(self, asked: Asked) -> Answer:
        """The answer of a request that we failed at."""
        return self._in_words(asked, Words(code=codes.INTERNAL_ERROR, message=CRASHED))

    def ended(self, asked: Asked, admitted: Admitted, end: Result | Failure) -> Answer:
        """The answer of a request whose call has ended so."""
        call = asked.call
        if isinstance(end, Result):
            server = admitted.virtual_server
            public = server is not None and server.cacheable_publicly
            if end.forms is None:
                message = self._result(asked, end, public=public)
            else:
                message = self._formed(asked, end, end.forms, public=public)
            return Answer(message, call=call.id, admitted=admitted)
        exposure = admitted.exposure
        upstream = exposure.capability.upstream if exposure is not None else ""
        words = failed(end, call.operation, asked.era, upstream, call.target.name)
        return self._in_words(asked, words)

    def _result(self, asked: Asked, result: Result, *, public: bool = False) -> bytes:
        if asked.extra:
            result = Result(raw({**members_of(result.body), **asked.extra}))
        return encode_result(asked.id, self._shown(asked, result, asked.call.id, public))

    def _formed(
        self, asked: Asked, result: Result, forms: dict[str, tuple[bytes, bytes]], *, public: bool
    ) -> bytes:
        """The same for a body that is given again and again: only the call id is put in anew."""
        key = f"{asked.call.traits.revision} {public}"
        form = forms.get(key)
        if form is None:
            shown = self._shown(asked, result, _PLACE, public)
            before, _, behind = shown.rpartition(_PLACE.encode())
            if len(forms) >= MAX_FORMS:
                forms.clear()
            form = forms[key] = before, behind
        before, behind = form
        shown = b"%b%b%b" % (before, asked.call.id.encode("ascii"), behind)
        return encode_result(asked.id, shown)

    def _shown(self, asked: Asked, result: Result, call: str, public: bool) -> bytes:
        """A result as its caller's era and revision have it."""
        operation, body, known = asked.call.operation, result.body, result.members
        if asked.era == "modern":
            members = decode_members(body) if known is None else {**known}
            return wire.modern_result(members, operation, call, self._server_info, public=public)
        return wire.legacy_result(body, operation, call, asked.call.traits.revision)

    def _in_words(self, asked: Asked, words: Words) -> Answer:
        if words.result is not None:
            message = self._result(asked, Result(words.result))
        else:
            message = wire.error_answer(asked.id, words, asked.call.id)
        return Answer(message, words.status, words.headers, asked.call.id)
