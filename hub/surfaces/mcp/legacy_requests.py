"""Requests, notifications and answers inside a legacy session, whatever transport carries them."""

from collections.abc import Callable
from typing import Final

from msgspec import Raw, Struct

from hub.domain.call import CallerTraits
from hub.passage import Passage
from hub.pipeline import Admitted
from hub.surfaces.mcp.answering import Answer, Answering, UnknownSession
from hub.surfaces.mcp.asked import SILENT, Asked, Exchange
from hub.surfaces.mcp.calls import Caller, Calls
from hub.surfaces.mcp.collaborators import Collaborators, LiveSession
from hub.surfaces.mcp.down_level import askable
from hub.surfaces.mcp.feed import Feed
from hub.surfaces.mcp.inbound import (
    Inbound,
    Malformed,
    members_param,
    parse_batch,
    text_of,
    text_param,
)
from hub.surfaces.mcp.listen import MAX_URIS
from hub.surfaces.mcp.session_ids import Session, relayed_capabilities
from mcp_wire import codes
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.jsonrpc import Message, encode_result, raw, string_of
from mcp_wire.revisions import negotiate

MAX_BATCH: Final = 50
BATCHING: Final = "2025-03-26"
"""The one revision that has batches; the next one removed them."""

_HUNG_UP: Final = raw({"code": codes.INTERNAL_ERROR, "message": "The caller has hung up."})


class Handshake(Struct, frozen=True):
    """What ``initialize`` settled."""

    revision: str
    client_capabilities: Raw
    client_info: Raw | None


class LegacyRequests:
    """What HTTP, HTTP+SSE and standard streams have in common on the legacy wire."""

    def __init__(
        self, answering: Answering, calls: Calls, server_info: Raw, given: Collaborators
    ) -> None:
        self._answering = answering
        self._calls = calls
        self._server_info = server_info
        self._tasks = given.tasks
        self._roots_changed = given.roots_changed
        self._sessions = given.sessions
        self._session_left = given.session_left

    def handshake(self, message: Inbound) -> Handshake:
        """The revision and protocol capabilities of an ``initialize`` request. Raises Malformed."""
        client_info = message.params.get("clientInfo")
        revision = negotiate(text_param(message, "protocolVersion"))
        declared = askable(members_param(message, "capabilities"), revision)
        return Handshake(
            revision,
            relayed_capabilities(declared),
            None if client_info is None else client_info.copy(),
        )

    async def initialize(self, message: Inbound, caller: Caller, shaken: Handshake) -> Answer:
        """Answer ``initialize``; a session begins where ``admitted`` is set. Raises Malformed."""
        traits = CallerTraits(
            revision=shaken.revision,
            client_capabilities=shaken.client_capabilities,
            client_info=shaken.client_info,
        )
        asked = Asked(
            call=self._calls.of(message, "legacy", caller, traits),
            id=_id_of(message),
            era="legacy",
            exchange=SILENT,
            extra={"protocolVersion": raw(shaken.revision), "serverInfo": self._server_info},
        )
        return await self._answering.answer(asked)

    def asked(
        self,
        message: Inbound,
        caller: Caller,
        session: Session,
        live: LiveSession,
        exchange: Exchange,
    ) -> Asked:
        """The call of a request inside a session. Raises Malformed."""
        _check(message, live)
        token = message.meta.get(codes.META_PROGRESS)
        traits = CallerTraits(
            revision=session.revision,
            client_capabilities=session.client_capabilities,
            client_info=live.client_info,
            wants_progress=token is not None,
            log_level=live.log_level,
            session=session.nonce,
        )

        def check(admitted: Admitted) -> None:
            if not session.belongs_to(admitted.principal):
                raise UnknownSession

        return Asked(
            call=self._calls.of(message, "legacy", caller, traits),
            id=_id_of(message),
            era="legacy",
            exchange=exchange,
            progress_token=token,
            check=check,
            session=live,
        )

    async def run(
        self,
        asked: Asked,
        live: LiveSession,
        feed: Callable[[], Feed | None],
        passage: Passage | None = None,
    ) -> Answer | None:
        """The answer of a request; None when the caller cancelled it. ``feed`` finds the open stream's."""
        answer = await self._answering.answer_unless_cancelled(asked, live.calls, passage)
        if answer is not None and answer.admitted is not None:
            stream = feed()
            _apply(asked, live, stream)
            if stream is not None and asked.call.operation == "resources/subscribe":
                await stream.settled()
        return answer

    def take_notification(
        self, message: Inbound, live: LiveSession, session: Session | None
    ) -> None:
        """Do what a notification asks for: cancel a call, or tell upstreams that roots changed."""
        if message.method == "notifications/roots/list_changed" and session is not None:
            self._roots_changed(session.tenant, session.principal, session.nonce)
        if message.method == "notifications/cancelled" and "requestId" in message.params:
            cancel = live.calls.get(bytes(message.params["requestId"]))
            if cancel is not None:
                cancel()

    def take_answer(self, message: Inbound, live: LiveSession) -> None:
        """Hand the answer of a question to whoever asked; one that nobody waits for is dropped."""
        take = live.asks.get(text_of(message.id) or "")
        if take is not None and message.answer is not None:
            self._tasks.start_soon(take, message.answer)

    def decline_questions(self, asked: Asked, live: LiveSession) -> None:
        """Answer the open questions of a call whose caller has gone."""
        for ask_id in asked.questions:
            take = live.asks.get(ask_id)
            if take is not None:
                self._tasks.start_soon(take, Message(error=_HUNG_UP))

    def decline_all(self, live: LiveSession) -> None:
        """Answer every open question of a client that has gone."""
        for take in list(live.asks.values()):
            self._tasks.start_soon(take, Message(error=_HUNG_UP))

    def end(self, session: Session) -> None:
        """End a session for good; upstreams end what they keep for it."""
        self._sessions.end(session.nonce)
        self._session_left(session.tenant, session.nonce)

    def pong(self, message: Inbound) -> bytes:
        """The answer to ``ping``, which is no call."""
        return encode_result(_id_of(message), b"{}")


