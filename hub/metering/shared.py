"""Counting in Redis, exactly, for all processes together.

A call asks once and waits for one round trip, however many counters it has; what ends is told in
batches that nobody waits for. The time of rates and leases is that of the Redis server; the period
of a quota or budget is that of the hold, as in the record. Money and counts are integers below
2**53, as the numbers of a Redis script are doubles.

While Redis is away, or has lost its epoch, nobody waits for it: each counter's ``on_outage`` says
what is done (:mod:`hub.metering.outage`), and a background task tries to come back
(:mod:`hub.metering.rejoining`). One server or its failover pair is meant, no Redis Cluster.
"""

import asyncio
import logging
import secrets
from asyncio import Future
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import anyio
from msgspec import Struct

from hub.domain.metering import Denied, Hold
from hub.errors import PorticoError
from hub.metering.counting import CountingState, Refill
from hub.metering.outage import Outage
from hub.metering.outbox import Outbox
from hub.metering.pacing import MICROSECONDS
from hub.metering.redis_address import redis_address
from hub.metering.redis_connection import (
    RedisConnection,
    RedisError,
    RedisGone,
    Reply,
    Waiting,
    connected,
)
from hub.metering.redis_scripts import Prepared, Scripts
from hub.metering.rejoining import Rejoining, Terms

_log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.02


class SharedSettings(Struct, frozen=True, kw_only=True):
    """Which Redis, and how long anything may take, in seconds."""

    url: str
    """``redis://[user[:password]@]host[:port][/database]``, ``rediss://…``, ``unix:///path?db=0``."""
    prefix: str = "portico"
    """In front of every key: installations of one prefix share their counts."""
    processes: int = 1
    """How many share a limit at least, for as long as more are not known."""
    deadline_s: float = 0.25
    """The longest that a call waits for Redis, once; then it is away."""
    connect_s: float = 1.0
    start_s: float = 5.0
    """How long a start waits for Redis before it goes on without."""
    retry_s: float = 1.0
    """The longest between two tries to come back."""
    heartbeat_s: float = 1.0
    """How often a process says that it is alive. It counts as such for five times that."""
    lease_s: float = 15.0
    """What a process holds that was killed is given back after that."""
    refill_s: float = 10.0
    """How long one process may take to read the ledger into a Redis that has lost its counts."""


