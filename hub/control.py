"""Keeps what serves equal to what is desired: state in the stores -> upstreams and snapshot.

The only writer of the snapshot. A compile that fails leaves the old snapshot serving; what others
wrote to the stores is tried again until it serves.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio

from hub.catalog.names import NameLedger
from hub.catalog.tenant import TenantSource
from hub.compile import Compiler, Source, reachable
from hub.domain.call import DEFAULT_TENANT
from hub.domain.catalog import UpstreamListing
from hub.domain.desired import Desired, KeySpec, UpstreamSpec
from hub.errors import PorticoError
from hub.snapshot import SnapshotHolder
from hub.stores.epochs import Epoch, Epochs
from hub.stores.keys import KeyStore
from hub.stores.objects import ObjectStore

_log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""After this long a state that could not serve is tried again."""
LOOK_EVERY_S: Final = 0.5
"""How often the stores are asked whether others changed something: revocations take 1 s at most."""


class Upstreams(Protocol):
    """The running upstreams."""

    async def apply(self, tenant: str, specs: Sequence[UpstreamSpec]) -> None:
        """Run exactly these: start what is new, end what is gone, replace what changed."""
        ...

    def listings(self, tenant: str) -> Mapping[str, UpstreamListing]:
        """The last known good listing of each upstream that ever had one."""
        ...


class Revocations(Protocol):
    """What was withdrawn and may not wait for the next snapshot."""

    def advance(self, epoch: int, key_ids: Sequence[str] = ()) -> None:
        """Take over what the store says."""
        ...


class Control:
    """Turns desired state and listings into the snapshot, whenever either changes."""

    def __init__(
        self,
        *,
        objects: ObjectStore,
        keys: KeyStore,
        epochs: Epochs,
        upstreams: Upstreams,
        ledger: NameLedger,
        compiler: Compiler,
        snapshots: SnapshotHolder,
        revocations: Revocations,
    ) -> None:
        self._objects = objects
        self._keys = keys
        self._epochs = epochs
        self._upstreams = upstreams
        self._ledger = ledger
        self._compiler = compiler
        self._snapshots = snapshots
        self._revocations = revocations
        self._epoch = Epoch()
        self._desired: tuple[Desired, ...] = ()
        self._key_specs: tuple[KeySpec, ...] = ()
        self._lock = anyio.Lock()
        self._stale = anyio.Event()

    def listings_changed(self) -> None:
        """Have the snapshot compiled anew soon; returns at once."""
        self._stale.set()

    async def refresh(self) -> None:
        """Let the state in the stores serve, and return when it does.

        Raises PorticoError when it cannot; what served before goes on serving.
        """
        async with self._lock:
            epoch = await self._epochs.read()
            if epoch != self._epoch:
                await self._load(epoch)
            await self._compile()

    async def views(self, desired: Desired) -> Mapping[str, Set[tuple[str, str]]]:
        """What each principal could use if ``desired`` were in force: (virtual server, name)."""
        tenant = desired.tenant
        source = TenantSource(desired=desired, listings=dict(self._upstreams.listings(tenant)))
        found = await reachable(source, tuple(await self._ledger.load(tenant)))
        return {
            principal: {(server, name) for server, _, name in reach}
            for principal, reach in found.items()
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow changes of stores and listings until the end of the block."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_stores)
            tasks.start_soon(self._follow_listings)
            yield
            tasks.cancel_scope.cancel()

    async def _load(self, epoch: Epoch) -> None:
        keys = await self._keys.list()
        tenants = {DEFAULT_TENANT, *await self._objects.tenants()}
        stored = [await self._objects.load(tenant) for tenant in sorted(tenants)]
        # To everything that serves, a tenant that is disabled is one that does not exist.
        desired = [tenant.desired for tenant in stored if tenant.settings.enabled]
        self._revocations.advance(
            epoch.revocation, [key.id for key in keys if key.revoked_at is not None]
        )
        for tenant in desired:
            await self._upstreams.apply(tenant.tenant, tenant.upstreams)
        serving = {tenant.tenant for tenant in desired}
        for gone in {former.tenant for former in self._desired} - serving:
            await self._upstreams.apply(gone, ())
        self._epoch, self._desired, self._key_specs = epoch, tuple(desired), keys

    async def _compile(self) -> None:
        tenants = tuple(
            TenantSource(desired=desired, listings=dict(self._upstreams.listings(desired.tenant)))
            for desired in self._desired
        )
        anonymous = all(key.bootstrap for key in self._key_specs)
        source = Source(tenants=tenants, keys=self._key_specs, anonymous=anonymous)
        self._snapshots.swap(await self._compiler.compile(source))

    async def _follow_stores(self) -> None:
        async for epoch in self._epochs.changes(LOOK_EVERY_S):
            if epoch != self._epoch:
                await self._refresh_at_last()

    async def _follow_listings(self) -> None:
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            await self._try_refresh()

    async def _refresh_at_last(self) -> None:
        """Try until it serves: a revocation among the changes does not wait for the next one."""
        while True:
            if await self._try_refresh():
                return
            await anyio.sleep(RETRY_S)

    async def _try_refresh(self) -> bool:
        try:
            await self.refresh()
        except PorticoError as error:
            _log.warning("the new state cannot serve, the old one goes on: %s", error)
            return False
        except Exception:  # noqa: BLE001 -- a loop in the background; logged with its traceback
            _log.exception("the new state cannot serve, the old one goes on")
            return False
        return True