def batch_of(body: bytes, revision: str | None) -> list[Raw]:
    """The messages of a batch in a session of ``revision``. Raises Malformed."""
    if revision != BATCHING:
        raise Malformed(codes.INVALID_REQUEST, f"Only {BATCHING} has batches.")
    items = parse_batch(body)
    if not 0 < len(items) <= MAX_BATCH:
        raise Malformed(codes.INVALID_REQUEST, f"A batch has 1 to {MAX_BATCH} messages.")
    return items


def _check(message: Inbound, live: LiveSession) -> None:
    """What providers do not look at. Raises Malformed."""
    if message.method == "logging/setLevel" and text_param(message, "level") not in LOG_LEVELS:
        raise Malformed(codes.INVALID_PARAMS, "Unknown log level.", request_id=message.id)
    if message.method == "resources/subscribe" and len(live.subscribed) >= MAX_URIS:
        raise Malformed(
            codes.INVALID_PARAMS, f"{MAX_URIS} subscriptions are open.", request_id=message.id
        )


def _apply(asked: Asked, live: LiveSession, feed: Feed | None) -> None:
    """Note in the session what a successful request changed of it."""
    call = asked.call
    if call.action != "subscribe":
        return
    if call.operation == "logging/setLevel":
        live.log_level = string_of(call.params["level"])
    elif call.operation == "resources/subscribe":
        live.subscribed.add(call.target.name)
        if feed is not None:
            feed.tell_resources([call.target.name])
    elif call.operation == "resources/unsubscribe":
        live.subscribed.discard(call.target.name)
        if feed is not None:
            feed.forget_resources([call.target.name])


def _id_of(message: Inbound) -> Raw:
    if message.id is None:
        raise ValueError("a notification is not answered")
    return message.id
