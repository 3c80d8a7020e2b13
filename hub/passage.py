"""A call on its way: what the stages decided of it, its outcome, and what its record will say."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from time import perf_counter_ns
from typing import Literal, Protocol

from msgspec import Raw, Struct
from msgspec.structs import replace

from hub.domain.call import Call
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Ask, Event, Failure, Outcome, Refusal, Result
from hub.domain.parked import AbandonReason
from hub.domain.principal import Principal
from hub.domain.record import Delivery, Entry, EntryOutcome
from hub.snapshot import Snapshot, TenantSnapshot
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


class Resumed(Struct, frozen=True):
    """What a call goes on with that continues an earlier leg of its interaction."""

    interaction_id: str = ""
    outcome: Outcome | None = None
    """The upstream request that the earlier leg left open; None: the provider is asked anew."""
    more: Mapping[str, Raw] = {}
    """What the provider gets beside the parameters. No digest covers it: legs compare equal."""


class Resumption(Protocol):
    """What a call claims to continue."""

    def resume(self, admitted: Admitted) -> Resumed:
        """What it continues, once it is known who calls and what. Raises Refusal."""
        ...


class Running:
    """A call under way: its events in order, then how it ended."""

    __slots__ = (
        "_first",
        "_invoke",
        "_outcome",
        "admitted",
        "delivered",
        "end",
        "forwarded_ns",
        "parked",
    )

    def __init__(
        self,
        admitted: Admitted,
        outcome: Outcome,
        invoke: Callable[[Admitted], Outcome] | None = None,
        forwarded_ns: int | None = None,
    ) -> None:
        """``invoke`` asks the provider, for calls that may have to ask it again."""
        self.admitted = admitted
        self.forwarded_ns = forwarded_ns
        """When it went to an upstream, by the clock of :func:`time.perf_counter_ns`."""
        self.delivered: Delivery = "offered"
        """A surface whose caller has gone sets ``none``."""
        self.end: Result | Failure | None = None
        """What the record tells of; a surface that ends the call otherwise sets it."""
        self.parked = ""
        """The handle under which the upstream request was parked."""
        self._first: Event | None = None
        self._outcome = outcome
        self._invoke = invoke

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event, self._first = self._first, None
        if event is None:
            event = await self._outcome.__anext__()
        if isinstance(event, Result | Failure):
            self.end = event
        return event

    def first(self, take: Callable[[Event | None], None]) -> None:
        """Ask the provider; ``take`` gets its first event; see :class:`connectors.outcome.Prompt`."""
        ask = getattr(self._outcome, "first", None)
        if ask is None:
            take(None)
        else:
            ask(take)

    def put_back(self, event: Event) -> None:
        """Have ``event`` be the next one after all."""
        self._first = event

    async def again(self, more: Mapping[str, Raw]) -> None:
        """Ask the provider anew, with ``more`` beside the parameters: the events that follow are its."""
        if self._invoke is None:
            raise RuntimeError("nobody can be asked again")
        await self._outcome.aclose()
        admitted = self.admitted
        self.end = None
        self._outcome = self._invoke(replace(admitted, params={**admitted.params, **more}))

    def park(self, end: Result, handle: str) -> Outcome:
        """End the call with ``end``; its outcome is the taker's, who closes it one day."""
        self.end, self.parked = end, handle
        return self._outcome

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


class Passage:
    """What is noted of a call on its way, for its record."""

    __slots__ = (
        "abandoned",
        "admitted",
        "arrived",
        "began_ns",
        "call",
        "crashed",
        "principal",
        "refusal",
        "running",
    )

    def __init__(self, call: Call, arrived: datetime, began_ns: int) -> None:
        self.call = call
        self.arrived = arrived
        self.began_ns = began_ns
        self.principal: Principal | None = None
        self.admitted: Admitted | None = None
        self.refusal: Refusal | None = None
        self.running: Running | None = None
        self.crashed = False
        self.abandoned: AbandonReason | None = None
        """Why a parked call was given up; this is about nothing else then."""

    @property
    def upstream_us(self) -> int | None:
        """Microseconds since it went to an upstream; None where it did not."""
        forwarded_ns = None if self.running is None else self.running.forwarded_ns
        return None if forwarded_ns is None else (perf_counter_ns() - forwarded_ns) // 1000

    @property
    def outcome(self) -> EntryOutcome:
        """How the call ended, as its entry says it."""
        if self.abandoned is not None:
            return "abandoned"
        if self.refusal is not None:
            return "refused"
        end = self.running.end if self.running is not None else None
        if isinstance(end, Result):
            return "input_required" if end.input_required else "ok"
        return "failed" if self.crashed or isinstance(end, Failure) else "cancelled"

    @property
    def reason(self) -> str:
        """Why it did not end well: the refusal's cause or the failure's kind."""
        if self.abandoned is not None:
            return self.abandoned
        if self.refusal is not None:
            return self.refusal.cause
        end = self.running.end if self.running is not None else None
        if isinstance(end, Failure):
            return end.kind
        return "internal" if self.crashed else ""

    def entry(self, digest: Callable[[str, bytes], str], outcome: EntryOutcome) -> Entry:
        """The entry of this call; an intent is written before there is an end.

        ``digest`` takes a tenant and content, and gives what stands for it in the record.
        """
        call, principal, admitted, running = self.call, self.principal, self.admitted, self.running
        tenant = name = key = upstream = original = definition = caller_digest = result_digest = ""
        if principal is not None:
            tenant, name, key = principal.tenant, principal.name, principal.key_id
        sent = given = encode(call.params)
        if admitted is not None:
            exposure = admitted.exposure
            if exposure is not None:
                capability, definition = exposure.capability, exposure.digest
                upstream, original = capability.upstream, capability.name
            if admitted.params is not call.params:
                given, caller_digest = encode(admitted.params), digest(tenant, sent)
        code = status = None
        bytes_out = 0
        end = None if running is None else running.end
        if isinstance(end, Result):
            result_digest, bytes_out = digest(tenant, end.body), len(end.body)
        elif end is not None:
            code, status = end.code, end.status
        target = call.target
        return Entry(
            call=call.id,
            at=self.arrived,
            tenant=tenant,
            principal=name,
            key=key,
            surface=call.surface,
            operation=call.operation,
            virtual_server="" if target.kind == "administration" else call.virtual_server,
            target_kind=target.kind,
            target=target.name,
            upstream=upstream,
            original=original,
            definition=definition,
            outcome=outcome,
            reason=self.reason if outcome != "ok" else "",
            code=code,
            status=status,
            duration_us=(perf_counter_ns() - self.began_ns) // 1000,
            arguments_digest=digest(tenant, given),
            caller_digest=caller_digest,
            result_digest=result_digest,
            bytes_in=len(sent),
            bytes_out=bytes_out,
            delivered="offered" if running is None else running.delivered,
            interaction=call.interaction_id or (call.id if outcome == "input_required" else ""),
            trace=call.traceparent or "",
            peer=call.evidence.peer,
        )
