"""Asking programs outside for a verdict: pooled connections, a deadline, and leaving dead ones alone.

One for the whole process, so that connections and what is known of each program outlive changes of
the configuration.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from types import TracebackType
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from connectors.address_guard import AddressGuard
from connectors.circuit import Circuit
from connectors.errors import Misconfigured
from connectors.http_connection import Limits
from connectors.http_exchange import fetch
from connectors.http_message import Endpoint, endpoint_of, header_lines, user_agent
from connectors.http_pool import HttpPool
from connectors.outcome import Failure
from hub.errors import ConfigurationError

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_IN_FLIGHT: Final = 64
CONNECT_S: Final = 5.0
_OWN_FIELDS: Final = frozenset(("accept", "content-type", "user-agent"))
_SERVER_ERROR: Final = 500

Key = tuple[Endpoint, bool]


class Answer(Struct, frozen=True):
    """What came back, with any status below 500."""

    status: int
    body: bytes


class Callouts:
    """The programs that are asked, by address. An async context manager that closes connections.

    ``secret`` gives the value behind ``env:NAME`` and ``file:PATH``, else its argument; it raises
    ConfigurationError. Nothing is opened before something is asked.
    """

    def __init__(
        self,
        secret: Callable[[str], str],
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.secret = secret
        self.now = now
        self._tls = tls
        self._clock = clock
        self._jitter = Random().random  # noqa: S311 -- spreads probes, protects nothing
        self._pools: dict[Key, HttpPool] = {}
        self._circuits: dict[Key, Circuit] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.close()

    def to(
        self, url: str, headers: Mapping[str, str], *, path: str = "", guarded: bool
    ) -> "Callout":
        """A way to ask ``url``, with ``path`` behind its own; ``guarded``: if its address is public.

        Raises ConfigurationError for an address or header that cannot be used.
        """
        own = {name: value for name, value in headers.items() if name.lower() not in _OWN_FIELDS}
        if len(own) < len(headers):
            raise ConfigurationError(f"the headers {', '.join(sorted(_OWN_FIELDS))} cannot be set")
        try:
            endpoint = endpoint_of(url)
            if path:
                before, mark, query = endpoint.target.partition("?")
                endpoint = replace(endpoint, target=before.rstrip("/") + path + mark + query)
            return Callout(self, endpoint, header_lines(own), guarded=guarded)
        except Misconfigured as error:
            raise ConfigurationError(str(error)) from error

    def pool(self, endpoint: Endpoint, *, guarded: bool) -> HttpPool:
        """The connections to the origin of ``endpoint``."""
        key = (Endpoint(*endpoint.origin), guarded)
        pool = self._pools.get(key)
        if pool is None:
            written = frozenset() if guarded else frozenset(((endpoint.host, endpoint.port),))
            limits = Limits(
                max_in_flight=MAX_IN_FLIGHT,
                connect_timeout_s=CONNECT_S,
                max_body_bytes=MAX_ANSWER_BYTES,
            )
            pool = HttpPool(endpoint, limits, AddressGuard(written), self._tls)
            self._pools[key] = pool
        return pool

    def circuit(self, endpoint: Endpoint, *, guarded: bool) -> Circuit:
        """What is known of how the program at ``endpoint`` is doing."""
        key = (endpoint, guarded)
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = Circuit(self._clock, self._jitter)
        return circuit


class Callout:
    """One address that is asked."""

    def __init__(
        self, callouts: Callouts, endpoint: Endpoint, fields: bytes, *, guarded: bool
    ) -> None:
        self._callouts = callouts
        self._endpoint = endpoint
        self._fields = fields
        self._guarded = guarded

    async def post(
        self, body: bytes, *, deadline_s: float, headers: Mapping[str, str] | None = None
    ) -> Answer | Failure:
        """Send JSON and wait for the whole answer, connecting included; never sent a second time.

        A Failure also stands for answers of 500 and above, and for a program that is left alone
        because it failed again and again: that one comes at once and has a ``retry_after_s``.
        """
        circuit = self._callouts.circuit(self._endpoint, guarded=self._guarded)
        if not circuit.admits():
            return Failure(
                "unreachable",
                "it failed several times in a row and is left alone",
                retry_after_s=circuit.retry_after_s,
            )
        answer: Answer | Failure | None = None
        try:
            answer = await self._sent(body, deadline_s, headers or {})
        finally:
            if answer is None:
                circuit.given_up()
            elif isinstance(answer, Failure):
                circuit.failed()
            elif circuit.failures:
                circuit.succeeded()
        return answer

    async def _sent(
        self, body: bytes, deadline_s: float, headers: Mapping[str, str]
    ) -> Answer | Failure:
        endpoint = self._endpoint
        message = b"POST %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\n%b%b%b" % (
            endpoint.target.encode(),
            endpoint.authority.encode(),
            user_agent().encode(),
            b"Accept: application/json\r\nContent-Type: application/json\r\n",
            self._fields + header_lines(headers),
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
        )
        pool = self._callouts.pool(endpoint, guarded=self._guarded)
        found = await fetch(pool, message, key=b"", timeout_s=deadline_s)
        if isinstance(found, Failure):
            return found
        if found.status >= _SERVER_ERROR:
            return Failure("status", f"it answered with status {found.status}", status=found.status)
        return Answer(found.status, found.body)
