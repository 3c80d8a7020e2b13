"""Both eras over one duplex channel of messages: what HTTP+SSE and standard streams have in common.

Each message is judged by itself, so that a client may probe in one era and go on in the other.
"""

import logging
import secrets
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from hub.domain.announcement import LIST_KINDS
from hub.domain.principal import Principal
from hub.surfaces.mcp import wire
from hub.surfaces.mcp.answering import Answer
from hub.surfaces.mcp.asked import Asked
from hub.surfaces.mcp.calls import Caller
from hub.surfaces.mcp.collaborators import LiveSession
from hub.surfaces.mcp.feed import Feed
from hub.surfaces.mcp.inbound import (
    Inbound,
    Malformed,
    check_envelope,
    check_revision,
    is_batch,
    parse,
)
from hub.surfaces.mcp.legacy_requests import batch_of
from hub.surfaces.mcp.listen import Subscriber, subscribe, wanted_by
from hub.surfaces.mcp.machinery import Machinery, malformed
from hub.surfaces.mcp.session_ids import Session, knows_completion
from hub.wire_errors import CRASHED, Words
from mcp_wire import codes
from mcp_wire.revisions import Era

_logger = logging.getLogger(__name__)

NONCE_BYTES: Final = 12


class Outlet(Protocol):
    """Where a channel's messages go."""

    @property
    def gone(self) -> bool:
        """Whether nothing more can be sent."""
        ...

    def offer(self, message: bytes) -> None:
        """Send a message when its turn comes; does not wait."""
        ...

    async def room(self) -> None:
        """Wait until few messages wait."""
        ...

    def end(self) -> None:
        """Close the channel once everything offered so far was sent."""
        ...


