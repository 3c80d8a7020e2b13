"""The composition root: settings -> stores, record, catalogue, pipeline, surfaces -> one application."""

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version as installed_version
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.types import ASGIApp

from connectors.child_groups import ChildGroups
from connectors.http_client import HttpClient
from hub.administration.answering import Administration
from hub.administration.configuration import settings_of
from hub.administration.desk import Desk
from hub.administration.keys import ensure_admin_key
from hub.administration.nouns import OPERATIONS
from hub.administration.openapi_document import openapi_document
from hub.bookkeeping import Books, books_of
from hub.cache import PageCache
from hub.catalog.aggregate import list_changes
from hub.catalog.refresh import Surroundings
from hub.catalog.search import ToolSearch
from hub.catalog.upstreams import Upstreams
from hub.catalog.watching import Watching
from hub.compile import Compiler
from hub.config.models import ServerSection
from hub.control import Control
from hub.data_directory import DataDirectory
from hub.draining import Draining
from hub.ground import Ground, Settings, ground_of
from hub.guard.callouts import Callouts
from hub.guard.checks import made
from hub.live.bus import Bus
from hub.live.leases import Leases
from hub.live.parked import ParkedCalls
from hub.live.revocation import Revocations
from hub.live.sessions import Sessions
from hub.live.subscriptions import Subscriptions
from hub.pipeline import Pipeline, Stages
from hub.providers.capabilities import Capabilities
from hub.providers.catalogue import Catalogue
from hub.providers.connecting import Connecting, StaticCredentials
from hub.providers.self_description import SelfDescription
from hub.running import RunningHub
from hub.snapshot import Snapshot, SnapshotHolder
from hub.stores.epochs import Epochs
from hub.stores.keys import KeyStore
from hub.stores.listings import ListingStore
from hub.stores.name_ledger import StoredNameLedger
from hub.stores.objects import ObjectStore
from hub.surfaces.admin import AdminSurface, admin_app
from hub.surfaces.asgi import Fields
from hub.surfaces.call_ids import CallIds
from hub.surfaces.credentials import Proxies, evidence_of
from hub.surfaces.front_door import FrontDoor
from hub.surfaces.health import HealthSurface, health_app
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.fast_lane.lane import FastLane
from hub.surfaces.mcp.surface import McpSurface
from hub.surfaces.mcp.views import CallerViews
from hub.surfaces.paths import TENANT_KEY, Paths
from hub.telemetry.logs import Redaction
from hub.vault.sealed import Sealer

__all__ = ["Hub", "Settings", "composed"]


class Hub(Struct, frozen=True, kw_only=True):
    """A composed hub: its door, and what its process drives."""

    asgi: ASGIApp
    fast_lane: FastLane | None
    """Takes requests before ``asgi`` sees them."""
    desk: Desk
    control: Control
    upstreams: Upstreams
    snapshots: SnapshotHolder
    running: RunningHub
    directory: DataDirectory
    given: Collaborators
    """What MCP over other transports than HTTP is served with."""
    background: Callable[[], AbstractAsyncContextManager[None]]
    """What a serving process does beside answering calls."""
    drain: Callable[[], None]
    """From now on the hub is not ready, and streams that would never end are ended."""


class _Catalogue(Struct, frozen=True, kw_only=True):
    """What is known of upstreams and may be used."""

    snapshots: SnapshotHolder
    upstreams: Upstreams
    control: Control
    revocations: Revocations
    bus: Bus
    subscriptions: Subscriptions
    running: RunningHub


@asynccontextmanager
async def composed(settings: Settings, redaction: Redaction | None = None) -> AsyncIterator[Hub]:
    """The hub on a data directory, everything but its listening socket and its upstreams running.

    Raises PorticoError for a data directory, store or record that cannot be used.
    """
    redaction = redaction or Redaction()
    async with AsyncExitStack() as stack:
        groups = ChildGroups()
        stack.push_async_callback(groups.close)
        ground = await ground_of(stack, settings, redaction)
        client = await stack.enter_async_context(HttpClient())
        callouts = await stack.enter_async_context(Callouts(ground.secret))
        catalogue = _catalogue(ground, groups, client, callouts, redaction)
        books = books_of(stack, ground, catalogue.snapshots, catalogue.upstreams, client, settings)
        desk = _desk(ground, catalogue, settings)
        await ensure_admin_key(desk, ground.directory.admin_key)
        await catalogue.control.refresh()
        pipeline = _pipeline(ground, catalogue, books, desk)
        yield _hub(ground, catalogue, books, desk, pipeline, settings)
        ground.tasks.cancel_scope.cancel()


