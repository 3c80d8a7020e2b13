"""Reading the answer to a request as JSON-RPC: one JSON body, or messages of an event stream."""

from typing import Final, Protocol

import msgspec
from msgspec import Raw, structs

from connectors.envelope import declares_extensions, end_of
from connectors.exchange import Exchange
from connectors.http_connection import Breakage, HttpConnection, Receiver
from connectors.http_message import Headers, Response, header_of, retry_after_s
from connectors.outcome import Failure, Result
from mcp_wire.codes import META_PROGRESS
from mcp_wire.jsonrpc import (
    EMPTY_OBJECT,
    NULL,
    Message,
    decode_batch,
    decode_error,
    decode_message,
    members_of,
)
from mcp_wire.pieces import keep
from mcp_wire.sse import SseDecoder, SseError

MAX_BATCH: Final = 1000
TOO_LARGE: Final = "The upstream's answer is too large."
NO_JSONRPC: Final = "The upstream answered with something else than JSON-RPC."
STREAM_TYPE: Final = "text/event-stream"


class Sink(Protocol):
    """Takes what an answer says, on the event loop. Nothing follows the last three."""

    def stream_began(self) -> None:
        """The answer is an event stream."""
        ...

    def message(self, message: Message) -> None:
        """One message of an event stream."""
        ...

    def response(self, response: Response) -> None:
        """A whole answer that is no event stream."""
        ...

    def stream_ended(self) -> None:
        """The event stream ended in an orderly way."""
        ...

    def broken(self, breakage: Breakage, reason: str) -> None:
        """There will be no more."""
        ...


