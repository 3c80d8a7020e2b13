"""Pooled HTTP/1.1 connections to one origin: last in, first out, with a bound and a queue.

Requests of different credentials never share a connection. A warm request takes an idle connection
without waiting and creates nothing but what its answer needs; the bound counts callers' requests,
while the few long streams and control messages of the connector itself pass beside it.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import cache
from typing import Final

from connectors.alarm import Alarm
from connectors.errors import Unreachable
from connectors.http_connection import HttpConnection, KnownHead, Limits
from connectors.http_message import Endpoint
from mcp_wire.known_heads import KnownHeads

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses that may be connected to, best first. Raises ConnectorError."""

CLOSE_S: Final = 2.0
MAX_HEADS: Final = 128
"""Heads of answers that are known again: many differ each second, by their ``Date``."""


@cache
def default_tls() -> ssl.SSLContext:
    """The one TLS context of this process: system certificates, HTTP/1.1 only."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpPool:
    """Connections to the origin of ``endpoint``. Everything runs on one event loop.

    ``opened_count`` counts connections that were made, ``sent_count`` requests that were sent.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        resolve: Resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        self.alarm = Alarm()
        """Watches the deadlines of what is in flight."""
        self.heads: KnownHeads[KnownHead] = KnownHeads(MAX_HEADS)
        """See :class:`connectors.http_connection.Owner`."""
        self.opened_count = 0
        self.sent_count = 0
        self._clock = asyncio.get_running_loop().time
        self._endpoint = endpoint
        self._resolve = resolve
        self._tls = (tls or default_tls()) if endpoint.tls else None
        self._idle: dict[Hashable, list[HttpConnection]] = {}
        self._connections: set[HttpConnection] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._in_flight = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_lost: asyncio.Future[None] | None = None

    @property
    def open_connections(self) -> int:
        """How many connections stand, idle or not."""
        return len(self._connections)

    @property
    def in_flight(self) -> int:
        """How many of the ``max_in_flight`` places are taken."""
        return self._in_flight

    def take(self, key: Hashable, *, counted: bool = True) -> HttpConnection | None:
        """An idle connection at once, or None: then :meth:`acquire` may wait for one."""
        if counted and self._in_flight >= self.limits.max_in_flight:
            return None
        stack = self._idle.get(key)
        if stack:
            now = self._clock()
            while stack:
                connection = stack.pop()
                if connection.idle_until > now and connection.is_usable:
                    connection.counted = counted
                    self._in_flight += counted
                    return connection
                connection.close()
        return None

    async def acquire(
        self, key: Hashable, *, deadline: float, counted: bool = True
    ) -> HttpConnection:
        """A connection to send one request on; ``deadline`` is the event loop's time.

        A request that is not sent after all gives it back with :meth:`put_back`. Raises
        ConnectorError when there is none in time; nothing was executed then.
        """
        connection = self.take(key, counted=counted)
        if connection is not None:
            return connection
        if counted:
            await self._take_place(deadline)
            connection = self.take(key, counted=False)
        try:
            if connection is None:
                connection = await self._connect(key, deadline)
        except BaseException:
            if counted:
                self.give_place()
            raise
        connection.counted = counted
        return connection

    def put_back(self, connection: HttpConnection) -> None:
        """Return a connection on which nothing was sent."""
        self.freed(connection, reusable=connection.is_usable)

    async def close(self) -> None:
        """Close every connection; bounded to 2 s. Idempotent."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(Unreachable("The upstream was closed."))
        self._idle.clear()
        self.alarm.stop()
        for connection in list(self._connections):
            connection.cut()
        if self._connections:
            self._all_lost = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_lost], timeout=CLOSE_S)

    def opened(self, connection: HttpConnection) -> None:
        """A connection stands; see :class:`connectors.http_connection.Owner`."""
        self._connections.add(connection)
        self.opened_count += 1

    def freed(self, connection: HttpConnection, *, reusable: bool) -> None:
        """An answer is whole: its place is free, its connection can serve the next request."""
        if reusable and not self._closed:
            now = self._clock()
            connection.idle_until = now + min(self.limits.keep_alive_s, connection.offered_idle_s)
            stack = self._idle.get(connection.key)
            if stack is None:
                stack = self._idle[connection.key] = []
            stack.append(connection)
            if self._sweeper is None:
                self._plan_sweep()
        else:
            connection.close()
        if connection.counted:
            connection.counted = False
            if self._waiting:
                self.give_place()
            else:
                self._in_flight -= 1

    def drained(self, connection: HttpConnection) -> None:
        """Nobody waits for the rest of an answer: its place is free."""
        if connection.counted:
            connection.counted = False
            self.give_place()
        if connection.is_busy and self._sweeper is None:
            self._plan_sweep()

    def lost(self, connection: HttpConnection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        stack = self._idle.get(connection.key)
        if stack and connection in stack:
            stack.remove(connection)
        if connection.counted:
            connection.counted = False
            self.give_place()
        if not self._connections and self._all_lost is not None and not self._all_lost.done():
            self._all_lost.set_result(None)

    def keep_place(self, connection: HttpConnection) -> bool:
        """Keep the place of a request beyond its answer, until :meth:`give_place`; whether it had one."""
        had_place, connection.counted = connection.counted, False
        return had_place

    def give_place(self) -> None:
        """Hand a place to whoever waits longest, or have one more."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._in_flight -= 1

    async def _take_place(self, deadline: float) -> None:
        if self._in_flight < self.limits.max_in_flight:
            self._in_flight += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_place()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                count = self.limits.max_in_flight
                raise Unreachable(f"All {count} places stayed taken; nothing was sent.") from None
            raise

    async def _connect(self, key: Hashable, deadline: float) -> HttpConnection:
        if self._closed:
            raise Unreachable("The upstream was closed.")
        loop = asyncio.get_running_loop()
        authority = self._endpoint.authority
        try:
            async with asyncio.timeout_at(
                min(deadline, loop.time() + self.limits.connect_timeout_s)
            ):
                addresses = await self._resolve(self._endpoint.host, self._endpoint.port)
                connection = await self._connect_any(key, addresses)
        except TimeoutError:
            raise Unreachable(f"No connection to {authority} in time.") from None
        except OSError as error:
            raise Unreachable(f"No connection to {authority}: {_reason(error)}") from error
        if self._closed:
            connection.cut()
            raise Unreachable("The upstream was closed.")
        return connection

    async def _connect_any(self, key: Hashable, addresses: Sequence[str]) -> HttpConnection:
        failure: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                return await self._connect_to(key, address)
            except OSError as error:
                failure = error
        raise failure

    async def _connect_to(self, key: Hashable, address: str) -> HttpConnection:
        loop = asyncio.get_running_loop()
        port = self._endpoint.port
        if self._tls is None:
            _, connection = await loop.create_connection(
                lambda: HttpConnection(self, key), address, port
            )
        else:
            _, connection = await loop.create_connection(
                lambda: HttpConnection(self, key),
                address,
                port,
                ssl=self._tls,
                server_hostname=self._endpoint.host,
                ssl_shutdown_timeout=1.0,
            )
        return connection

    def _plan_sweep(self) -> None:
        if not self._closed:
            delay_s = max(0.05, self.limits.keep_alive_s / 2)
            self._sweeper = asyncio.get_running_loop().call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        """Close what was idle too long, and cut answers that go on though nobody wants them."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for key, stack in list(self._idle.items()):
            for connection in [one for one in stack if one.idle_until <= now]:
                stack.remove(connection)
                connection.close()
            if not stack:
                del self._idle[key]
        draining = [connection for connection in self._connections if connection.drain_until]
        for connection in draining:
            if connection.drain_until <= now:
                connection.cut()
        if self._idle or draining:
            self._plan_sweep()


def _reason(error: OSError) -> str:
    """Why connecting failed, without what an exception's repr may drag along."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return error.strerror or str(error) or type(error).__name__
