"""One connection to a Redis, shared by all calls of this process.

Commands go out without waiting for the answers to those before, which come back in the same order.
Beside redis-py's pools this costs a fraction of the CPU per command, and needs no connection per
waiting call. What is spoken is RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec).
"""

import asyncio
from asyncio import Future, TimerHandle, Transport
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol, cast

from hub.metering.redis_address import RedisAddress

_SIMPLE, _ERROR, _INTEGER, _BULK, _ARRAY = b"+-:$*"

Reply = bytes | int | list["Reply"] | None
"""Simple and bulk strings are bytes."""

_GRACE_S: Final = 0.01
"""Answers that lie ready when the deadline passes are read first: this process may have been busy."""


class RedisError(Exception):
    """Redis did not do what it was asked."""


class RedisGone(RedisError):  # noqa: N818 -- says what is the case
    """The connection has ended, or no answer came in time; the command may have been executed."""


class Waiting(Protocol):
    """What is told about one command, once."""

    def answered(self, reply: Reply | RedisError) -> None:
        """The answer; RedisGone where none will come. Does not raise."""
        ...


class RedisConnection(asyncio.Protocol):
    """An open connection. ``deadline_s``: how long the oldest command may wait for its answer."""

    def __init__(self, deadline_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self._transport: Transport | None = None
        self._waiting: deque[tuple[float, Waiting]] = deque()
        self._unread = b""
        self._watchdog: TimerHandle | None = None
        self.is_open = False
        self.closed: Future[None] = self._loop.create_future()
        """Done when the connection has ended; never an exception."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Commands may be sent."""
        self._transport = cast("Transport", transport)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told that no answer will come."""
        self._end(f"the connection has ended: {exc or 'closed by Redis'}")

    def data_received(self, data: bytes) -> None:
        """Give out the answers that have come whole."""
        if self._unread:
            data = self._unread + data
        position, length = 0, len(data)
        try:
            while position < length and self.is_open:
                read = _read(data, position)
                if read is None:
                    break
                reply, position = read
                self._waiting.popleft()[1].answered(reply)
        except (ValueError, IndexError):
            self._end("what it answers is no RESP")
            return
        self._unread = data[position:] if position < length else b""

    def send(self, commands: Sequence[bytes], waiting: Sequence[Waiting]) -> None:
        """Send encoded commands, one for each of ``waiting``, in one write."""
        if not self.is_open or self._transport is None:
            for one in waiting:
                one.answered(RedisGone("there is no connection"))
            return
        now = self._loop.time()
        self._waiting.extend([(now, one) for one in waiting])
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._deadline_s, self._watch)
        self._transport.write(b"".join(commands))

    async def ask(self, *words: bytes | str | int) -> Reply:
        """Send a command and wait for its answer. Raises RedisError."""
        asked = _Asked(self._loop.create_future())
        self.send((command(*words),), (asked,))
        reply = await asked.reply
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def close(self) -> None:
        """End it at once."""
        self._end("it was closed")

    def _watch(self) -> None:
        """End the connection when the oldest command has waited for too long."""
        self._watchdog = None
        if not self._waiting or not self.is_open:
            return
        left_s = self._waiting[0][0] + self._deadline_s - self._loop.time()
        if left_s > 0:
            self._watchdog = self._loop.call_later(left_s, self._watch)
        else:
            self._watchdog = self._loop.call_later(_GRACE_S, self._overdue, self._waiting[0])

    def _overdue(self, oldest: tuple[float, Waiting]) -> None:
        self._watchdog = None
        if self._waiting and self._waiting[0] is oldest:
            self._end(f"no answer within {self._deadline_s:g} s")
        else:
            self._watch()

    def _end(self, why: str) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
        if not self.closed.done():
            self.closed.set_result(None)
        while self._waiting:
            self._waiting.popleft()[1].answered(RedisGone(why))


class _Asked:
    """Somebody who awaits one answer."""

    def __init__(self, reply: "Future[Reply | RedisError]") -> None:
        self.reply = reply

    def answered(self, reply: Reply | RedisError) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)


async def connected(
    address: RedisAddress, *, connect_s: float, deadline_s: float
) -> RedisConnection:
    """A connection that has said who it is. Raises RedisError; ``connect_s`` bounds all of it."""
    connection: RedisConnection | None = None
    try:
        async with asyncio.timeout(connect_s):
            connection = await _opened(address, deadline_s)
            if address.password:
                names = (address.user,) if address.user else ()
                await connection.ask("AUTH", *names, address.password)
            if address.database:
                await connection.ask("SELECT", address.database)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, OSError | TimeoutError):
            raise RedisGone(f"{address}: {error or 'no answer in time'}") from error
        raise
    return connection


async def _opened(address: RedisAddress, deadline_s: float) -> RedisConnection:
    def protocol() -> RedisConnection:
        return RedisConnection(deadline_s)

    loop = asyncio.get_running_loop()
    if address.scheme == "unix":
        _, connection = await loop.create_unix_connection(protocol, address.path)
    else:
        _, connection = await loop.create_connection(
            protocol, address.host, address.port, ssl=address.tls()
        )
    return connection


def command(*words: bytes | str | int) -> bytes:
    """A command as it goes over the wire."""
    return b"*%d\r\n%b" % (len(words), b"".join([word(one) for one in words]))


def word(value: bytes | str | int) -> bytes:
    """One word of a command."""
    encoded = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%b\r\n" % (len(encoded), encoded)


def _read(data: bytes, position: int) -> tuple[Reply | RedisError, int] | None:
    """The answer that begins at ``position`` and where the next one does; None: not all is here.

    Raises ValueError where it is no RESP2.
    """
    end = data.find(b"\r\n", position)
    if end < 0:
        return None
    kind, line, position = data[position], data[position + 1 : end], end + 2
    if kind == _SIMPLE:
        return line, position
    if kind == _ERROR:
        return RedisError(line.decode(errors="replace")), position
    if kind == _INTEGER:
        return int(line), position
    size = int(line)
    if kind == _BULK:
        return _bulk(data, position, size)
    if kind != _ARRAY:
        raise ValueError
    items: list[Reply] = []
    for _ in range(size):
        item = _read(data, position)
        if item is None:
            return None
        items.append(None if isinstance(item[0], RedisError) else item[0])
        position = item[1]
    return items, position


def _bulk(data: bytes, position: int, size: int) -> tuple[Reply, int] | None:
    if size < 0:
        return None, position
    end = position + size
    if len(data) < end + 2:
        return None
    return data[position:end], end + 2
