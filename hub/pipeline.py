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
from functools import partial
from time import perf_counter_ns

from msgspec import Raw
from msgspec.structs import replace

from hub.admission import (
    NOTHING_YET,
    Admitted,
    MustAwait,
    ProviderName,
    Refused,
    Resumed,
    Resumption,
    Waited,
    passing_of,
)
from hub.catalog.arguments import effective_params, unwrap
from hub.domain.call import Call
from hub.domain.catalog import SYSTEM_UPSTREAM, Exposure, VirtualServer
from hub.domain.metering import Hold
from hub.domain.outcome import Outcome, Refusal
from hub.domain.parked import AbandonReason
from hub.domain.principal import Principal
from hub.errors import RecordUnavailable
from hub.guard.passing import Passing
from hub.identity.resolve import identify
from hub.passage import Passage, Running
from hub.policy.authorize import Reach, authorize, authorize_administration
from hub.policy.rules import Applied
from hub.snapshot import Snapshot, TenantSnapshot
from hub.stages import Catalogue, Meter, Observer, Provider, Recorder, Stages

__all__ = [
    "Admitted",
    "Catalogue",
    "Meter",
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
    "Stages",
]

_logger = logging.getLogger(__name__)


class Pipeline:
    """Takes every call of every surface the same way."""

    def __init__(self, stages: Stages) -> None:
        self._snapshots = stages.snapshots
        self._revoked = stages.revoked
        self._catalogue = stages.catalogue
        self._recorder = stages.recorder
        self._meter = stages.meter
        self._observer = stages.observer
        self._providers = stages.providers
        self._now = stages.now
        self._key_used = stages.key_used
        self._is_closing = False

    def close(self) -> None:
        """Turn calls down from now on; those that were admitted go on to their end."""
        self._is_closing = True

    def admit(
        self,
        call: Call,
        snapshot: Snapshot,
        waited: Waited = NOTHING_YET,
        at: datetime | None = None,
    ) -> Admitted | Refused | MustAwait:
        """Every stage before the provider. Synchronous, and the only place of the order.

        ``waited``: what the call has waited for already. ``at``: when it arrived.
        """
        principal: Principal | None = None
        reach = Reach()
        hold, passing = waited.hold, waited.passing
        applied: Applied | None = None
        try:
            principal = identify(call, snapshot, self._revoked, self._now, self._key_used)
            tenant = snapshot.tenants[principal.tenant]
            call = unwrap(call, tenant.virtual_servers.get(call.virtual_server))
            reach = self._authorize(call, principal, tenant)
            params = call.params
            if reach.exposure is not None:
                params = effective_params(reach.exposure, call)
            elif not waited.listed and reach.virtual_server is not None:
                self._listed(reach.virtual_server)
            if self._is_closing:
                raise Refusal("unavailable", "Portico is shutting down.", cause="draining")
            applied = _applied(call, principal, tenant, reach)
            if applied is not None:
                hold = hold or self._reserved(call, applied, waited, at)
                passing = passing or passing_of(applied, call, principal, reach.exposure)
                params = _guarded(params, applied, passing, replace(waited, hold=hold))
            self._recorder.reserve(call.id)
        except _Waiting as waiting:
            charged = _charged(applied, hold)
            return MustAwait(waiting.wait, call, principal, reach.exposure, hold, passing, charged)
        except BaseException as error:
            if hold is not None:
                self._meter.settle(hold, 0)
            if not isinstance(error, Refusal | RecordUnavailable):
                raise
            refusal = error if isinstance(error, Refusal) else unkept(error)
            notes = () if passing is None else tuple(passing.notes)
            charged = _charged(applied, hold)
            return Refused(call, principal, refusal, reach.exposure, notes, charged)
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
            applied=applied,
            hold=hold,
            passing=passing,
        )

    def begin(self, call: Call) -> Passage:
        """A pass of ``call``, to be entered or run."""
        return Passage(self._observer.started(call), self._now(), perf_counter_ns())

    def enter(self, passage: Passage) -> Running | None:
        """Admit the call of ``passage`` and ask its provider, without waiting for anything.

        None where something has to be awaited, or the call is turned down: then it has to be run.
        """
        admission = self.admit(passage.call, self._snapshots.current, at=passage.arrived)
        passage.take(admission)
        if not isinstance(admission, Admitted):
            return None
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
        self._pay(passage, entry.cost)
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
        passage.take(admitted)
        passage.call, passage.passing, passage.abandoned = call, None, reason
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
        return await self._resumed(passage, admitted, resumption)

    async def _admitted(self, passage: Passage) -> Admitted:
        if passage.admitted is not None:
            await self._note_intent(passage, passage.admitted)
            return passage.admitted
        call = passage.call
        admission: Admitted | Refused | MustAwait | None = passage.admission
        if admission is None:
            admission = self.admit(call, self._snapshots.current, at=passage.arrived)
        while isinstance(admission, MustAwait):
            passage.take(admission)
            waited = await admission.wait()
            passage.hold = waited.hold
            admission = self.admit(call, self._snapshots.current, waited, passage.arrived)
        passage.take(admission)
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

    def _listed(self, server: VirtualServer) -> None:
        """Have upstreams that were never listed waited for."""
        first_listing = self._catalogue.first_listing(server)
        if first_listing is not None:
            raise _Waiting(partial(_once_listed, first_listing))

    def _reserved(
        self, call: Call, applied: Applied, waited: Waited, at: datetime | None
    ) -> Hold | None:
        """One call, and its price, of everything it counts on. Raises Refusal."""
        counters, micro = applied.counters, applied.reserved_micro
        if not counters:
            return None
        if not self._meter.waits:
            return self._meter.reserve(call.id, counters, micro, at)

        async def reserve() -> Waited:
            hold = await self._meter.reserved(call.id, counters, micro, at)
            return replace(waited, hold=hold)

        raise _Waiting(reserve)

    def _authorize(self, call: Call, principal: Principal, tenant: TenantSnapshot) -> Reach:
        if call.action in ("inspect", "administer"):
            authorize_administration(principal, call.target.name)
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

    async def _resumed(
        self, passage: Passage, admitted: Admitted, resumption: Resumption
    ) -> Running:
        """The call going on with what it continues. Raises Refusal where it may not."""
        resumed = resumption.resume(admitted)
        if resumed.interaction_id:
            passage.call = replace(admitted.call, interaction_id=resumed.interaction_id)
            passage.admitted = admitted = replace(admitted, call=passage.call)
        if resumed.outcome is not None:
            if resumed.hold is not None:
                # This leg has reserved for itself: it pays, by the rules and the period of now.
                self._meter.unpark(resumed.hold, 0)
            return Running(admitted, resumed.outcome, is_continued=True)
        more = resumed.more
        if admitted.passing is not None:
            more = await admitted.passing.answers(more)
        return self._asked(admitted, more)

    def _pay(self, passage: Passage, micro: int) -> None:
        """Give back what the call held, less what it cost; a parked one keeps what it reserved."""
        hold = passage.hold
        if hold is None:
            return
        if passage.abandoned is not None:
            self._meter.unpark(hold, micro)
        elif passage.running is not None and passage.running.parked:
            self._meter.park(hold)
        else:
            self._meter.settle(hold, micro)


