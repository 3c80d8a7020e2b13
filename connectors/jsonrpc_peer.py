"""Our end of one JSON-RPC connection to an MCP upstream, whatever carries its messages.

Requests get our own ids and progress tokens, so callers that share a connection cannot meet. What
an upstream sends is read one level deep; bodies stay the bytes that came.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, cast

import msgspec
from msgspec import Raw

from connectors.alarm import Alarm
from connectors.envelope import declares_extensions, end_of, request_params
from connectors.errors import ConnectorError, ErrorAnswer, ProtocolViolation, Unreachable
from connectors.exchange import Exchange
from connectors.outcome import Ask, Failure, Result
from connectors.peer_exchange import ASKING_METHODS, COMPLETION, EVERY_LEVEL, PeerExchange
from connectors.protocol import Change, OnChange, Request
from mcp_wire.codes import (
    INVALID_REQUEST,
    META_PROGRESS,
    META_SUBSCRIPTION,
    METHOD_NOT_FOUND,
)
from mcp_wire.jsonrpc import (
    EMPTY_OBJECT,
    Message,
    decode_batch,
    decode_message,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    members_of,
    string_of,
)
from mcp_wire.revisions import Era, era_of

MAX_BATCH: Final = 1000
"""Messages in one array (2025-03-26); more break the protocol."""

_CHANGES: Final[Mapping[str, Change]] = {
    "notifications/tools/list_changed": Change("tools"),
    "notifications/resources/list_changed": Change("resources"),
    "notifications/prompts/list_changed": Change("prompts"),
}

_id: Final = msgspec.json.Decoder(int | str)


class Peer:
    """One connection. ``send`` takes an encoded message, or raises ConnectorError when it cannot.

    Whoever carries the connection feeds :meth:`receive` and calls :meth:`disconnect` at its end.
    ``revision`` says what the connection speaks once that is known; a modern one is never sent
    answers (2026-07-28 transports, stdio). Not a task, not a lock: everything runs on the loop.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        on_change: OnChange | None = None,
        cap_s: float = 600.0,
    ) -> None:
        self.revision = ""
        self._send = send
        self._on_change = on_change
        self._cap_s = cap_s
        self._alarm = Alarm()
        self._last_id = 0
        self._in_flight: dict[int, PeerExchange] = {}
        self._acknowledgements: dict[int, Callable[[Raw], None]] = {}
        self._open_asks: dict[bytes, tuple[PeerExchange, Ask]] = {}
        """By id: the upstream's requests that wait for a caller."""
        self._ended: str | None = None

    @property
    def era(self) -> Era:
        """The era of the connection; legacy until something else is known."""
        return era_of(self.revision)

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer."""
        return len(self._in_flight)

    def exchange(self, request: Request, *, interactive: bool = False) -> Exchange:
        """A caller's request; sent when its first event is awaited.

        ``interactive`` lets the upstream ask its caller; at most one such request, alone on its
        connection, keeps the association beyond doubt.
        """
        revision = self.revision if self.era == "modern" else None
        extensions = declares_extensions(request.client_capabilities)
        request_id = self._take_id()
        params = request_params(request, modern_revision=revision, progress_token=request_id)
        exchange = self._exchange(
            request_id, request.method, params, timeout_s=request.timeout_s, extensions=extensions
        )
        exchange.wants_progress = request.wants_progress
        exchange.log_level = request.log_level
        if request.log_level is None and era_of(request.revision) == "legacy" == self.era:
            exchange.log_level = EVERY_LEVEL
        exchange.affinity = request.affinity
        exchange.interactive = interactive
        return exchange

    async def ask(
        self,
        method: str,
        params: Mapping[str, Raw],
        *,
        timeout_s: float,
        cancellable: bool = True,
    ) -> Raw:
        """Our own request: its ``result``.

        Raises ErrorAnswer, ProtocolViolation, or Unreachable for silence and disconnection.
        """
        exchange = self.request(method, params, timeout_s=timeout_s, cancellable=cancellable)
        return result_of(method, await exchange.last())

    def request(
        self,
        method: str,
        params: Mapping[str, Raw],
        *,
        timeout_s: float,
        cancellable: bool = True,
    ) -> Exchange:
        """Our own request, for those who want more of it than its result."""
        return self._exchange(
            self._take_id(), method, params, timeout_s=timeout_s, cancellable=cancellable
        )

    def listen(
        self,
        params: Mapping[str, Raw],
        *,
        acknowledged: Callable[[Raw], None],
        timeout_s: float = math.inf,
    ) -> Exchange:
        """A long-lived ``subscriptions/listen``; ``acknowledged`` gets the honoured filter.

        Changes come through ``on_change``. The exchange ends when the subscription does.
        """
        request_id = self._take_id()
        self._acknowledgements[request_id] = acknowledged
        return self._exchange(
            request_id, "subscriptions/listen", params, timeout_s=timeout_s, cap_s=timeout_s
        )

    def notify(self, method: str, params: Mapping[str, Raw] | None = None) -> None:
        """Send a notification. Raises ConnectorError when the connection cannot take it."""
        self._send(encode_notification(method, params))

    def receive(self, frame: bytes) -> bool:
        """Take one message, or an array of them; False for what is no JSON-RPC at all."""
        try:
            if frame.lstrip()[:1] != b"[":
                self._take(decode_message(frame))
                return True
            batch = decode_batch(frame)
            for item in batch[:MAX_BATCH]:
                self._take(decode_message(item))
        except msgspec.DecodeError:
            return False
        return True

    def disconnect(self, reason: str) -> None:
        """The connection is over: everything in flight fails, further requests do at once."""
        if self._ended is not None:
            return
        self._ended = reason
        self._open_asks.clear()
        for exchange in list(self._in_flight.values()):
            exchange.finish(Failure("disconnected", reason))
        self._in_flight.clear()
        self._alarm.stop()

    def _take_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _exchange(
        self,
        request_id: int,
        method: str,
        params: Mapping[str, Raw],
        *,
        timeout_s: float,
        cap_s: float | None = None,
        extensions: bool = True,
        cancellable: bool = True,
    ) -> PeerExchange:
        exchange = PeerExchange(
            request_id, self._alarm, timeout_s, self._cap_s if cap_s is None else cap_s
        )
        exchange.send = partial(self._launch, method, params)
        exchange.drop = partial(self._dismiss, cancellable=cancellable)
        exchange.understand = partial(end_of, modern=self.era == "modern", extensions=extensions)
        return exchange

    def _launch(self, method: str, params: Mapping[str, Raw], exchange: Exchange) -> Failure | None:
        if self._ended is not None:
            return Failure("unreachable", self._ended)
        self._in_flight[exchange.request_id] = cast(PeerExchange, exchange)
        try:
            self._send(encode_request(exchange.request_id, method, params))
        except ConnectorError as error:
            del self._in_flight[exchange.request_id]
            return Failure("unreachable", str(error))
        return None

    def _dismiss(self, exchange: Exchange, reason: str, *, cancellable: bool) -> None:
        known = self._in_flight.pop(exchange.request_id, None)
        self._acknowledgements.pop(exchange.request_id, None)
        self._decline_asks_of(exchange)
        if known is None or not cancellable or self._ended is not None:
            return
        params = {"requestId": exchange.request_id, "reason": reason}
        self._send_quietly(encode_notification("notifications/cancelled", params))

    def _take(self, message: Message) -> None:
        if message.is_answer:
            self._take_answer(message)
        elif message.is_request:
            self._take_request(message)
        elif message.is_notification:
            self._take_notification(str(message.method), message.params)

    def _take_answer(self, message: Message) -> None:
        request_id = _number_of(message.id)
        exchange = self._in_flight.pop(request_id, None) if request_id is not None else None
        if exchange is None:
            return
        self._acknowledgements.pop(exchange.request_id, None)
        self._decline_asks_of(exchange)
        exchange.answered(message)

    def _take_request(self, message: Message) -> None:
        if self.era == "modern" or not isinstance(message.id, Raw):
            return
        if message.method == "ping":
            self._send_quietly(encode_result(message.id, EMPTY_OBJECT))
            return
        if message.method not in ASKING_METHODS:
            self._refuse(message.id, METHOD_NOT_FOUND, "This client does not know that method.")
            return
        asked = [exchange for exchange in self._in_flight.values() if exchange.interactive]
        if len(asked) != 1:
            self._refuse(message.id, INVALID_REQUEST, "There is nobody here to be asked.")
            return
        params = message.params.copy() if isinstance(message.params, Raw) else EMPTY_OBJECT
        answer = partial(self._answer_ask, message.id.copy(), asked[0])
        ask = Ask(str(message.method), params, answer)
        self._open_asks[bytes(message.id)] = (asked[0], ask)
        asked[0].asked(ask)

    def _take_notification(self, method: str, params: object) -> None:
        try:
            members = members_of(params if isinstance(params, Raw) else None)
            meta = members_of(members.get("_meta"))
        except msgspec.DecodeError:
            return
        if method == "notifications/progress":
            token = _number_of(members.pop(META_PROGRESS, None))
            exchange = self._in_flight.get(token) if token is not None else None
            if exchange is not None:
                exchange.progressed(members)
        elif method == "notifications/message":
            self._take_log(members)
        elif method == "notifications/cancelled":
            self._take_cancel(members)
        else:
            self._take_change(method, members, meta)

    def _take_log(self, members: dict[str, Raw]) -> None:
        """Nothing says whose it is: it is a call's own where that is the only one, and dropped else."""
        calls = [one for one in self._in_flight.values() if one.affinity is not None]
        if len(calls) == 1:
            calls[0].logged(members)

    def _take_cancel(self, members: dict[str, Raw]) -> None:
        """The server withdraws a question, or ends a subscription."""
        request_id = members.get("requestId")
        if request_id is None:
            return
        asked = self._open_asks.pop(bytes(request_id), None)
        if asked is not None:
            asked[0].withdrawn(asked[1])
        number = _number_of(request_id)
        if self.era == "modern" and number in self._acknowledgements:
            del self._acknowledgements[number]
            self._in_flight.pop(number).finish(Failure("disconnected", "The subscription ended."))

    def _take_change(self, method: str, members: dict[str, Raw], meta: dict[str, Raw]) -> None:
        subscription = _number_of(meta.get(META_SUBSCRIPTION))
        if META_SUBSCRIPTION in meta and subscription not in self._acknowledgements:
            return
        if method == "notifications/subscriptions/acknowledged" and subscription is not None:
            self._acknowledgements[subscription](members.get("notifications", EMPTY_OBJECT))
        if self._on_change is None:
            return
        if method in _CHANGES:
            self._on_change(_CHANGES[method])
        elif method == COMPLETION:
            self._take_completion(members)
        elif method == "notifications/resources/updated":
            uri = string_of(members.get("uri"))
            if uri is not None:
                self._on_change(Change("resource", uri))

    def _take_completion(self, members: dict[str, Raw]) -> None:
        """An elicitation by URL is over: of the one call whose caller could be asked."""
        asked = [exchange for exchange in self._in_flight.values() if exchange.interactive]
        elicitation = string_of(members.get("elicitationId"))
        affinity = asked[0].affinity if len(asked) == 1 else None
        if self._on_change is not None and affinity and elicitation is not None:
            self._on_change(Change("elicitation", elicitation, affinity))

    def _decline_asks_of(self, exchange: Exchange) -> None:
        """Whoever asked for this request's sake is told that no answer will come."""
        for request_id, (asked, _) in list(self._open_asks.items()):
            if asked is exchange:
                del self._open_asks[request_id]
                self._refuse(Raw(request_id), INVALID_REQUEST, "The request has ended.")

    def _refuse(self, request_id: Raw, code: int, message: str) -> None:
        self._send_quietly(encode_error(request_id, code, message))

    def _send_quietly(self, frame: bytes) -> None:
        """Send what nobody waits for; a connection that cannot take it is about to end anyway."""
        try:
            self._send(frame)
        except ConnectorError:
            return

    async def _answer_ask(self, request_id: Raw, exchange: Exchange, answer: Raw | Failure) -> None:
        """See :class:`connectors.outcome.Ask`; a second answer, or one too late, is ignored."""
        key = bytes(request_id)
        asked = self._open_asks.get(key)
        if asked is None or asked[0] is not exchange:
            return
        del self._open_asks[key]
        exchange.replied()
        if isinstance(answer, Failure):
            code = INVALID_REQUEST if answer.code is None else answer.code
            self._send_quietly(encode_error(request_id, code, answer.message, answer.data))
        else:
            self._send_quietly(encode_result(request_id, answer))


def _number_of(raw: object) -> int | None:
    """Our id or token as it came back; servers that made a string of it are forgiven."""
    if not isinstance(raw, Raw):
        return None
    try:
        return int(_id.decode(raw))
    except (msgspec.DecodeError, ValueError):
        return None


def result_of(method: str, end: Result | Failure) -> Raw:
    """The result of our own request. Raises ErrorAnswer, ProtocolViolation or Unreachable."""
    if isinstance(end, Result):
        return end.body
    if end.kind == "error" and end.code is not None:
        raise ErrorAnswer(f"{method}: {end.message}", code=end.code)
    if end.kind == "violation":
        raise ProtocolViolation(f"{method}: {end.message}")
    raise Unreachable(f"{method}: {end.message}")
