"""What a call says on its way, in both directions, through the guardrails that hold for it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NoReturn

from msgspec import Raw
from msgspec.structs import replace

from hub.domain.guarding import Context
from hub.domain.outcome import Ask, Chunk, Event, Failure, Log, Progress, Refusal, Result, Withdrawn
from hub.domain.rules import Direction
from hub.guard.chain import Guardrail, Passed, inspected
from hub.guard.stream import TextStream
from mcp_wire.jsonrpc import decode_batch, decode_members, raw, string_of

_NAME: Final = "name"
_REFERENCE: Final = "ref"
"""What says, as ``name`` does, which capability is meant: that was decided by then, and is not looked at."""
_META: Final = "_meta"
_FIXED: Final = ("uri", _REFERENCE, _META)
"""What is looked at and goes on as it came, or the call is refused."""
_THEIR_WORDS: Final = frozenset(("error", "status"))
"""Failures that are told in the upstream's words."""


class Passing:
    """The guardrails of one call at work."""

    __slots__ = (
        "_asked",
        "_meta",
        "_request",
        "_request_context",
        "_response",
        "_response_context",
        "_stream",
        "notes",
    )

    def __init__(
        self,
        request: Sequence[Guardrail],
        response: Sequence[Guardrail],
        request_context: Context,
        response_context: Context,
        meta: Mapping[str, Raw] | None = None,
    ) -> None:
        """``meta``: what goes to the upstream beside the parameters, and is looked at with them."""
        self._request = request
        self._response = response
        self._request_context = request_context
        self._response_context = response_context
        self._meta = meta
        self._stream: TextStream | None = None
        self._asked: dict[int, Ask] = {}
        """By identity of an upstream's question: what its caller was asked."""
        self.notes: list[str] = []
        """What acted so far, for the record."""

    @property
    def waits_for_response(self) -> bool:
        """Whether an answer has to wait for somebody who is asked about it."""
        return any(guardrail.waits for guardrail in self._response)

    def params(self, params: Mapping[str, Raw]) -> Mapping[str, Raw]:
        """A request's parameters as they may go to the upstream. Raises Refusal.

        Nobody has to be asked, or TypeError is raised.
        """
        if not self._request:
            return params
        seen = self._seen(params)
        passed = _at_once(self._request, bytes(raw(seen)), self._request_context)
        return self._params(params, seen, passed)

    async def params_asked(self, params: Mapping[str, Raw]) -> Mapping[str, Raw]:
        """The same where others are asked."""
        if not self._request:
            return params
        seen = self._seen(params)
        passed = await _inspected(self._request, bytes(raw(seen)), self._request_context)
        return self._params(params, seen, passed)

    async def answers(self, more: Mapping[str, Raw]) -> Mapping[str, Raw]:
        """What a caller sends beside its parameters, on its way to the upstream. Raises Refusal."""
        if not self._request or not more:
            return more
        body = bytes(raw(more))
        passed = await self._beside(self._request, body, self._request_context)
        if passed.blocked_by:
            _refuse(passed.blocked_by, "request")
        return more if passed.body == body else decode_members(Raw(passed.body))

    def result(self, result: Result) -> Result:
        """An answer as it may go to the caller, where nobody has to be asked. Raises Refusal."""
        if not self._response:
            return result
        body = bytes(result.body)
        return self._result(result, body, _at_once(self._response, body, self._response_context))

    async def event(self, event: Event) -> Sequence[Event]:
        """What may go to the caller of an event: itself, another in its place, or none.

        Raises Refusal where an answer is blocked. A notification that is blocked is dropped, a
        question is declined.
        """
        if isinstance(event, Result):
            body = bytes(event.body)
            passed = await _inspected(self._response, body, self._response_context)
            return (*self._rest_of_stream(), self._result(event, body, passed))
        if isinstance(event, Failure):
            return (*self._rest_of_stream(), await self._failure(event))
        if isinstance(event, Progress | Log):
            params = await self._told(raw(event.params))
            return () if params is None else (type(event)(decode_members(params)),)
        if isinstance(event, Ask):
            return await self._question(event)
        if isinstance(event, Withdrawn):
            asked = self._asked.pop(id(event.ask), None)
            return () if asked is None else (Withdrawn(asked),)
        if isinstance(event, Chunk):
            return self._chunk(event)
        return (event,)

    def _seen(self, params: Mapping[str, Raw]) -> dict[str, Raw]:
        """What guardrails look at of parameters."""
        target = self._request_context.target
        seen = {n: value for n, value in params.items() if n != _NAME or string_of(value) != target}
        if bytes(seen.get(_REFERENCE, b""))[:1] == b"{":
            members = decode_members(seen.pop(_REFERENCE))
            more = {n: value for n, value in members.items() if string_of(value) != target}
            seen[_REFERENCE] = raw(more)
        if self._meta:
            seen[_META] = raw(self._meta)
        return seen

    async def _beside(
        self, guardrails: Sequence[Guardrail], body: bytes, context: Context
    ) -> Passed:
        """What is said beside parameters and result, of which no schema speaks."""
        passed = await _inspected(guardrails, body, replace(context, schema=None))
        self.notes += passed.notes
        return passed

    def _params(
        self, params: Mapping[str, Raw], seen: Mapping[str, Raw], passed: Passed
    ) -> Mapping[str, Raw]:
        self.notes += passed.notes
        if passed.blocked_by:
            _refuse(passed.blocked_by, "request")
        if not passed.notes:
            return params
        members = decode_members(Raw(passed.body))
        if any(members.pop(name, None) != seen.get(name) for name in _FIXED):
            _refuse(_redacting(passed), "request")
        unseen = {n: value for n, value in params.items() if n not in seen or n in _FIXED}
        return {**members, **unseen}

    def _result(self, result: Result, body: bytes, passed: Passed) -> Result:
        self.notes += passed.notes
        if passed.blocked_by:
            _refuse(passed.blocked_by, "response")
        if passed.body == body:
            return result
        return Result(Raw(passed.body), input_required=result.input_required)

    async def _failure(self, failure: Failure) -> Failure:
        """An upstream's own words may hold what its answers may not."""
        if not self._response or failure.kind not in _THEIR_WORDS:
            return failure
        return await self._worded(failure, self._response, self._response_context)

    async def _worded(
        self, failure: Failure, guardrails: Sequence[Guardrail], context: Context
    ) -> Failure:
        """A failure without what its words may not hold. Raises Refusal."""
        said = [failure.message] if failure.data is None else [failure.message, failure.data]
        body = bytes(raw(said))
        passed = await self._beside(guardrails, body, context)
        if passed.blocked_by:
            _refuse(passed.blocked_by, context.direction)
        if passed.body == body:
            return failure
        message, *data = decode_batch(passed.body)
        return replace(failure, message=string_of(message) or "", data=data[0] if data else None)

    async def _told(self, params: Raw) -> Raw | None:
        """What the caller may hear in between; None: nothing."""
        passed = await self._beside(self._response, bytes(params), self._response_context)
        return None if passed.blocked_by else Raw(passed.body)

    async def _question(self, ask: Ask) -> Sequence[Event]:
        params = await self._told(ask.params)
        if params is None:
            await ask.answer(Failure("unsupported", "A guardrail does not let this be asked."))
            return ()
        # The question itself is kept as well, so that its identity stays its own.
        asked = Ask(ask.method, params, self._answering(ask))
        self._asked[id(ask)] = asked
        return (asked,)

    def _answering(self, ask: Ask) -> Callable[[Raw | Failure], Awaitable[None]]:
        """What the caller answers goes to the upstream: it is a request's content."""

        async def take(said: Raw | Failure) -> None:
            try:
                await ask.answer(await self._answer(said))
            except Refusal as refusal:
                await ask.answer(Failure("unsupported", refusal.message))

        return take

    async def _answer(self, said: Raw | Failure) -> Raw | Failure:
        """What the caller answers as it may go to the upstream. Raises Refusal."""
        if isinstance(said, Failure):
            return await self._worded(said, self._request, self._request_context)
        passed = await self._beside(self._request, bytes(said), self._request_context)
        if passed.blocked_by:
            _refuse(passed.blocked_by, "request")
        return Raw(passed.body)

    def _chunk(self, chunk: Chunk) -> Sequence[Event]:
        if not self._response:
            return (chunk,)
        if self._stream is None:
            self._stream = TextStream(self._response, self._response_context)
        return _released(self._stream, self._stream.feed(chunk.data))

    def _rest_of_stream(self) -> Sequence[Event]:
        stream, self._stream = self._stream, None
        if stream is None:
            return ()
        rest = stream.end()
        self.notes += stream.notes
        return _released(stream, rest)


def _released(stream: TextStream, data: bytes) -> Sequence[Event]:
    if stream.blocked_by:
        _refuse(stream.blocked_by, "response")
    return (Chunk(data),) if data else ()


async def _inspected(guardrails: Sequence[Guardrail], body: bytes, context: Context) -> Passed:
    passed = inspected(guardrails, body, context) if guardrails else Passed(body)
    return passed if isinstance(passed, Passed) else await passed


def _at_once(guardrails: Sequence[Guardrail], body: bytes, context: Context) -> Passed:
    passed = inspected(guardrails, body, context)
    if not isinstance(passed, Passed):
        raise TypeError("a guardrail has to be waited for")
    return passed


def _refuse(rule: str, direction: Direction) -> NoReturn:
    what = "The request" if direction == "request" else "The answer"
    raise Refusal(
        "guardrail",
        f"{what} was blocked by the guardrail '{rule}'.",
        cause=f"guardrail {rule}",
        rule=rule,
        data=raw({"rule": rule, "direction": direction}),
    )


def _redacting(passed: Passed) -> str:
    """The first guardrail that cut something out."""
    return next(note for note in passed.notes if note.endswith("=redact")).rpartition("=")[0]