def _catalogue(
    ground: Ground,
    groups: ChildGroups,
    client: HttpClient,
    callouts: Callouts,
    redaction: Redaction,
) -> _Catalogue:
    snapshots = SnapshotHolder(Snapshot(tenants={}))
    bus, revocations = Bus(), Revocations()
    connecting = Connecting(groups=groups, tasks=ground.tasks, client=client, secret=ground.secret)
    around = Surroundings(
        connect=connecting,
        store=ListingStore(ground.database),
        leases=Leases(time.monotonic),
        holder=f"{os.getpid()}",
        now=ground.now,
        clock=time.monotonic,
        jitter=random.SystemRandom().random,
    )
    upstreams = Upstreams(
        around,
        snapshots,
        listings_changed=lambda: control.listings_changed(),
        resource_updated=lambda tenant, upstream, uri: watching.updated(tenant, upstream, uri),
    )
    watching = Watching(snapshots, upstreams, bus.publish)

    def announce(old: Snapshot, new: Snapshot) -> None:
        for change in list_changes(old, new):
            bus.publish(change)

    snapshots.on_swap(announce)
    ledger = StoredNameLedger(ground.database)
    control = Control(
        objects=ObjectStore(ground.database),
        keys=KeyStore(ground.database),
        epochs=Epochs(ground.database),
        upstreams=upstreams,
        ledger=ledger,
        compiler=Compiler(
            ledger,
            statuses=upstreams.statuses,
            make_guardrail=lambda spec: made(spec, callouts),
        ),
        snapshots=snapshots,
        revocations=revocations,
    )
    return _Catalogue(
        snapshots=snapshots,
        upstreams=upstreams,
        control=control,
        revocations=revocations,
        bus=bus,
        subscriptions=Subscriptions(watching.changed),
        running=RunningHub(snapshots, upstreams, redaction),
    )


def _pipeline(ground: Ground, catalogue: _Catalogue, books: Books, desk: Desk) -> Pipeline:
    search = ToolSearch()
    return Pipeline(
        Stages(
            snapshots=catalogue.snapshots,
            revoked=catalogue.revocations,
            catalogue=catalogue.upstreams,
            recorder=ground.recorder,
            meter=books.meter,
            observer=books.observer,
            providers={
                "administration": Administration(desk),
                "capabilities": Capabilities(catalogue.upstreams, StaticCredentials()),
                "catalogue": Catalogue(_sealer(ground), search, PageCache()),
                "self_description": SelfDescription(search),
            },
            now=ground.now,
            key_used=books.uses.note,
        )
    )


def _desk(ground: Ground, catalogue: _Catalogue, settings: Settings) -> Desk:
    return Desk(
        objects=ObjectStore(ground.database),
        keys=KeyStore(ground.database),
        now=ground.now,
        views=catalogue.control.views,
        refresh=catalogue.control.refresh,
        revoked=catalogue.revocations.revoke,
        running=catalogue.running,
        record=ground.directory.record,
        ledger=ground.ledger,
        settings=settings_of(settings.file),
    )


def _sealer(ground: Ground) -> Sealer:
    return Sealer(ground.ring.sealing, lambda: ground.now().timestamp())


def _hub(
    ground: Ground,
    catalogue: _Catalogue,
    books: Books,
    desk: Desk,
    pipeline: Pipeline,
    settings: Settings,
) -> Hub:
    views = CallerViews(catalogue.snapshots, catalogue.revocations, ground.now)
    parked = ParkedCalls(views.admits)
    catalogue.revocations.on_change(parked.check)
    catalogue.snapshots.on_swap(lambda _old, _new: parked.check())
    given = _collaborators(ground, catalogue, pipeline, views, parked, settings.file.server)
    proxies, front_door = given.proxies, given.front_door
    mcp = McpSurface(given)
    admin = admin_app(
        AdminSurface(
            pipeline=pipeline,
            operations=OPERATIONS,
            evidence=lambda scope: evidence_of(
                scope, Fields(scope["headers"]), proxies, scope.get(TENANT_KEY)
            ),
            new_call_id=given.new_call_id,
            document=openapi_document(installed_version("portico")),
        )
    )
    books.metrics.watch("portico_parked_calls", lambda: len(parked))
    draining = Draining(pipeline, mcp, parked)
    health = health_app(
        HealthSurface(readiness=draining.readiness, metrics=books.metrics.exposition)
    )
    return Hub(
        asgi=Paths(front_door, mcp=mcp, admin=admin, health=health),
        fast_lane=mcp.fast_lane() if settings.file.server.fast_lane else None,
        desk=desk,
        control=catalogue.control,
        upstreams=catalogue.upstreams,
        snapshots=catalogue.snapshots,
        running=catalogue.running,
        directory=ground.directory,
        given=given,
        background=books.background,
        drain=draining.begin,
    )


def _collaborators(
    ground: Ground,
    catalogue: _Catalogue,
    pipeline: Pipeline,
    views: CallerViews,
    parked: ParkedCalls,
    server: ServerSection,
) -> Collaborators:
    proxies = Proxies(server.trusted_proxies)
    front_door = FrontDoor(allowed_hosts=_hosts(server), allowed_origins=server.allowed_origins)
    return Collaborators(
        pipeline=pipeline,
        views=views,
        sessions=Sessions(),
        bus=catalogue.bus,
        subscriptions=catalogue.subscriptions,
        roots_changed=catalogue.upstreams.roots_changed,
        session_left=catalogue.upstreams.left,
        revocations=catalogue.revocations,
        seal=_sealer(ground),
        parked=parked,
        tasks=ground.tasks,
        new_call_id=CallIds(),
        refused_before_identify=ground.recorder.refused_before_identify,
        front_door=front_door,
        proxies=proxies,
        version=installed_version("portico"),
    )


def _hosts(server: ServerSection) -> tuple[str, ...]:
    """Names under which clients may call: those configured, and where Portico says it is."""
    public = urlsplit(server.public_url).netloc if server.public_url else ""
    return (*server.allowed_hosts, public) if public else server.allowed_hosts
