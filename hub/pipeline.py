"""The way of every request: admit, provider, settle.

Surfaces translate, stages decide, providers answer. The order of the stages is the text of
:meth:`Pipeline.admit` and :meth:`Pipeline.settle`, read from top to bottom.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter_ns
from typing import Literal, Protocol

from msgspec import Raw, Struct

from hub.catalog.arguments import effective_params
from hub.domain.call import Call
from hub.domain.catalog import SYSTEM_UPSTREAM, Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Ask, Event, Failure, Outcome, Refusal, Result
from hub.domain.principal import Principal
from hub.domain.record import Delivery, Entry, EntryOutcome
from hub.errors import RecordUnavailable
from hub.identity.resolve import Revoked, identify
from hub.policy.authorize import Reach, authorize, authorize_administration
from hub.snapshot import Snapshot, SnapshotHolder, TenantSnapshot
from mcp_wire.jsonrpc import encode

ProviderName = Literal["administration", "catalogue", "capabilities", "self_description"]


class Admitted(Struct, frozen=True, kw_only=True):
    """A call that may run: everything its provider needs, decided."""

    call: Call
    principal: Principal
    tenant: TenantSnapshot
    snapshot: Snapshot
    provider: ProviderName
    params: Mapping[str, Raw]
    """As the provider gets them: fixed and default arguments applied; ``call.params`` as sent."""
    view: View | None = None
    virtual_server: VirtualServer | None = None
    exposure: Exposure | None = None


class Refused(Struct, frozen=True):
    """A call that a stage turned down, and whom it came from as far as was known."""

    call: Call
    principal: Principal | None
    refusal: Refusal


class MustAwait(Struct, frozen=True):
    """A stage has to wait: await ``ready``, then admit the call again."""

    ready: Awaitable[None]


class Provider(Protocol):
    """What answers a routed call."""

    def invoke(self, admitted: Admitted) -> Outcome:
        """The outcome of the call; nothing happens before its first event is awaited.

        Awaiting may raise Refusal; what upstreams do wrong is a Failure event.
        """
        ...


class Recorder(Protocol):
    """Keeps one entry per call."""

    def reserve(self) -> None:
        """Make sure the largest entry will find room. Raises RecordUnavailable."""
        ...

    def append(self, entry: Entry) -> Awaitable[None]:
        """Take the entry at once; what is returned completes when the entry is durable."""
        ...

    def digest(self, tenant: str, content: bytes) -> str:
        """The keyed digest that stands for content in an entry."""
        ...


class Catalogue(Protocol):
    """What admission asks of the running catalogue."""

    def first_listing(self, virtual_server: VirtualServer) -> Awaitable[None] | None:
        """A wait of at most 2 s for upstreams that were never listed; None when there are none."""
        ...


class Observer(Protocol):
    """Metrics and traces; costs nothing where it is off."""

    def started(self, call: Call) -> None:
        """A call enters."""
        ...

    def ended(self, call: Call, entry: Entry) -> None:
        """Its entry was handed to the recorder."""
        ...


class Running:
    """A call under way: its events in order, then how it ended."""

    __slots__ = ("_outcome", "admitted", "delivered", "end")

    def __init__(self, admitted: Admitted, outcome: Outcome) -> None:
        self.admitted = admitted
        self.delivered: Delivery = "offered"
        """A surface whose caller has gone sets ``none``."""
        self.end: Result | Failure | None = None
        self._outcome = outcome

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self._outcome.__anext__()
        if isinstance(event, Result | Failure):
            self.end = event
        return event

    async def abandon(self) -> None:
        """Give up what is still under way; the upstream is told."""
        await self._outcome.aclose()

    async def answer(self) -> Result | Failure:
        """The end, for surfaces that show nothing in between; whoever asks is declined."""
        async for event in self:
            if isinstance(event, Result | Failure):
                return event
            if isinstance(event, Ask):
                await event.answer(Failure("unsupported", "This caller cannot be asked."))
        raise AssertionError("an outcome ended without a result")


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

    def admit(
        self, call: Call, snapshot: Snapshot, *, waited: bool = False
    ) -> Admitted | Refused | MustAwait:
        """Every stage before the provider. Synchronous, and the only place of the order."""
        principal: Principal | None = None
        try:
            principal = identify(call, snapshot, self._revoked, self._now().timestamp())
            tenant = snapshot.tenants[principal.tenant]
            if call.action in ("inspect", "administer"):
                authorize_administration(principal, call.action)
                reach = Reach()
            else:
                reach = authorize(call, principal, tenant.virtual_servers, tenant.tables)
            params = call.params
            if reach.exposure is not None:
                params = effective_params(reach.exposure, params)
            self._recorder.reserve()
            if not waited and reach.virtual_server is not None and call.action != "call":
                first_listing = self._catalogue.first_listing(reach.virtual_server)
                if first_listing is not None:
                    return MustAwait(first_listing)
        except Refusal as refusal:
            return Refused(call, principal, refusal)
        except RecordUnavailable as error:
            unkept = Refusal("unavailable", "The record cannot be kept.", cause=str(error))
            return Refused(call, principal, unkept)
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

    @asynccontextmanager
    async def run(self, call: Call) -> AsyncIterator[Running]:
        """One pass of one call; leaving the block closes its record, whatever happened inside.

        Raises Refusal, already recorded, for a call that was turned down. What ends the answer is
        offered to the caller after the block, when the record is durable.
        """
        passage = Passage(call, self._now(), perf_counter_ns())
        self._observer.started(call)
        admission = self.admit(call, self._snapshots.current)
        while isinstance(admission, MustAwait):
            await admission.ready
            admission = self.admit(call, self._snapshots.current, waited=True)
        if isinstance(admission, Refused):
            passage.refusal = admission.refusal
            await self.settle(admission, passage)
            raise admission.refusal
        if admission.exposure is not None and admission.exposure.destructive:
            await self._recorder.append(_entry(admission, passage, self._recorder, "intent"))
        running = Running(admission, self._providers[admission.provider].invoke(admission))
        passage.running = running
        try:
            yield running
        except Refusal as refusal:
            passage.refusal = refusal
            raise
        except Exception:
            passage.crashed = True
            raise
        finally:
            settled = self.settle(admission, passage)
            if running.end is None:
                await running.abandon()
            await settled

    def settle(self, admission: Admitted | Refused, passage: "Passage") -> Awaitable[None]:
        """Every stage after the provider. The entry is taken at once; await it to be durable."""
        entry = _entry(admission, passage, self._recorder, passage.outcome)
        durable = self._recorder.append(entry)
        self._observer.ended(admission.call, entry)
        return durable


class Passage:
    """What is noted of a call on its way, for its record."""

    __slots__ = ("arrived", "began_ns", "call", "crashed", "refusal", "running")

    def __init__(self, call: Call, arrived: datetime, began_ns: int) -> None:
        self.call = call
        self.arrived = arrived
        self.began_ns = began_ns
        self.refusal: Refusal | None = None
        self.running: Running | None = None
        self.crashed = False

    @property
    def outcome(self) -> EntryOutcome:
        """How the call ended, as its entry says it."""
        if self.refusal is not None:
            return "refused"
        end = self.running.end if self.running is not None else None
        if isinstance(end, Result):
            return "input_required" if end.input_required else "ok"
        return "failed" if self.crashed or isinstance(end, Failure) else "cancelled"


def _route(call: Call, exposure: Exposure | None) -> ProviderName:
    if call.action in ("inspect", "administer"):
        return "administration"
    if exposure is None or call.action == "subscribe":
        return "catalogue"
    if exposure.capability.upstream == SYSTEM_UPSTREAM:
        return "self_description"
    return "capabilities"


def _entry(
    admission: Admitted | Refused, passage: Passage, recorder: Recorder, outcome: EntryOutcome
) -> Entry:
    call, principal = admission.call, admission.principal
    tenant = principal.tenant if principal is not None else ""
    exposure = admission.exposure if isinstance(admission, Admitted) else None
    end = passage.running.end if passage.running is not None else None
    sent = encode(call.params)
    given = sent
    if isinstance(admission, Admitted) and admission.params is not call.params:
        given = encode(admission.params)
    return Entry(
        call=call.id,
        at=passage.arrived,
        tenant=tenant,
        principal=principal.name if principal is not None else "",
        key=principal.key_id if principal is not None else "",
        surface=call.surface,
        operation=call.operation,
        virtual_server=call.virtual_server if call.target.kind != "administration" else "",
        target_kind=call.target.kind,
        target=call.target.name,
        upstream=exposure.capability.upstream if exposure is not None else "",
        original=exposure.capability.name if exposure is not None else "",
        definition=exposure.digest if exposure is not None else "",
        outcome=outcome,
        reason=_reason(passage, end),
        code=end.code if isinstance(end, Failure) else None,
        status=end.status if isinstance(end, Failure) else None,
        duration_us=(perf_counter_ns() - passage.began_ns) // 1000,
        arguments_digest=recorder.digest(tenant, given),
        caller_digest=recorder.digest(tenant, sent) if given is not sent else "",
        result_digest=recorder.digest(tenant, end.body) if isinstance(end, Result) else "",
        bytes_in=len(sent),
        bytes_out=len(end.body) if isinstance(end, Result) else 0,
        delivered=passage.running.delivered if passage.running is not None else "offered",
        interaction=call.interaction_id,
        trace=call.traceparent or "",
        peer=call.evidence.peer,
    )


def _reason(passage: Passage, end: Result | Failure | None) -> str:
    if passage.refusal is not None:
        return passage.refusal.cause
    if isinstance(end, Failure):
        return end.kind
    return "internal" if passage.crashed else ""