class AnswerReader(Receiver):
    """Feeds a sink; see :class:`connectors.http_connection.Receiver`.

    ``last_id`` is that of the last event, where a resumed stream begins; ``retry_ms`` how long the
    upstream wants to be left alone before that.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_decoder",
        "_last_id",
        "_room",
        "_sink",
        "headers",
        "status",
    )

    def __init__(
        self, connection: HttpConnection, sink: Sink, max_bytes: int, *, last_id: str = ""
    ) -> None:
        self.status = 0
        self.headers: Headers = ()
        self._connection = connection
        self._sink: Sink | None = sink
        self._room = max_bytes
        self._chunks: list[bytes] = []
        self._decoder: SseDecoder | None = None
        self._last_id = last_id

    @property
    def last_id(self) -> str:
        """The id of the last event; empty without one."""
        return self._decoder.last_id if self._decoder is not None else self._last_id

    @property
    def retry_ms(self) -> int | None:
        """Milliseconds; None when the upstream did not say."""
        return self._decoder.retry_ms if self._decoder is not None else None

    def head(self, status: int, headers: Headers) -> None:
        """The head came."""
        self.status, self.headers = status, headers
        if status == 200 and is_event_stream(headers):
            self._decoder = SseDecoder()
            self._decoder.last_id = self._last_id
            if self._sink is not None:
                self._sink.stream_began()

    def body(self, chunk: bytes) -> None:
        """A piece of the body came."""
        if self._decoder is not None:
            self._read_frames(self._decoder, chunk)
            return
        self._room -= len(chunk)
        if self._room < 0:
            self._violated(TOO_LARGE)
        else:
            keep(self._chunks, chunk)

    def complete(self) -> None:
        """The answer is whole."""
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if self._decoder is not None:
            sink.stream_ended()
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        sink.response(Response(self.status, self.headers, body))

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """All of it came."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self.status, self.headers = status, headers
            sink.response(Response(status, headers, body))

    def broken(self, breakage: Breakage, reason: str) -> None:
        """The connection is gone."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.broken(breakage, reason)

    def drain(self) -> None:
        """The sink has all it wants; a connection whose answer ends soon is kept."""
        self._sink = None
        self._connection.drain()

    def abandon(self) -> None:
        """Nobody wants the answer: the connection is closed."""
        self._sink = None
        self._connection.abandon()

    def pause(self) -> None:
        """Let the upstream wait."""
        self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._connection.resume()

    def _read_frames(self, decoder: SseDecoder, chunk: bytes) -> None:
        try:
            for frame in decoder.feed(chunk):
                if frame.event == "message":
                    for message in _messages(frame.data):
                        if self._sink is not None:
                            self._sink.message(message)
        except SseError:
            self._violated(TOO_LARGE)
        except msgspec.DecodeError:
            self._violated(NO_JSONRPC)

    def _violated(self, reason: str) -> None:
        sink = self._sink
        if sink is not None:
            self.abandon()
            sink.broken("violation", reason)


def content_type(headers: Headers) -> str:
    """The media type of an answer, in lower case and without parameters."""
    value = header_of(headers, b"content-type") or ""
    return value.partition(";")[0].strip().lower()


def is_event_stream(headers: Headers) -> bool:
    """Whether the body is an event stream; asked of every answer, so that it does not take long."""
    for name, value in headers:
        if name == b"content-type":
            return (
                not value.startswith(b"application/json") and content_type(headers) == STREAM_TYPE
            )
    return False


def message_in(response: Response) -> Message | None:
    """The JSON-RPC answer that is the body; None when it is something else."""
    body = response.body
    if body[:1] != b"{" and body.lstrip()[:1] != b"{":
        return None
    try:
        message = decode_message(body)
    except msgspec.DecodeError:
        return None
    return message if message.is_answer else None


def failure_of(response: Response, message: Message | None) -> Failure:
    """An answer whose HTTP status says it failed, in the words of its body if it has any for us."""
    code, data, words = None, None, ""
    if message is not None and isinstance(message.error, Raw):
        try:
            error = decode_error(message.error)
            code, words = error.code, error.message
            data = error.data if isinstance(error.data, Raw) else None
        except msgspec.DecodeError:
            pass
    return Failure(
        "status",
        words or f"The upstream answered with status {response.status}.",
        code=code,
        data=data,
        status=response.status,
        retry_after_s=retry_after_s(response.headers),
        challenge=header_of(response.headers, b"www-authenticate"),
    )


def is_of_http(status: int) -> bool:
    """Whether a status speaks of access, load or an outage, whatever the body says beside it."""
    return status in {401, 403, 407, 408, 429} or status >= 500


def end_with_status(
    message: Message, status: int, *, modern: bool, client_capabilities: Raw = EMPTY_OBJECT
) -> Result | Failure:
    """What an answer stands for; see :func:`connectors.envelope.end_of`."""
    end = end_of(message, modern=modern)
    if isinstance(end, Failure):
        if end.kind == "violation" and modern and declares_extensions(client_capabilities):
            end = end_of(message, modern=True, extensions=True)
        if isinstance(end, Failure) and status != 200:
            end = structs.replace(end, status=status)
    return end


def is_answer_to(request_id: int, message: Message) -> bool:
    """Whether an answer is to our request; an error may have lost its id with the request's."""
    if message.id == Raw(b"%d" % request_id):
        return True
    lost = not isinstance(message.id, Raw) or message.id == NULL
    return lost and isinstance(message.error, Raw)


def is_error_of(message: Message, code: int) -> bool:
    """Whether an answer is an error with this code."""
    if not isinstance(message.error, Raw):
        return False
    try:
        return decode_error(message.error).code == code
    except msgspec.DecodeError:
        return False


def take_notification(exchange: Exchange, message: Message) -> None:
    """Progress and log messages that came on the answer of a request are that request's own."""
    if message.method not in {"notifications/progress", "notifications/message"}:
        return
    try:
        params = members_of(message.params)
    except msgspec.DecodeError:
        return
    if message.method == "notifications/message":
        exchange.logged(params)
    elif bytes(params.pop(META_PROGRESS, b"")) == b"%d" % exchange.request_id:
        exchange.progressed(params)


def _messages(data: bytes) -> list[Message]:
    """One message, or an array of them (2025-03-26)."""
    if data.lstrip()[:1] != b"[":
        return [decode_message(data)]
    return [decode_message(item) for item in decode_batch(data)[:MAX_BATCH]]
