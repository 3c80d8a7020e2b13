"""The legacy era over Streamable HTTP: sessions, server requests, one stream for server messages.

Source: 2025-03-26 to 2025-11-25 Streamable HTTP; mcp.md S14 to S18.
"""

import secrets
from functools import partial
from typing import Final

import anyio
from msgspec import Raw
from msgspec.structs import replace

from hub.domain.announcement import LIST_KINDS
from hub.domain.call import Call
from hub.domain.outcome import Refusal
from hub.passage import Passage
from hub.surfaces.asgi import JSON
from hub.surfaces.mcp.answering import Answer
from hub.surfaces.mcp.arrival import Arrival, Turned, call_header, check_room, unknown_session
from hub.surfaces.mcp.asked import SILENT, Asked
from hub.surfaces.mcp.collaborators import LiveSession
from hub.surfaces.mcp.event_stream import EventStream
from hub.surfaces.mcp.feed import Feed
from hub.surfaces.mcp.inbound import Inbound, Malformed, parse
from hub.surfaces.mcp.legacy_requests import batch_of
from hub.surfaces.mcp.listen import Subscriber
from hub.surfaces.mcp.machinery import Machinery, identified, malformed
from hub.surfaces.mcp.reply import Reply, frame
from hub.surfaces.mcp.resumable import RESUMABLE_SINCE, ResumableReply
from hub.surfaces.mcp.session_ids import Session, SessionIds, knows_completion
from hub.surfaces.mcp.wire import error_answer
from hub.wire_errors import CANCELLED, Words, refused
from mcp_wire import codes
from mcp_wire.jsonrpc import encode_error
from mcp_wire.revisions import LEGACY_REVISIONS, MODERN_REVISIONS, at_least

_POST_ONLY: Final = ((b"allow", b"POST"),)