class SharedCounting:
    """Counts in Redis for the calls of this process. Raises ConfigurationError for a wrong URL."""

    waits = True

    def __init__(
        self, settings: SharedSettings, now: Callable[[], datetime], refill: Refill
    ) -> None:
        process = secrets.token_hex(8)
        self._settings = settings
        self._address = redis_address(settings.url)
        self._now = now
        alive_s = 5 * settings.heartbeat_s
        self._scripts = Scripts(settings.prefix, process, settings.lease_s, alive_s)
        self._outbox = Outbox(self._scripts, self._refused)
        terms = Terms(
            processes=settings.processes,
            wait_s=settings.retry_s + settings.heartbeat_s + settings.deadline_s,
            lease_s=settings.refill_s,
        )
        self._rejoining = Rejoining(process, self._scripts, self._outbox, refill, now, terms)
        self._connection: RedisConnection | None = None
        self._outage: Outage | None = self._new_outage()
        self._taking: dict[str, _Taking] = {}
        self._takes: list[bytes] = []
        self._takers: list[Waiting] = []
        self._is_woken = False
        self._arrived = anyio.Event()
        """Set when Redis has come for the first time."""

    @property
    def is_shared(self) -> bool:
        """Whether calls are counted together with those of other processes now."""
        return self._outage is None

    @property
    def state(self) -> CountingState:
        """How calls are counted now."""
        if self._outage is None:
            return "shared"
        return "refused" if self._outage.has_refused else "local"

    @property
    def processes(self) -> int:
        """How many share the counts, as last known."""
        return max(1, self._settings.processes, len(self._outbox.alive))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the connection; wait for it at first, for a bounded time."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep)
            with anyio.move_on_after(self._settings.start_s):
                await self._arrived.wait()
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await self._leave()
                tasks.cancel_scope.cancel()

    def take(self, hold: Hold) -> "Denied | Future[Denied | None] | None":
        """Ask Redis for all counters of ``hold`` at once; answers itself while Redis is away."""
        if hold.id in self._outbox:
            return None
        taking = self._taking.get(hold.id)
        if taking is not None:
            return taking.denied
        if self._outage is not None:
            return self._take_alone(hold, self._outage)
        command, prepared = self._scripts.take(hold)
        taking = self._taking[hold.id] = _Taking(self, hold, prepared)
        self._takes.append(command)
        self._takers.append(taking)
        self._wake()
        return taking.denied

    def settle(self, hold: Hold, micro: int) -> None:
        """Tell Redis, soon, that a call has ended."""
        taking = self._taking.get(hold.id)
        if taking is not None:
            taking.cost = micro
            return
        if self._outage is not None:
            self._outage.settle(hold, micro)
        if self._outbox.settle(hold.id, micro):
            self._wake()

    def _take_alone(self, hold: Hold, outage: Outage) -> Denied | None:
        denied = outage.take(hold)
        if denied is None:
            self._outbox.add(hold, is_known=False)
        return denied

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send what this turn of the event loop has gathered; what has ended makes room first."""
        self._is_woken = False
        commands, waiting = self._takes, self._takers
        self._takes, self._takers = [], []
        if self._outage is not None or self._connection is None:
            for one in waiting:
                one.answered(RedisGone("it has gone away"))
            return
        ended: list[tuple[bytes, Waiting]] = []
        while self._outbox.has_settled:
            ended.append(self._outbox.ended())
        if ended:
            commands = [encoded for encoded, _ in ended] + commands
            waiting = [batch for _, batch in ended] + waiting
        self._connection.send(commands, waiting)

    def answered(self, taking: "_Taking", reply: Reply | RedisError) -> None:
        """What Redis says to a call that asked."""
        hold = taking.hold
        del self._taking[hold.id]
        denied: Denied | None = None
        if isinstance(reply, bytes) and reply.startswith(b"0"):
            taking.note(reply)
            self._outbox.add(hold, is_known=True)
        elif isinstance(reply, bytes) and reply.startswith(b"1"):
            denied = taking.denial(reply)
        else:
            denied = self._take_alone(hold, self._refused(reply))
            if denied is not None and isinstance(reply, RedisError):
                self._outbox.undo(hold)
        if taking.denied.cancelled() and taking.cost is None:
            taking.cost = 0
        if taking.cost is not None and denied is None:
            self.settle(hold, taking.cost)
        if not taking.denied.done():
            taking.denied.set_result(denied)

    def _refused(self, reply: Reply | RedisError) -> Outage:
        """Redis has not done what it was asked."""
        why = str(reply) if isinstance(reply, RedisError) else "it has lost its counts"
        return self._go(why)

    def _go(self, why: str) -> Outage:
        """Redis is away from now on."""
        if self._outage is None:
            self._outage = self._new_outage()
            _log.warning("limits are not shared, each rule's on_outage holds: %s", why)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        return self._outage

    def _new_outage(self) -> Outage:
        seen, holds = self._scripts.recollection(), self._outbox.holds
        return Outage(self.processes, seen, holds, self._now)

    async def _keep(self) -> None:
        """Come to Redis, stay, and come back."""
        retry_s, is_first = _FIRST_RETRY_S, True
        while True:
            try:
                connection = await connected(
                    self._address,
                    connect_s=self._settings.connect_s,
                    deadline_s=self._settings.deadline_s,
                )
                try:
                    await self._rejoining.join(connection)
                    # Not awaiting anything: what is sent from here on comes after what join sent.
                    self._come(connection)
                    retry_s = _FIRST_RETRY_S
                    await self._attend(connection)
                finally:
                    connection.close()
            except (RedisError, PorticoError) as error:
                if is_first:
                    _log.warning("limits are not shared, each rule's on_outage holds: %s", error)
                self._go(str(error))
            is_first = False
            await anyio.sleep(retry_s)
            retry_s = min(2 * retry_s, self._settings.retry_s)

    def _come(self, connection: RedisConnection) -> None:
        self._connection, self._outage = connection, None
        _log.info("limits are shared through %s", self._address)
        self._arrived.set()
        self._wake()

    async def _attend(self, connection: RedisConnection) -> None:
        """Say that this process is alive, and keep what it holds, until the connection ends."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time()
        while connection.is_open:
            batches = [self._outbox.ended()]
            if loop.time() >= renew_at:
                renew_at = loop.time() + self._settings.lease_s / 3
                batches += self._outbox.renewals()
            connection.send([encoded for encoded, _ in batches], [batch for _, batch in batches])
            await asyncio.wait((connection.closed,), timeout=self._settings.heartbeat_s)
        raise RedisGone("the connection has ended")

    async def _leave(self) -> None:
        """Tell Redis of the last calls, and that this process is no longer there."""
        self._flush()
        connection = self._connection
        if connection is None:
            return
        encoded, batch = self._outbox.ended(leaves=True)
        connection.send((encoded,), (batch,))
        with suppress(RedisError):
            await connection.ask("PING")


class _Taking:
    """A call that has asked Redis and waits."""

    __slots__ = ("_prepared", "_shared", "cost", "denied", "hold")

    def __init__(self, shared: SharedCounting, hold: Hold, prepared: list[Prepared]) -> None:
        self._shared = shared
        self._prepared = prepared
        self.hold = hold
        self.denied: Future[Denied | None] = asyncio.get_running_loop().create_future()
        self.cost: int | None = None
        """It was settled before it was answered."""

    def answered(self, reply: Reply | RedisError) -> None:
        self._shared.answered(self, reply)

    def note(self, reply: bytes) -> None:
        """Remember what everybody has used: an outage divides what is left."""
        used = reply.split()
        if len(used) > 1:
            counted = [one for one in self._prepared if one.period]
            for one, figure in zip(counted, used[1:], strict=True):
                one.seen = int(figure)

    def denial(self, reply: bytes) -> Denied:
        """Which counter had no room."""
        _, number, remaining, reset_us = reply.split()
        one = self._prepared[int(number)]
        reset_s: float | None = None
        if one.period:
            reset_s = one.end - self.hold.at
        elif int(reset_us) > 0:
            reset_s = int(reset_us) / MICROSECONDS
        return Denied(counter=one.counter, remaining=int(remaining), reset_s=reset_s)