class Channel:
    """One client on one channel. Calls run in ``tasks``, each on its own."""

    can_show = True

    def __init__(
        self,
        machinery: Machinery,
        caller: Caller,
        outlet: Outlet,
        tasks: TaskGroup,
        nonce: str,
    ) -> None:
        self._machinery = machinery
        self._caller = caller
        self._outlet = outlet
        self._tasks = tasks
        self._nonce = nonce
        self._live: LiveSession = machinery.given.sessions.begin(nonce)
        self._session: Session | None = None
        self._feed: Feed | None = None
        self._listening: dict[bytes, tuple[Asked, Feed]] = {}
        self._under_way = 0
        self._idle = anyio.Event()

    @property
    def gone(self) -> bool:
        """Whether the client can no longer be reached."""
        return self._outlet.gone

    async def show(self, message: bytes) -> None:
        """Send a notification or a request."""
        await self._send(message)

    async def pause(self, _retry_ms: int | None) -> None:
        """Nothing: there is one channel, and it stays."""

    def stand(self, principal: Principal) -> Feed:
        """Count the channel as its client's, and end it as soon as the client may not be here."""
        if self._feed is not None:
            self._feed.close()
        subscriber = Subscriber(self._outlet.offer, self._outlet.end)
        call = self._machinery.calls.standing(self._caller, "stream")
        self._feed = Feed(self._machinery.given, call, principal, subscriber)
        return self._feed

    def receive(self, body: bytes) -> None:
        """Take what came in one piece; a batch is answered as one. Raises Malformed."""
        if not is_batch(body):
            self._take(parse(body))
            return
        items = batch_of(body, self._session.revision if self._session is not None else None)
        batch = _Batch(len(items), self._outlet)
        for item in items:
            try:
                message = parse(item)
                if message.is_request and (message.is_modern or message.method == "initialize"):
                    raise Malformed(codes.INVALID_REQUEST, "Not in a batch.", request_id=message.id)
                self._take(message, batch)
            except Malformed as error:
                batch.take(malformed(self._machinery, error, "legacy", self._caller).message)

    def refuse(self, error: Malformed) -> None:
        """Answer what is no message."""
        self._outlet.offer(malformed(self._machinery, error, "legacy", self._caller).message)

    async def idle(self) -> None:
        """Wait until every request taken so far is answered."""
        while self._under_way:
            self._idle = anyio.Event()
            await self._idle.wait()

    def check(self) -> None:
        """End the channel when its client may not be here any longer."""
        if self._feed is not None:
            self._feed.check()

    def cancel_calls(self) -> None:
        """Give up what is under way."""
        for cancel in list(self._live.calls.values()):
            cancel()

    def end_listening(self) -> None:
        """End every listen request, each with its answer."""
        for key in list(self._listening):
            self._finish_listening(key)

    def close(self) -> None:
        """Forget the client; calls under way go on and nobody hears of them. Idempotent."""
        for _, feed in self._listening.values():
            feed.close()
        self._listening.clear()
        if self._feed is not None:
            self._feed.close()
        self._machinery.legacy.decline_all(self._live)
        if self._session is not None:
            self._machinery.legacy.end(self._session)
        else:
            self._machinery.given.sessions.end(self._nonce)

    def _take(self, message: Inbound, batch: "_Batch | None" = None) -> None:
        """Do what a message asks for; its answer, if one is owed, comes on the channel."""
        if message.is_request:
            self._under_way += 1
            self._tasks.start_soon(self._answer, message, batch)
            return
        if message.answer is not None:
            self._machinery.legacy.take_answer(message, self._live)
        elif not self._end_listening(message):
            self._machinery.legacy.take_notification(message, self._live, self._session)
        if batch is not None:
            batch.take(None)

    async def _answer(self, message: Inbound, batch: "_Batch | None") -> None:
        era: Era = "modern" if message.is_modern else "legacy"
        try:
            if era == "modern":
                answer = await self._answer_modern(message)
            else:
                answer = await self._answer_legacy(message)
        except Malformed as error:
            answer = malformed(self._machinery, error, era, self._caller)
        except Exception:  # the surface's barrier: this task is the application's
            _logger.exception("a request crashed")
            words = Words(code=codes.INTERNAL_ERROR, message=CRASHED)
            answer = Answer(wire.error_answer(message.id, words, ""))
        finally:
            self._under_way -= 1
            self._idle.set()
        if batch is not None:
            batch.take(None if answer is None else answer.message)
            await self._outlet.room()
        elif answer is not None:
            await self._send(answer.message)

    async def _answer_modern(self, message: Inbound) -> Answer | None:
        revision = check_envelope(message)
        check_revision(message, revision)
        wanted = wanted_by(message) if message.method == "subscriptions/listen" else None
        machinery = self._machinery
        check = None if wanted is None else machinery.given.streams.check_admitted
        asked = machinery.modern.asked(message, revision, self._caller, self, check)
        answer = await machinery.answering.answer_unless_cancelled(asked, self._live.calls)
        if wanted is None or answer is None or answer.admitted is None:
            return answer
        key = bytes(asked.id)
        subscriber = Subscriber(self._outlet.offer, lambda: self._finish_listening(key), asked.id)
        feed = Feed(machinery.given, asked.call, answer.admitted.principal, subscriber)
        self._listening[key] = (asked, feed)
        told = await subscribe(feed, wanted, machinery.given.views, asked.call, asked.id)
        if key in self._listening:
            self._outlet.offer(told)
        return None

    async def _answer_legacy(self, message: Inbound) -> Answer | None:
        legacy = self._machinery.legacy
        if message.method == "ping":
            return Answer(legacy.pong(message))
        if message.method == "initialize":
            return await self._initialize(message)
        if self._session is None:
            raise Malformed(
                codes.INVALID_REQUEST, "Send 'initialize' first.", request_id=message.id
            )
        asked = legacy.asked(message, self._caller, self._session, self._live, self)
        return await legacy.run(asked, self._live, lambda: self._feed)

    async def _initialize(self, message: Inbound) -> Answer:
        shaken = self._machinery.legacy.handshake(message)
        answer = await self._machinery.legacy.initialize(message, self._caller, shaken)
        if answer.admitted is None:
            return answer
        principal = answer.admitted.principal
        self._session = Session(
            revision=shaken.revision,
            client_capabilities=shaken.client_capabilities,
            principal=principal.name,
            tenant=principal.tenant,
            virtual_server=self._caller.virtual_server,
            nonce=self._nonce,
        )
        self._live.client_info = shaken.client_info
        feed = self.stand(principal)
        feed.tell_lists(LIST_KINDS)
        if knows_completion(self._session):
            feed.tell_session(self._nonce)
        return answer

    def _end_listening(self, message: Inbound) -> bool:
        """Whether a notification cancelled a listen request; nothing more is sent for it then."""
        if message.method != "notifications/cancelled" or "requestId" not in message.params:
            return False
        listening = self._listening.pop(bytes(message.params["requestId"]), None)
        if listening is None:
            return False
        listening[1].close()
        return True

    def _finish_listening(self, key: bytes) -> None:
        listening = self._listening.pop(key, None)
        if listening is not None:
            asked, feed = listening
            feed.close()
            self._outlet.offer(
                wire.listen_end(asked.id, asked.call.id, self._machinery.server_info)
            )

    async def _send(self, message: bytes) -> None:
        self._outlet.offer(message)
        await self._outlet.room()


class _Batch:
    """Collects the answers to one batch and sends them as one array, when no more can come."""

    def __init__(self, size: int, outlet: Outlet) -> None:
        self._left = size
        self._outlet = outlet
        self._answers: list[bytes] = []

    def take(self, answer: bytes | None) -> None:
        """What became of one of its messages; None where nothing is to be said."""
        self._left -= 1
        if answer is not None:
            self._answers.append(answer)
        if not self._left and self._answers:
            self._outlet.offer(b"[%b]" % b",".join(self._answers))


def new_nonce() -> str:
    """What tells one session from all others."""
    return secrets.token_urlsafe(NONCE_BYTES)