class LegacyHttp:
    """Answers legacy POSTs, and keeps the streams of sessions."""

    def __init__(self, machinery: Machinery, ids: SessionIds) -> None:
        self._machinery = machinery
        self._given = machinery.given
        self._answering = machinery.answering
        self._calls = machinery.calls
        self._requests = machinery.legacy
        self._ids = ids
        self._feeds: dict[str, Feed] = {}

    @property
    def open_streams(self) -> int:
        """How many streams for server messages are open."""
        return len(self._feeds)

    async def post(self, message: Inbound, arrival: Arrival) -> None:
        """Answer one POST with one message in it."""
        if message.method == "initialize" and message.is_request:
            await self._initialize(message, arrival)
            return
        session, live = self._session_of(arrival)
        if message.method == "ping" and message.is_request:
            self._own(session, arrival)
            await arrival.respond(200, self._requests.pong(message), (JSON,))
        elif message.is_request:
            await self._answer(message, session, live, arrival)
        else:
            self._own(session, arrival)
            self._take(message, session, live)
            await arrival.respond(202)

    async def post_batch(self, body: bytes, arrival: Arrival) -> None:
        """Answer one POST with several messages in it, each its own call (2025-03-26)."""
        session, live = self._session_of(arrival)
        items = batch_of(body, session.revision)
        self._own(session, arrival)
        answers: list[bytes] = []

        async def answer(item: Raw) -> None:
            answered = await self._answer_in_batch(item, session, live, arrival)
            if answered is not None:
                answers.append(answered)

        async with anyio.create_task_group() as batch:
            for item in items:
                batch.start_soon(answer, item)
        if answers:
            await arrival.respond(200, b"[%b]" % b",".join(answers), (JSON,))
        else:
            await arrival.respond(202)

    async def stream(self, arrival: Arrival) -> None:
        """Serve the session's stream for server messages; a newer one takes over (S18)."""
        if b"mcp-session-id" not in arrival.fields or _is_modern(arrival):
            await arrival.respond(405, headers=_POST_ONLY)
            return
        session, live = self._session_of(arrival)
        self._own(session, arrival)
        if not arrival.accepts_stream():
            raise Turned(406, Words(code=codes.INVALID_REQUEST, message="Accept event streams."))
        call = self._calls.standing(arrival.caller, "GET")
        if not self._given.views.admits(call):
            raise Turned(403, refused(Refusal("virtual_server"), "GET", "legacy"))
        event_id = arrival.fields.get(b"last-event-id")
        if event_id and live.request_of(event_id) is not None:
            await self._resume(event_id, live, call, arrival)
        else:
            await self._announce(session, live, call, arrival)

    async def _resume(self, event_id: str, live: LiveSession, call: Call, arrival: Arrival) -> None:
        """Go on with the stream of an answer, after an event of it; what is lost is said to be."""
        stream = EventStream(arrival, self._given.tasks, self._given.heartbeat_s)
        replay = live.stream_of(event_id)
        if replay is None or not (replay.is_whole or replay.after(event_id)):
            words = Words(code=codes.INTERNAL_ERROR, message="The answer is no longer kept.")
            stream.offer(error_answer(Raw(live.request_of(event_id) or b"null"), words, ""))
            stream.end()
            await stream.serve((), lambda: None)
            return

        def check() -> None:
            if not self._given.views.admits(call):
                stream.end()

        for said_id, message in replay.after(event_id):
            stream.offer_chunk(frame(message, said_id))
        if replay.ended:
            stream.end()
        replay.take_up(stream)
        try:
            await stream.serve((), check)
        finally:
            replay.leave(stream)

    async def _announce(
        self, session: Session, live: LiveSession, call: Call, arrival: Arrival
    ) -> None:
        """Tell of changes; what an earlier stream of the session missed is made up for."""
        principal = self._given.views.principal(call)
        if live.hang_up is not None:
            live.hang_up()
        else:
            check_room(self._given.streams, principal, call)
        stream = EventStream(arrival, self._given.tasks, self._given.heartbeat_s)
        subscriber = Subscriber(stream.offer, stream.end)
        feed = Feed(self._given, call, principal, subscriber)
        live.hang_up = stream.end
        self._feeds[session.nonce] = feed
        try:
            feed.tell_lists(LIST_KINDS, live.told)
            if knows_completion(session):
                feed.tell_session(session.nonce)
            feed.tell_resources(live.subscribed)
            if live.subscribed:
                self._given.tasks.start_soon(feed.catch_up)
            if live.restored:
                live.restored = False
                for kind in LIST_KINDS:
                    subscriber.list_changed(kind)
            await stream.serve((), feed.check)
        finally:
            live.told = feed.told
            feed.close()
            if self._feeds.get(session.nonce) is feed:
                del self._feeds[session.nonce]
                live.hang_up = None

    async def delete(self, arrival: Arrival) -> None:
        """End a session: its id is unknown from now on."""
        if _is_modern(arrival):
            await arrival.respond(405, headers=_POST_ONLY)
            return
        session, _ = self._session_of(arrival)
        self._own(session, arrival)
        self._requests.end(session)
        await arrival.respond(204)

    def session_of(
        self, session_id: str, virtual_server: str
    ) -> tuple[Session, LiveSession] | None:
        """The session that an id names, whoever says it; None for unknown ones."""
        session = self._ids.unseal(session_id)
        if session is None or session.virtual_server != virtual_server:
            return None
        live = self._given.sessions.resume(session.nonce)
        return None if live is None else (session, live)

    def end_streams(self) -> None:
        """End every open stream."""
        for feed in list(self._feeds.values()):
            feed.dismiss()

    async def _initialize(self, message: Inbound, arrival: Arrival) -> None:
        shaken = self._requests.handshake(message)
        answer = await self._requests.initialize(message, arrival.caller, shaken)
        if answer.admitted is None:
            await arrival.answer(answer)
            return
        principal = answer.admitted.principal
        session = Session(
            revision=shaken.revision,
            client_capabilities=shaken.client_capabilities,
            principal=principal.name,
            tenant=principal.tenant,
            virtual_server=arrival.caller.virtual_server,
            nonce=secrets.token_urlsafe(12),
        )
        self._given.sessions.begin(session.nonce).client_info = shaken.client_info
        session_id = self._ids.seal(session).encode("ascii")
        await arrival.answer(answer, (b"mcp-session-id", session_id))

    async def go_on(
        self, asked: Asked, session: Session, arrival: Arrival, passage: Passage
    ) -> None:
        """Answer a request whose call was made and has begun its pass."""
        live = asked.session
        if live is None:
            raise ValueError("a legacy request belongs to a session")
        reply = self._reply(asked.id, session, live, arrival)
        asked = replace(asked, exchange=reply)
        await self._finish(asked, reply, session, live, arrival, passage)

    async def _answer(
        self, message: Inbound, session: Session, live: LiveSession, arrival: Arrival
    ) -> None:
        reply = self._reply(message.id, session, live, arrival)
        try:
            asked = self._requests.asked(message, arrival.caller, session, live, reply)
        except Malformed:
            reply.give_up()
            raise
        await self._finish(asked, reply, session, live, arrival)

    async def _finish(
        self,
        asked: Asked,
        reply: Reply,
        session: Session,
        live: LiveSession,
        arrival: Arrival,
        passage: Passage | None = None,
    ) -> None:
        reply.headers = (call_header(asked.call.id),)
        reply.on_gone = partial(self._requests.decline_questions, asked, live)
        feed = partial(self._feeds.get, session.nonce)
        try:
            answer = await self._requests.run(asked, live, feed, passage)
        except BaseException:
            reply.give_up()
            raise
        if answer is not None and self._is_anothers(session, arrival):
            # Whatever became of the call, its caller knows of no such session.
            unknown = unknown_session()
            reply.headers = ()
            words = unknown.words
            body = encode_error(asked.id, words.code, words.message, words.data)
            answer = Answer(body, unknown.status)
        await reply.finish(cancelled(asked) if answer is None else answer)

    def _reply(
        self, request_id: Raw | None, session: Session, live: LiveSession, arrival: Arrival
    ) -> Reply:
        tasks, heartbeat_s = self._given.tasks, self._given.heartbeat_s
        if not at_least(session.revision, RESUMABLE_SINCE):
            return Reply(arrival, tasks, heartbeat_s, None)
        keep = partial(live.begin_stream, bytes(request_id or b"null"))
        return ResumableReply(arrival, tasks, heartbeat_s, keep, session.revision)

    async def _answer_in_batch(
        self, item: Raw, session: Session, live: LiveSession, arrival: Arrival
    ) -> bytes | None:
        try:
            message = parse(item)
            if not message.is_request:
                self._take(message, session, live)
                return None
            if message.method == "ping":
                return self._requests.pong(message)
            if message.method == "initialize" or message.is_modern:
                raise Malformed(codes.INVALID_REQUEST, "Not in a batch.", request_id=message.id)
            asked = self._requests.asked(message, arrival.caller, session, live, SILENT)
        except Malformed as error:
            return malformed(self._machinery, error, "legacy", arrival.caller).message
        answer = await self._requests.run(asked, live, partial(self._feeds.get, session.nonce))
        return None if answer is None else answer.message

    def _take(self, message: Inbound, session: Session, live: LiveSession) -> None:
        if message.answer is not None:
            self._requests.take_answer(message, live)
        else:
            self._requests.take_notification(message, live, session)

    def _session_of(self, arrival: Arrival) -> tuple[Session, LiveSession]:
        """The session that a request names. Raises Turned: 400 without an id, 404 for unknown ones."""
        revision = arrival.fields.get(b"mcp-protocol-version")
        if revision is not None and revision not in LEGACY_REVISIONS:
            raise Turned(
                400, Words(code=codes.INVALID_REQUEST, message="Unsupported protocol version.")
            )
        session_id = arrival.fields.get(b"mcp-session-id")
        if session_id is None:
            raise Turned(
                400, Words(code=codes.INVALID_REQUEST, message="Mcp-Session-Id is missing.")
            )
        found = self.session_of(session_id, arrival.caller.virtual_server)
        if found is None:
            raise unknown_session()
        return found

    def _own(self, session: Session, arrival: Arrival) -> None:
        """Raises Turned unless the session is the caller's own; for what passes no pipeline."""
        if not session.belongs_to(identified(self._machinery, arrival.caller)):
            raise unknown_session()

    def _is_anothers(self, session: Session, arrival: Arrival) -> bool:
        """Whether the caller is somebody, and the session somebody else's."""
        try:
            principal = self._given.views.principal(self._calls.standing(arrival.caller, "POST"))
        except Refusal:
            return False
        return not session.belongs_to(principal)


def cancelled(asked: Asked) -> Answer:
    """The answer of a request that its client cancelled."""
    words = Words(code=CANCELLED, message="The request was cancelled.")
    return Answer(error_answer(asked.id, words, asked.call.id), call=asked.call.id)


def _is_modern(arrival: Arrival) -> bool:
    return arrival.fields.get(b"mcp-protocol-version") in MODERN_REVISIONS
