"""Asking for the head of an answer only: a HEAD request, whose answer announces a body that never comes."""

import asyncio
from collections.abc import Hashable

from connectors.errors import ConnectorError
from connectors.http_connection import Breakage, Receiver
from connectors.http_message import Headers, Response
from connectors.http_pool import HttpPool
from connectors.outcome import Failure


async def fetch_head(
    pool: HttpPool, message: bytes, *, key: Hashable, timeout_s: float
) -> Response | Failure:
    """Send a whole HEAD request and wait for its head; a connection that waits for a body is not used again.

    A Failure is as of :func:`connectors.http_exchange.fetch`.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        connection = await pool.acquire(key, deadline=deadline)
    except ConnectorError as error:
        return Failure("unreachable", str(error))
    head = _Head()
    connection.send(message, head)
    try:
        async with asyncio.timeout_at(deadline):
            return await head.answer
    except TimeoutError:
        return Failure("timeout", "The upstream did not answer in time.")
    finally:
        if not head.is_over:
            connection.abandon()


class _Head(Receiver):
    """Takes the head of an answer; see :class:`connectors.http_connection.Receiver`."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Response | Failure] = asyncio.get_running_loop().create_future()
        self.is_over = False
        """The connection was given back: it may already be somebody else's."""

    def head(self, status: int, headers: Headers) -> None:
        self._end(Response(status, headers, b""))

    def body(self, chunk: bytes) -> None:
        """There is none."""

    def complete(self) -> None:
        self.is_over = True
        self._end(Failure("violation", "The upstream answered without a head."))

    def broken(self, breakage: Breakage, reason: str) -> None:
        self.is_over = True
        self._end(Failure(breakage, reason))

    def _end(self, answer: Response | Failure) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
