"""The way of every request: admit, provider, settle.

Surfaces translate, stages decide, providers answer. The order of the stages is the text of
:meth:`Pipeline.admit` and :meth:`Pipeline.settle`, read from top to bottom.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter_ns
from typing import Protocol

from msgspec import Raw
from msgspec.structs import replace

from hub.catalog.arguments import effective_params, unwrap
from hub.domain.call import Call
from hub.domain.catalog import SYSTEM_UPSTREAM, Exposure, VirtualServer
from hub.domain.outcome import Outcome, Refusal
from hub.domain.parked import AbandonReason
from hub.domain.principal import Principal
from hub.domain.record import Entry
from hub.errors import RecordUnavailable
from hub.identity.resolve import Revoked, identify
from hub.passage import (
    Admitted,
    MustAwait,
    Passage,
    ProviderName,
    Refused,
    Resumed,
    Resumption,
    Running,
)
from hub.policy.authorize import Reach, authorize, authorize_administration
from hub.snapshot import Snapshot, SnapshotHolder, TenantSnapshot

__all__ = [
    "Admitted",
    "Catalogue",
    "MustAwait",
    "Observer",
    "Pipeline",
    "Provider",
    "ProviderName",
    "Recorder",
    "Refused",
    "Resumed",
    "Resumption",
    "Running",
]

_logger = logging.getLogger(__name__)


class Provider(Protocol):
    """What answers a routed call."""

    def invoke(self, admitted: Admitted) -> Outcome:
        """The outcome of the call; nothing happens before its first event is awaited.

        Awaiting may raise Refusal; what upstreams do wrong is a Failure event.
        """
        ...


class Recorder(Protocol):
    """Keeps one entry per call."""

    def reserve(self, call: str) -> None:
        """Keep room for the largest entry until this call's own is appended.

        Raises RecordUnavailable.
        """
        ...

    def append(self, entry: Entry) -> "Future[None]":
        """Take the entry at once; what is returned completes when the entry is durable."""
        ...

    def digest(self, tenant: str, content: bytes) -> str:
        """The keyed digest that stands for content in an entry."""
        ...

    def refused_before_identify(self, source: str, reason: str) -> None:
        """Count what was no call; one entry a minute tells how many there were."""
        ...


class Catalogue(Protocol):
    """What admission asks of the running catalogue."""

    def first_listing(self, virtual_server: VirtualServer) -> Awaitable[None] | None:
        """A wait of at most 2 s for upstreams that were never listed; None when there are none."""
        ...


class Observer(Protocol):
    """Metrics and traces; costs nothing where it is off."""

    def started(self, call: Call) -> Call:
        """A call enters; what goes on in its place names this call's span as ``traceparent``."""
        ...

    def forwarded(self, call: Call, upstream: str) -> Call:
        """It goes to an upstream; what is handed on names the upstream request's span."""
        ...

    def ended(self, call: Call, entry: Entry, upstream_us: int | None) -> None:
        """Its entry was handed to the recorder; ``upstream_us``: since it was forwarded, if it was."""
        ...


