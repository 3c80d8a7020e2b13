"""What serves follows the stores and the listings, whatever goes wrong on the way."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from hub.catalog.upstreams import Upstreams
from hub.compile import Compiler
from hub.control import Control
from hub.domain.desired import KeySpec, PrincipalSpec, UpstreamSpec
from hub.live.revocation import Revocations
from hub.snapshot import Snapshot, SnapshotHolder
from hub.stores.database import Database, open_database, sqlite_url
from hub.stores.epochs import Epochs
from hub.stores.keys import KeyStore
from hub.stores.name_ledger import StoredNameLedger
from hub.stores.objects import Change, ObjectKey, ObjectStore
from tests.listings import listing
from tests.upstreams import ScriptedUpstream, surroundings

pytestmark = pytest.mark.anyio

AT = "2026-11-21T09:30:00.000Z"
KEY = KeySpec(id="key-1", tenant="default", principal="ann", digest=b"1", created_at=AT)


class Controlled:
    """A control on a database of its own, with scripted upstreams behind it."""

    def __init__(self, database: Database, *scripted: ScriptedUpstream) -> None:
        self.database = database
        self.objects, self.keys = ObjectStore(database), KeyStore(database)
        self.snapshots = SnapshotHolder(Snapshot(tenants={}))
        self.revocations = Revocations()
        self.upstreams = Upstreams(
            surroundings({one.offer.upstream: one for one in scripted}),
            self.snapshots,
            listings_changed=lambda: self.control.listings_changed(),
            resource_updated=lambda *_: None,
        )
        ledger = StoredNameLedger(database)
        self.control = Control(
            objects=self.objects,
            keys=self.keys,
            epochs=Epochs(database),
            upstreams=self.upstreams,
            ledger=ledger,
            compiler=Compiler(ledger, statuses=self.upstreams.statuses),
            snapshots=self.snapshots,
            revocations=self.revocations,
        )

    async def put(self, *specs: Any, tenant: str = "default") -> None:
        await self.objects.change(tenant, Change(put=specs, at=AT))

    def tools(self) -> list[str]:
        return list(self.snapshots.current.tenants["default"].virtual_servers["default"].tools)

    async def until(self, holds: Callable[[], Any], within_s: float = 5) -> None:
        with anyio.fail_after(within_s):
            while not holds():  # noqa: ASYNC110 -- states have no event of their own
                await anyio.sleep(0.005)


@asynccontextmanager
async def controlled(folder: Path, *scripted: ScriptedUpstream) -> AsyncIterator[Controlled]:
    """Running from the first state on; ``scripted`` are the upstreams of the tenant ``default``."""
    async with open_database(sqlite_url(folder)) as database:
        here = Controlled(database, *scripted)
        specs = [UpstreamSpec(name=one.offer.upstream, url="http://x.example") for one in scripted]
        await here.put(PrincipalSpec(name="ann"), *specs)
        await here.control.refresh()
        async with here.control.running(), here.upstreams.running():
            yield here


async def test_a_listing_that_comes_after_a_change_of_the_configuration_serves(
    tmp_path: Path,
) -> None:
    early, late = ScriptedUpstream("a", listing("a", ["x"])), ScriptedUpstream("b")
    late.gate = anyio.Event()
    async with controlled(tmp_path, early, late) as here:
        await here.until(lambda: early.lists)
        # Administrators' changes are compiled by themselves, while listings are waited for.
        await here.control.refresh()
        assert here.tools() == []
        await here.until(lambda: here.tools() == ["x"])


async def test_a_revocation_is_seen_though_the_database_failed_meanwhile(tmp_path: Path) -> None:
    async with controlled(tmp_path) as here:
        await here.keys.add(KEY)
        await here.until(lambda: here.snapshots.current.keys)
        failed: list[str] = []

        def fail_once(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "FROM api_key" in statement and not failed:
                failed.append(statement)
                raise OperationalError(statement, {}, RuntimeError("the connection was lost"))

        event.listen(here.database.engine.sync_engine, "before_cursor_execute", fail_once)
        await here.keys.limit("default", "key-1", expires_at=None, revoked_at=AT)
        await here.until(lambda: here.revocations.has_key("key-1"))
        assert failed
        await here.until(lambda: not here.snapshots.current.keys)


async def test_a_compile_that_crashes_leaves_the_old_state_serving(tmp_path: Path) -> None:
    own = ScriptedUpstream("own", listing("own", ["x"]))
    async with controlled(tmp_path, own) as here:
        await here.until(lambda: here.tools() == ["x"])
        crashed: list[str] = []

        def crash_once(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "SELECT DISTINCT" in statement and not crashed:
                crashed.append(statement)
                raise RuntimeError("as asked")

        event.listen(here.database.engine.sync_engine, "before_cursor_execute", crash_once)
        await here.put(PrincipalSpec(name="bob"))
        await here.until(lambda: crashed)
        assert here.tools() == ["x"]
        revision = here.snapshots.current.revision
        await here.until(lambda: here.snapshots.current.revision > revision)


async def test_a_tenant_without_any_object_left_has_nothing_running(tmp_path: Path) -> None:
    own = ScriptedUpstream("own", listing("own", ["x"]))
    async with controlled(tmp_path, own) as here:
        await here.until(lambda: here.tools() == ["x"])
        gone: list[ObjectKey] = [("upstream", "own"), ("principal", "ann")]
        await here.objects.change("default", Change(remove=gone, at=AT))
        await here.until(lambda: own.closed)
        # The tenant that callers without a credential belong to is always there.
        assert here.tools() == []
