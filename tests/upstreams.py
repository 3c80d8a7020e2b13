"""Upstreams inside the test's process: connectors that list and answer what a test tells them to."""

from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import anyio

from connectors.outcome import Event, Failure, Result
from connectors.protocol import (
    Change,
    Connector,
    Credential,
    Listing,
    OnChange,
    Request,
    ServerIdentity,
)
from hub.catalog.refresh import Surroundings
from hub.domain.catalog import UpstreamListing
from hub.domain.desired import UpstreamSpec
from hub.live.leases import Leases
from mcp_wire.jsonrpc import raw
from tests.listings import listing

Behaviour = Callable[[Request], Event]


class ScriptedUpstream:
    """One upstream. Tests change what it offers, and decide when it answers."""

    def __init__(self, name: str, offer: UpstreamListing | None = None) -> None:
        self.offer = offer or listing(name)
        self.gate = anyio.Event()
        """Opening waits for it."""
        self.gate.set()
        self.error: Exception | None = None
        self.watch_error: Exception | None = None
        self.answer: Behaviour = lambda request: Result(
            raw({"content": [{"type": "text", "text": request.name}]})
        )
        self.opened = self.lists = self.closed = 0
        self.requests: list[Request] = []
        self.watched: list[frozenset[str]] = []
        self.holding: anyio.Event | None = None
        """Calls wait for it, when there is one."""
        self.announce: OnChange = lambda _: None

    def change(self, what: Any, uri: str = "") -> None:
        self.announce(Change(what, uri))

    async def open(self) -> ServerIdentity:
        self.opened += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.offer.identity

    async def list(self) -> Listing:
        self.lists += 1
        if self.error is not None:
            raise self.error
        return self.offer.listing

    async def invoke(self, request: Request, credential: Credential) -> AsyncGenerator[Event]:
        del credential
        self.requests.append(request)
        if self.holding is not None:
            await self.holding.wait()
        yield self.answer(request)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        self.watched.append(uris)
        if self.watch_error is not None:
            raise self.watch_error
        return uris

    async def close(self) -> None:
        self.closed += 1


class KeptListings:
    """A store of listings that lasts as long as the test."""

    def __init__(self, *kept: UpstreamListing) -> None:
        self.kept = {("default", item.upstream): item for item in kept}

    async def load(self, tenant: str) -> tuple[UpstreamListing, ...]:
        return tuple(item for place, item in self.kept.items() if place[0] == tenant)

    async def save(self, tenant: str, listing: UpstreamListing) -> bool:
        self.kept[tenant, listing.upstream] = listing
        return True

    async def forget(self, tenant: str, upstream: str) -> None:
        self.kept.pop((tenant, upstream), None)


def surroundings(
    upstreams: Mapping[str, ScriptedUpstream],
    store: KeptListings | None = None,
    leases: Leases | None = None,
    holder: str = "this",
) -> Surroundings:
    """What running upstreams need, with the scripted ones behind it."""

    def connect(spec: UpstreamSpec, on_change: OnChange) -> Connector:
        upstreams[spec.name].announce = on_change
        return upstreams[spec.name]

    return Surroundings(
        connect=connect,
        store=store or KeptListings(),
        leases=leases or Leases(monotonic),
        holder=holder,
        now=lambda: datetime.now(UTC),
        clock=monotonic,
        jitter=lambda: 0.5,
    )


def unreachable(request: Request) -> Event:
    """An answer that says there was none."""
    return Failure("unreachable", f"no connection for {request.name}")
