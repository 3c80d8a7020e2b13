"""How a process comes to count in a Redis: found, of an unbroken epoch, told of everything.

A Redis without an epoch made in that very server (flushed, restarted, failed over, restored) has
lost counts. One process, by lease, makes a new epoch: each process brings its record into the
ledger and tells of its calls under way; when all that were last known alive have done so, or their
time is up, the one reads the ledger into Redis and opens the epoch. Nobody counts before.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import anyio
from msgspec import Struct

from hub.domain.metering import Spent
from hub.metering.counting import Refill
from hub.metering.outbox import BATCH, Batch, Outbox
from hub.metering.redis_connection import RedisConnection, RedisError
from hub.metering.redis_scripts import POST, TAKE, Epoch, Scripts, epoch_of

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.02
"""How often a process looks whether the others are ready."""
_TOGETHER: Final = 500
"""Counters read into Redis by one command."""
_KEPT_S: Final = 40 * 86_400
"""How long it is known what was spent before an epoch: longer than any period."""
_LEAD: Final = """
local epoch = redis.call('GET', KEYS[2])
if epoch and string.find(epoch, ':' .. ARGV[3] .. ':', 1, true) then return '' end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return redis.call('GET', KEYS[1])
"""
"""Whose epoch is being made; nobody's where there is one, which may have come just now."""
_OPEN: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
"""


class Terms(Struct, frozen=True, kw_only=True):
    """What bounds the making of an epoch."""

    processes: int
    """Are expected at least."""
    wait_s: float
    """How long others are waited for."""
    lease_s: float
    """How long one process may take to make it."""


class Rejoining:
    """Brings one process and a Redis together, as often as they are parted."""

    def __init__(
        self,
        process: str,
        scripts: Scripts,
        outbox: Outbox,
        refill: Refill,
        now: Callable[[], datetime],
        terms: Terms,
    ) -> None:
        self._process = process
        self._scripts = scripts
        self._outbox = outbox
        self._refill = refill
        self._now = now
        self._terms = terms
        self._epoch = ""
        """Id of the one that Redis has been told of everything in, open or not."""
        self._lost_one = False
        self._candidate = secrets.token_hex(8)
        """Id of the next epoch that this process makes."""
        self._space = scripts.space

    async def join(self, connection: RedisConnection) -> Epoch:
        """Come to an open epoch that has been sent all there is; does not wait after the last of it.

        Raises RedisError, and PorticoError where the ledger cannot be read.
        """
        run_id = await _server(connection)
        for text in (TAKE, POST):
            await connection.ask("SCRIPT", "LOAD", text)
        while True:
            epoch = epoch_of(await connection.ask("GET", f"{self._space}epoch"))
            if epoch is not None and epoch.run_id == run_id:
                await self._enter(connection, epoch)
                self._lost_one = True
                return epoch
            await self._make(connection, run_id)

    async def _enter(self, connection: RedisConnection, epoch: Epoch) -> None:
        if epoch.id != self._epoch:
            self._outbox.lose()
            self._epoch = epoch.id
        self._scripts.enter(epoch, is_open=True)
        await self._tell(connection)

    async def _make(self, connection: RedisConnection, run_id: str) -> None:
        """Take part in making an epoch; returns when it is time to look for it."""
        key = f"{self._space}making"
        keys = (2, key, f"{self._space}epoch")
        lease_ms = int(self._terms.lease_s * 1000)
        making = await connection.ask("EVAL", _LEAD, *keys, self._candidate, lease_ms, run_id)
        if not isinstance(making, bytes) or not making:
            return
        epoch_id = making.decode()
        if epoch_id != self._epoch:
            await self._get_ready(connection, epoch_id)
        if epoch_id != self._candidate:
            await anyio.sleep(_LOOK_S)
            return
        lost_one = await self._others(connection, epoch_id)
        await connection.ask("PEXPIRE", key, lease_ms)
        asked_at = self._now()
        spent = await self._refill()
        await self._write(connection, epoch_id, asked_at, spent)
        empty_us = await _time_us(connection) if lost_one else 0
        epoch = Epoch(epoch_id, run_id, empty_us)
        self._candidate = secrets.token_hex(8)
        if await connection.ask("EVAL", _OPEN, *keys, epoch_id, epoch.value):
            _log.info("limits are counted in Redis anew, from the ledger")

    async def _get_ready(self, connection: RedisConnection, epoch_id: str) -> None:
        """Tell an epoch in the making of the calls under way; all others are in the ledger."""
        self._outbox.lose()
        self._epoch = ""
        self._outbox.forgive()
        await self._refill()
        self._scripts.enter(Epoch(epoch_id, ""), is_open=False)
        self._epoch = epoch_id
        await self._tell(connection)
        ready = f"{self._space}{epoch_id}:ready"
        await connection.ask("HSET", ready, self._process, int(self._lost_one))
        await connection.ask("EXPIRE", ready, 60)

    async def _others(self, connection: RedisConnection, epoch_id: str) -> bool:
        """Wait for those that were last known alive. Whether anybody has lost an epoch before."""
        awaited = self._outbox.alive
        ready: dict[str, bool] = {}
        with anyio.move_on_after(self._terms.wait_s):
            while True:
                pairs = await connection.ask("HGETALL", f"{self._space}{epoch_id}:ready")
                assert isinstance(pairs, list)  # noqa: S101 -- as HGETALL answers
                words = [one.decode() for one in pairs if isinstance(one, bytes)]
                ready = {
                    name: flag == "1" for name, flag in zip(words[::2], words[1::2], strict=True)
                }
                if awaited <= ready.keys() and len(ready) >= self._terms.processes:
                    break
                await anyio.sleep(_LOOK_S)
        return any(ready.values())

    async def _write(
        self,
        connection: RedisConnection,
        epoch_id: str,
        asked_at: datetime,
        spent: Mapping[str, Spent],
    ) -> None:
        key = f"{self._space}{epoch_id}:spent"
        words: list[str | int] = ["", int(asked_at.timestamp())]
        for name, one in spent.items():
            words += (name, f"{one.calls} {one.micro}")
        for first in range(0, len(words), 2 * _TOGETHER):
            await connection.ask("HSET", key, *words[first : first + 2 * _TOGETHER])
        await connection.ask("EXPIRE", key, _KEPT_S)

    async def _tell(self, connection: RedisConnection) -> None:
        """Tell of everything that Redis does not know.

        The last of it is sent and not waited for: what is sent after it is applied after it, and
        there is no end to what calls do while one waits.
        """
        await _posted(connection, self._outbox.again())
        while self._outbox.left > BATCH and self._outbox.is_clear:
            await _posted(connection, [self._outbox.announcement()])
        if not self._outbox.is_clear:
            raise RedisError("it has lost its epoch again")
        if self._outbox.left:
            encoded, batch = self._outbox.announcement()
            connection.send((encoded,), (batch,))


async def _posted(connection: RedisConnection, batches: list[tuple[bytes, Batch]]) -> None:
    """Send batches and wait until all of them were answered. Raises RedisError."""
    connection.send([encoded for encoded, _ in batches], [batch for _, batch in batches])
    await connection.ask("PING")


async def _server(connection: RedisConnection) -> str:
    """The run id of a server that takes writes. Raises RedisError where it does not."""
    reply = await connection.ask("INFO")
    lines = reply.decode().splitlines() if isinstance(reply, bytes) else []
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    if "run_id" not in known:
        raise RedisError("it does not say which server it is (INFO)")
    if known.get("role") != "master" or known.get("loading", "0") != "0":
        raise RedisError(f"it takes no writes: its role is {known.get('role')}, or it is loading")
    if known.get("maxmemory", "0") != "0" and known.get("maxmemory_policy") != "noeviction":
        _log.warning(
            "Redis may drop counts when its memory is full: set maxmemory-policy noeviction",
            extra={"policy": known.get("maxmemory_policy")},
        )
    return known["run_id"]


async def _time_us(connection: RedisConnection) -> int:
    reply = await connection.ask("TIME")
    seconds, microseconds = (
        int(one) for one in (reply if isinstance(reply, list) else ()) if isinstance(one, bytes)
    )
    return seconds * 1_000_000 + microseconds
