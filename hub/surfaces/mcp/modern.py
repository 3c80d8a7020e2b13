"""The modern era over HTTP: every POST stands for itself.

Source: 2026-07-28 Streamable HTTP; mcp.md S1 to S9, S12 to S16.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from hub.passage import Passage
from hub.pipeline import Admitted
from hub.surfaces.mcp import wire
from hub.surfaces.mcp.answering import Answer, Cancellation
from hub.surfaces.mcp.arrival import Arrival, Turned, call_header
from hub.surfaces.mcp.asked import SILENT, Asked
from hub.surfaces.mcp.event_stream import EventStream
from hub.surfaces.mcp.feed import Feed
from hub.surfaces.mcp.inbound import (
    Inbound,
    Malformed,
    Mismatch,
    check_envelope,
    check_headers,
    check_revision,
    text_of,
)
from hub.surfaces.mcp.listen import Subscriber, Wanted, subscribe, wanted_by
from hub.surfaces.mcp.machinery import Machinery
from hub.surfaces.mcp.reply import Reply
from hub.wire_errors import Words
from mcp_wire import codes
from mcp_wire.headers import find_param_mismatch


class ModernHttp:
    """Answers modern POSTs."""

    def __init__(self, machinery: Machinery) -> None:
        self._machinery = machinery
        self._given = machinery.given
        self._answering = machinery.answering
        self._requests = machinery.modern
        self._listening: set[ListenStream] = set()

    @property
    def open_streams(self) -> int:
        """How many listen streams are open."""
        return len(self._listening)

    def end_streams(self) -> None:
        """End every listen stream gracefully."""
        for stream in list(self._listening):
            stream.end()

    async def post(self, message: Inbound, arrival: Arrival) -> None:
        """Answer one POST; closing its response stream cancels the request (S14)."""
        if message.answer is not None:
            raise Malformed(
                codes.INVALID_REQUEST, "Answers are not sent in this era.", request_id=message.id
            )
        if not message.is_request:
            await arrival.respond(202)
            return
        revision = check_envelope(message)
        check_headers(message, revision, arrival.fields)
        check_revision(message, revision)
        if message.method == "subscriptions/listen":
            await self._listen(message, revision, arrival)
        else:
            await self._answer(message, revision, arrival)

    async def go_on(
        self, asked: Asked, message: Inbound, arrival: Arrival, passage: Passage
    ) -> None:
        """Answer a request whose call was made and has begun its pass."""
        cancellation = Cancellation()
        reply = Reply(arrival, self._given.tasks, self._given.heartbeat_s, cancellation.cancel)
        check = _param_check(message, arrival) if message.method == "tools/call" else None
        await self._finish(
            replace(asked, exchange=reply, check=check), reply, cancellation, passage
        )

    async def _answer(self, message: Inbound, revision: str, arrival: Arrival) -> None:
        cancellation = Cancellation()
        reply = Reply(arrival, self._given.tasks, self._given.heartbeat_s, cancellation.cancel)
        check = _param_check(message, arrival) if message.method == "tools/call" else None
        try:
            asked = self._requests.asked(message, revision, arrival.caller, reply, check)
        except Malformed:
            reply.give_up()
            raise
        await self._finish(asked, reply, cancellation)

    async def _finish(
        self,
        asked: Asked,
        reply: Reply,
        cancellation: Cancellation,
        passage: Passage | None = None,
    ) -> None:
        reply.headers = (call_header(asked.call.id),)
        answer: Answer | None = None
        try:
            with cancellation:
                answer = await self._answering.answer(asked, passage)
        finally:
            if answer is None:
                reply.give_up()
        if answer is not None:
            await reply.finish(answer)

    async def _listen(self, message: Inbound, revision: str, arrival: Arrival) -> None:
        if not arrival.accepts_stream():
            words = Words(code=codes.INVALID_REQUEST, message="Accept must allow event streams.")
            raise Turned(406, words)
        wanted = wanted_by(message)
        check = self._given.streams.check_admitted
        asked = self._requests.asked(message, revision, arrival.caller, SILENT, check)
        answer = await self._answering.answer(asked)
        if answer.admitted is None:
            await arrival.answer(answer)
            return
        stream = ListenStream(self._machinery, asked, arrival)
        self._listening.add(stream)
        try:
            await stream.serve(wanted, answer.admitted)
        finally:
            self._listening.discard(stream)


class ListenStream:
    """One ``subscriptions/listen`` over HTTP, from acknowledgement to graceful end."""

    def __init__(self, machinery: Machinery, asked: Asked, arrival: Arrival) -> None:
        self._given = machinery.given
        self._asked = asked
        self._server_info = machinery.server_info
        self._stream = EventStream(arrival, self._given.tasks, self._given.heartbeat_s)

    def end(self) -> None:
        """Answer the request, which ends the stream."""
        call = self._asked.call
        self._stream.offer(wire.listen_end(self._asked.id, call.id, self._server_info))
        self._stream.end()

    async def serve(self, wanted: Wanted, admitted: Admitted) -> None:
        """Tell of what is wanted until one side ends it."""
        asked = self._asked
        subscriber = Subscriber(self._stream.offer, self.end, asked.id)
        feed = Feed(self._given, asked.call, admitted.principal, subscriber)
        try:
            told = await subscribe(feed, wanted, self._given.views, asked.call, asked.id)
            self._stream.offer(told)
            await self._stream.serve((call_header(asked.call.id),), feed.check)
        finally:
            feed.close()


def _param_check(message: Inbound, arrival: Arrival) -> Callable[[Admitted], None]:
    """Compare ``Mcp-Param-*`` headers with arguments once the exposed schema is known (S4).

    A tool that was called through ``call_tool`` has no headers of its own to compare.
    """

    def check(admitted: Admitted) -> None:
        exposure = admitted.exposure
        is_named = admitted.call.target.name == text_of(message.params.get("name"))
        if exposure is None or not exposure.param_headers or not is_named:
            return
        arguments = message.params.get("arguments")
        try:
            problem = find_param_mismatch(exposure.param_headers, arguments, arrival.headers)
        except (msgspec.DecodeError, RecursionError):
            problem = "The arguments cannot be compared with their headers"
        if problem is not None:
            raise Mismatch(f"{problem}.")

    return check