class Pipeline:
    """Takes every call of every surface the same way."""

    def __init__(
        self,
        *,
        snapshots: SnapshotHolder,
        revoked: Revoked,
        catalogue: Catalogue,
        recorder: Recorder,
        observer: Observer,
        providers: Mapping[ProviderName, Provider],
        now: Callable[[], datetime],
    ) -> None:
        self._snapshots = snapshots
        self._revoked = revoked
        self._catalogue = catalogue
        self._recorder = recorder
        self._observer = observer
        self._providers = providers
        self._now = now
        self._is_closing = False

    def close(self) -> None:
        """Turn calls down from now on; those that were admitted go on to their end."""
        self._is_closing = True

    def admit(
        self, call: Call, snapshot: Snapshot, *, waited: bool = False
    ) -> Admitted | Refused | MustAwait:
        """Every stage before the provider. Synchronous, and the only place of the order."""
        principal: Principal | None = None
        try:
            principal = identify(call, snapshot, self._revoked, self._now)
            tenant = snapshot.tenants[principal.tenant]
            call = unwrap(call, tenant.virtual_servers.get(call.virtual_server))
            reach = self._authorize(call, principal, tenant)
            params = call.params
            if reach.exposure is not None:
                params = effective_params(reach.exposure, call)
            if not waited and reach.exposure is None and reach.virtual_server is not None:
                first_listing = self._catalogue.first_listing(reach.virtual_server)
                if first_listing is not None:
                    return MustAwait(first_listing)
            if self._is_closing:
                raise Refusal("unavailable", "Portico is shutting down.", cause="draining")
            self._recorder.reserve(call.id)
        except Refusal as refusal:
            return Refused(call, principal, refusal)
        except RecordUnavailable as error:
            return Refused(call, principal, unkept(error))
        return Admitted(
            call=call,
            principal=principal,
            tenant=tenant,
            snapshot=snapshot,
            provider=_route(call, reach.exposure),
            params=params,
            view=reach.view,
            virtual_server=reach.virtual_server,
            exposure=reach.exposure,
        )

    def begin(self, call: Call) -> Passage:
        """A pass of ``call``, to be entered or run."""
        return Passage(self._observer.started(call), self._now(), perf_counter_ns())

    def enter(self, passage: Passage) -> Running | None:
        """Admit the call of ``passage`` and ask its provider, without waiting for anything.

        None where something has to be awaited, or the call is turned down: then it has to be run.
        """
        admission = self.admit(passage.call, self._snapshots.current)
        if not isinstance(admission, Admitted):
            return None
        passage.principal, passage.call = admission.principal, admission.call
        passage.admitted = admission
        if admission.exposure is not None and admission.exposure.destructive:
            return None
        passage.running = self._asked(admission)
        return passage.running

    @asynccontextmanager
    async def run(
        self, call: Call, resumption: Resumption | None = None, passage: Passage | None = None
    ) -> AsyncIterator[Running]:
        """One pass of one call; leaving the block closes its record, whatever happened inside.

        Raises Refusal, already recorded, for a call that was turned down. What ends the answer is
        offered to the caller after the block, when the record is durable. ``resumption``: what an
        earlier call left to be continued by this one; ``passage``: this call's own, if it was begun.
        """
        passage = passage or self.begin(call)
        try:
            running = passage.running or await self._running(passage, resumption)
            passage.running = running
            yield running
        except Refusal as refusal:
            passage.refusal = refusal
            raise
        except Exception:
            passage.crashed = True
            raise
        finally:
            durable = self.settle(passage)
            if passage.running is not None and passage.running.end is None:
                await passage.running.abandon()
            try:
                await durable
            except RecordUnavailable as error:
                raise unkept(error) from error

    def settle(self, passage: Passage) -> "Future[None]":
        """Every stage after the provider. The entry is taken at once; await it to be durable.

        Awaiting raises RecordUnavailable when it could not be kept. Whoever could not be identified
        made no call: a flood of those is counted, not kept.
        """
        entry = passage.entry(self._recorder.digest, passage.outcome)
        self._observer.ended(passage.call, entry, passage.upstream_us)
        if passage.principal is None and passage.refusal is not None:
            self._recorder.refused_before_identify(entry.peer, passage.refusal.reason)
            nothing: Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        return self._recorder.append(entry)

    async def abandoned(
        self, call: Call, admitted: Admitted, outcome: Outcome, reason: AbandonReason
    ) -> None:
        """Give up the upstream request of a parked call; an entry of its own says that and why.

        ``call`` stands for the end of the interaction: it has an id of its own. Never raises.
        """
        passage = Passage(self._observer.started(call), self._now(), perf_counter_ns())
        passage.principal, passage.admitted = admitted.principal, admitted
        passage.abandoned = reason
        durable = self.settle(passage)
        await outcome.aclose()
        try:
            await durable
        except RecordUnavailable:
            _logger.exception("no entry of an abandoned call", extra={"call": call.id})

    async def _running(self, passage: Passage, resumption: Resumption | None) -> Running:
        admitted = passage.admitted = await self._admitted(passage)
        if resumption is None:
            return self._asked(admitted)
        return self._resumed(passage, admitted, resumption)

    async def _admitted(self, passage: Passage) -> Admitted:
        if passage.admitted is not None:
            await self._note_intent(passage, passage.admitted)
            return passage.admitted
        call = passage.call
        admission = self.admit(call, self._snapshots.current)
        while isinstance(admission, MustAwait):
            await admission.ready
            admission = self.admit(call, self._snapshots.current, waited=True)
        passage.principal, passage.call = admission.principal, admission.call
        if isinstance(admission, Refused):
            raise admission.refusal
        await self._note_intent(passage, admission)
        return admission

    async def _note_intent(self, passage: Passage, admitted: Admitted) -> None:
        """Where the attempt itself matters, it is durable before it is made."""
        if admitted.exposure is None or not admitted.exposure.destructive:
            return
        passage.admitted = admitted
        try:
            await self._recorder.append(passage.entry(self._recorder.digest, "intent"))
        except RecordUnavailable as error:
            raise unkept(error) from error

    def _authorize(self, call: Call, principal: Principal, tenant: TenantSnapshot) -> Reach:
        if call.action in ("inspect", "administer"):
            authorize_administration(principal, call.action)
            return Reach()
        return authorize(call, principal, tenant.virtual_servers, tenant.tables)

    def _asked(self, admitted: Admitted, more: Mapping[str, Raw] | None = None) -> Running:
        """The call with its provider asked, which begins when the first event is awaited."""
        invoke = self._providers[admitted.provider].invoke
        forwarded_ns = None
        if admitted.provider == "capabilities" and admitted.exposure is not None:
            call = self._observer.forwarded(admitted.call, admitted.exposure.capability.upstream)
            if call is not admitted.call:
                admitted = replace(admitted, call=call)
            forwarded_ns = perf_counter_ns()
        sent = replace(admitted, params={**admitted.params, **more}) if more else admitted
        return Running(admitted, invoke(sent), invoke, forwarded_ns)

    def _resumed(self, passage: Passage, admitted: Admitted, resumption: Resumption) -> Running:
        """The call going on with what it continues. Raises Refusal where it may not."""
        resumed = resumption.resume(admitted)
        if resumed.interaction_id:
            passage.call = replace(admitted.call, interaction_id=resumed.interaction_id)
            passage.admitted = admitted = replace(admitted, call=passage.call)
        if resumed.outcome is not None:
            return Running(admitted, resumed.outcome)
        return self._asked(admitted, resumed.more)


def _route(call: Call, exposure: Exposure | None) -> ProviderName:
    if call.action in ("inspect", "administer"):
        return "administration"
    if exposure is None or call.action == "subscribe":
        return "catalogue"
    if exposure.capability.upstream == SYSTEM_UPSTREAM:
        return "self_description"
    return "capabilities"


def unkept(error: BaseException) -> Refusal:
    """How a call is refused whose entry could not be kept."""
    return Refusal("unavailable", "The record cannot be kept.", cause=str(error))
