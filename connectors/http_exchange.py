"""One HTTP request and its answer: awaited as a whole, or as the exchange of an MCP call."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Final

from connectors.errors import ConnectorError
from connectors.exchange import Exchange
from connectors.http_answer import (
    NO_JSONRPC,
    TOO_LARGE,
    AnswerReader,
    failure_of,
    is_of_http,
    message_in,
    take_notification,
)
from connectors.http_connection import Breakage, HttpConnection, Receiver
from connectors.http_message import Headers, Response
from connectors.http_pool import HttpPool
from connectors.outcome import Event, Failure, Result
from mcp_wire.jsonrpc import Message
from mcp_wire.pieces import keep

MAX_UNTAKEN_EVENTS: Final = 16
"""Events that may wait for a slow caller before no more of the answer is read."""

Step = Callable[[], Awaitable[None]]
"""Work of a request that has to wait for something; done by whoever awaits the request's events."""


async def fetch(
    pool: HttpPool, message: bytes, *, key: Hashable, timeout_s: float, counted: bool = True
) -> Response | Failure:
    """Send a whole request and wait for its whole answer, whatever its status.

    A Failure is ``unreachable`` when nothing was sent, else ``timeout``, ``disconnected`` or
    ``violation``. Cancelling closes the connection.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        connection = await pool.acquire(key, deadline=deadline, counted=counted)
    except ConnectorError as error:
        return Failure("unreachable", str(error))
    whole = _Whole(connection, pool.limits.max_body_bytes)
    connection.send(message, whole)
    try:
        async with asyncio.timeout_at(deadline):
            return await whole.answer
    except TimeoutError:
        return Failure("timeout", "The upstream did not answer in time.")
    finally:
        if not whole.is_over:
            connection.abandon()


class _Whole(Receiver):
    """Collects an answer; see :class:`connectors.http_connection.Receiver`."""

    def __init__(self, connection: HttpConnection, max_bytes: int) -> None:
        self.answer: asyncio.Future[Response | Failure] = asyncio.get_running_loop().create_future()
        self.is_over = False
        self._connection = connection
        self._room = max_bytes
        self._status = 0
        self._headers: Headers = ()
        self._chunks: list[bytes] = []

    def head(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    def body(self, chunk: bytes) -> None:
        self._room -= len(chunk)
        if self._room < 0:
            self._connection.abandon()
            self.broken("violation", TOO_LARGE)
        else:
            keep(self._chunks, chunk)

    def complete(self) -> None:
        self._end(Response(self._status, self._headers, b"".join(self._chunks)))

    def broken(self, breakage: Breakage, reason: str) -> None:
        self._end(Failure(breakage, reason))

    def _end(self, answer: Response | Failure) -> None:
        self.is_over = True
        if not self.answer.done():
            self.answer.set_result(answer)


class HttpExchange(Exchange):
    """A JSON-RPC request in a POST of its own; see :class:`connectors.outcome.Outcome`.

    What has to wait is left as a :data:`Step` and done by whoever awaits the next event, so that a
    request needs no task of its own and is given up with its caller; the answer is read no faster
    than events are taken. Each era says how a request is launched and dismissed, and what it makes
    of its answer. Nothing of it refers to itself once it has ended: large answers are not kept
    until the collector comes by.
    """

    __slots__ = (
        "_paused",
        "_pool",
        "_step",
        "counted",
        "headers",
        "key",
        "reader",
        "sent",
    )

    def __init__(
        self,
        pool: HttpPool,
        key: Hashable,
        request_id: int,
        *,
        timeout_s: float,
        cap_s: float,
        counted: bool = True,
    ) -> None:
        super().__init__(request_id, pool.alarm, timeout_s, cap_s)
        self.key = key
        """Whose connections it may use."""
        self.counted = counted
        """Whether it takes one of the places of ``max_in_flight``."""
        self.sent = False
        """Whether it went on the wire at all: what fails before that was not executed."""
        self.reader: AnswerReader | None = None
        """What reads the answer; None when there is none to be read, or no more of it."""
        self.headers: Headers = ()
        """Header fields of the answer, once it was taken."""
        self._pool = pool
        self._step: Step | None = None
        self._paused: AnswerReader | None = None

    def launch(self) -> Failure | None:
        """Send the request with :meth:`post`, or leave a step that will; a Failure when it cannot be."""
        raise NotImplementedError

    def dismiss(self, reason: str) -> None:  # noqa: ARG002 -- eras that say why use it
        """It was given up or is overdue: tell the upstream, by closing the stream for one."""
        if self.reader is not None:
            self.reader.abandon()
            self.reader = None

    def take_answer(self, message: Message, status: int) -> None:
        """The answer came: finish, or try again where that is allowed."""
        raise NotImplementedError

    def post(self, message: bytes, *, last_id: str = "") -> None:
        """Send a whole HTTP request, now or when there is a connection."""
        connection = self._pool.take(self.key, counted=self.counted)
        if connection is not None:
            self._send_on(connection, message, last_id)
        else:
            self.proceed(partial(self._send_when_possible, message, last_id))

    def stream_began(self) -> None:
        """See :class:`connectors.http_answer.Sink`."""

    def message(self, message: Message) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        reader = self.reader
        if reader is None:
            return
        if message.is_answer:
            self.headers, self.reader = reader.headers, None
            reader.drain()
            self.take_answer(message, 200)
        else:
            self.take_other(message)
            self.throttle(reader)

    def take_other(self, message: Message) -> None:
        """A notification or request came on the answer's stream."""
        take_notification(self, message)

    def response(self, response: Response) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        self.headers, self.reader = response.headers, None
        message = message_in(response)
        if message is not None and response.status == 200:
            self.take_answer(message, 200)
        else:
            self.take_response(response, message)

    def take_response(self, response: Response, message: Message | None) -> None:
        """A whole answer came, and the JSON-RPC answer in it."""
        if message is not None and not is_of_http(response.status):
            self.take_answer(message, response.status)
        elif 200 <= response.status < 300:
            self.finish(Failure("violation", NO_JSONRPC, status=response.status))
        else:
            self.finish(failure_of(response, message))

    def stream_ended(self) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        self.broken("disconnected", "The upstream ended the stream before its answer.")

    def broken(self, breakage: Breakage, reason: str) -> None:
        """See :class:`connectors.http_answer.Sink`."""
        self.reader = None
        self.finish(Failure(breakage, reason))

    async def __anext__(self) -> Event:
        """The next event; see :class:`connectors.outcome.Outcome`."""
        self._take = None
        if not self._started:
            self.begin()
        while not self._events:
            if self.end is not None:
                raise StopAsyncIteration
            if self._step is not None:
                step, self._step = self._step, None
                await step()
                continue
            await self._awaken()
        event = self._events.popleft()
        if self._paused is not None and not self._events:
            reader, self._paused = self._paused, None
            reader.resume()
            self.touch()
        return event

    def finish(self, end: Result | Failure) -> None:
        """Nothing follows ``end``; see :meth:`connectors.exchange.Exchange.finish`."""
        super().finish(end)
        self._step = None

    def proceed(self, step: Step) -> None:
        """Have ``step`` done before the next event is waited for."""
        if self.end is None:
            self._step = step
            self._awake()

    def throttle(self, reader: AnswerReader) -> None:
        """Stop reading while the caller is behind; its slowness is not the upstream's silence."""
        if len(self._events) >= MAX_UNTAKEN_EVENTS and self.end is None and self._paused is None:
            self._paused = reader
            reader.pause()
            self.hold()

    async def _send_when_possible(self, message: bytes, last_id: str) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            connection = await self._pool.acquire(self.key, deadline=deadline, counted=self.counted)
        except ConnectorError as error:
            self.finish(Failure("unreachable", str(error)))
            return
        if self.end is not None:
            self._pool.put_back(connection)
        else:
            self._send_on(connection, message, last_id)

    def _send_on(self, connection: HttpConnection, message: bytes, last_id: str) -> None:
        max_bytes = self._pool.limits.max_body_bytes
        self.reader = AnswerReader(connection, self, max_bytes, last_id=last_id)
        self.sent = True
        connection.send(message, self.reader)

    def expire(self) -> None:
        """It is overdue; see :meth:`connectors.exchange.Exchange.expire`."""
        if self.sent:
            super().expire()
        else:
            reason = "The upstream had no room for the request in time; it was not sent."
            self._abandon(Failure("unreachable", reason), reason)