class _Waiting(Exception):  # noqa: N818 -- what a stage says that cannot go on yet
    """A stage has to wait, and for what."""

    def __init__(self, wait: Callable[[], Awaitable[Waited]]) -> None:
        super().__init__("a stage has to wait")
        self.wait = wait


async def _once_listed(first_listing: Awaitable[None]) -> Waited:
    await first_listing
    return Waited(listed=True)


def _applied(
    call: Call, principal: Principal, tenant: TenantSnapshot, reach: Reach
) -> Applied | None:
    """The rules that hold for the use of a capability."""
    exposure, server = reach.exposure, reach.virtual_server
    if tenant.rules.is_empty or exposure is None or server is None or call.action != "call":
        return None
    return tenant.rules.of(principal, reach.view, server, exposure)


def _charged(applied: Applied | None, hold: Hold | None) -> tuple[str, ...]:
    """What has counted a call that holds something of it."""
    return () if applied is None or hold is None else applied.charged


def _guarded(
    params: Mapping[str, Raw], applied: Applied, passing: Passing | None, waited: Waited
) -> Mapping[str, Raw]:
    """The parameters as the upstream may have them. Raises Refusal."""
    if passing is None:
        return params
    if params == waited.asked:
        return waited.given
    if not applied.request_waits:
        return passing.params(params)

    async def ask() -> Waited:
        given = await passing.params_asked(params)
        return replace(waited, passing=passing, asked=params, given=given)

    raise _Waiting(ask)


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
