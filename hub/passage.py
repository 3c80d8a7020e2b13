"""A call on its way: what the stages decided of it, its outcome, and what its record will say."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from functools import partial
from time import perf_counter_ns
from typing import Final

from msgspec import Raw
from msgspec.structs import replace

from hub.admission import Admitted, MustAwait, Refused
from hub.domain.call import Call
from hub.domain.catalog import Exposure
from hub.domain.metering import Hold
from hub.domain.outcome import Ask, Event, Failure, Outcome, Refusal, Result
from hub.domain.parked import AbandonReason
from hub.domain.principal import Principal
from hub.domain.record import Delivery, Entry, EntryOutcome
from hub.guard.passing import Passing
from mcp_wire.jsonrpc import encode

_NOT_EXECUTED: Final = frozenset(("unreachable", "unsupported"))
NO_GROUPS: Final[frozenset[str]] = frozenset()


class Running:
    """A call under way: its events in order, then how it ended."""

    __slots__ = (
        "_following",
        "_invoke",
        "_is_asked",
        "_outcome",
        "_refusal",
        "_unseen",
        "admitted",
        "delivered",
        "end",
        "forwarded_ns",
        "is_continued",
        "parked",
    )

    def __init__(
        self,
        admitted: Admitted,
        outcome: Outcome,
        invoke: Callable[[Admitted], Outcome] | None = None,
        forwarded_ns: int | None = None,
        *,
        is_continued: bool = False,
    ) -> None:
        """``invoke`` asks the provider, for calls that may have to ask it again.

        ``is_continued``: the outcome is of a request that an earlier leg made.
        """
        self.is_continued = is_continued
        self.admitted = admitted
        self.forwarded_ns = forwarded_ns
        """When it went to an upstream, by the clock of :func:`time.perf_counter_ns`."""
        self.delivered: Delivery = "offered"
        """A surface whose caller has gone sets ``none``."""
        self.end: Result | Failure | None = None
        """What the record tells of; a surface that ends the call otherwise sets it."""
        self.parked = ""
        """The handle under which the upstream request was parked."""
        self._following: list[Event] = []
        """Events that come next; guardrails have seen them."""
        self._unseen: Event | None = None
        """An event that guardrails still have to see."""
        self._refusal: Refusal | None = None
        """What they said of an answer that nobody was there to hear of."""
        self._outcome = outcome
        self._invoke = invoke
        self._is_asked = False
        """Whether the provider has begun: nothing happens before its first event is awaited."""

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._refusal is not None:
            raise self._refusal
        while not self._following:
            event, self._unseen = self._unseen, None
            if event is None:
                self._is_asked = True
                event = await self._outcome.__anext__()
            passing = self.admitted.passing
            if passing is None:
                return self._noted(event)
            self._following += await passing.event(event)
        return self._noted(self._following.pop(0))

    def first(self, take: Callable[[Event | None], None]) -> None:
        """Ask the provider; ``take`` gets its first event; see :class:`connectors.outcome.Prompt`."""
        ask = getattr(self._outcome, "first", None)
        self._is_asked = self._is_asked or ask is not None
        if ask is None:
            take(None)
        elif self.admitted.passing is None:
            ask(take)
        else:
            ask(partial(self._taken, self.admitted.passing, take))

    def put_back(self, event: Event) -> None:
        """Have ``event`` be the next one after all."""
        self._following.insert(0, event)

    def _taken(
        self, passing: Passing, take: Callable[[Event | None], None], event: Event | None
    ) -> None:
        """Guardrails see the first event; what takes them longer is awaited."""
        if not isinstance(event, Result) or passing.waits_for_response:
            self._unseen = event
            take(None)
            return
        try:
            event = passing.result(event)
        except Refusal as refusal:
            self._refusal, event = refusal, None
        take(event)

    def _noted(self, event: Event) -> Event:
        if isinstance(event, Result | Failure):
            self.end = event
        return event

    async def again(self, more: Mapping[str, Raw]) -> None:
        """Ask the provider anew, with ``more`` beside the parameters: the events that follow are its.

        Raises Refusal where guardrails do not let the upstream have it.
        """
        if self._invoke is None:
            raise RuntimeError("nobody can be asked again")
        await self._outcome.aclose()
        admitted = self.admitted
        if admitted.passing is not None:
            more = await admitted.passing.answers(more)
        self.end = None
        self._outcome = self._invoke(replace(admitted, params={**admitted.params, **more}))

    def park(self, end: Result, handle: str) -> Outcome:
        """End the call with ``end``; its outcome is the taker's, who closes it one day."""
        self.end, self.parked = end, handle
        return self._outcome

    @property
    def is_charged(self) -> bool:
        """Whether an upstream may have executed it, and what it was asked for is over."""
        was_sent = self._is_asked and self.forwarded_ns is not None
        if self.parked or not (was_sent or self.is_continued):
            return False
        end = self.end
        if isinstance(end, Failure):
            return end.kind not in _NOT_EXECUTED
        return not (isinstance(end, Result) and end.input_required)

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
        "admission",
        "admitted",
        "arrived",
        "began_ns",
        "call",
        "charged",
        "crashed",
        "exposure",
        "hold",
        "notes",
        "passing",
        "principal",
        "refusal",
        "running",
    )

    def __init__(self, call: Call, arrived: datetime, began_ns: int) -> None:
        self.call = call
        self.arrived = arrived
        self.began_ns = began_ns
        self.principal: Principal | None = None
        self.admission: Refused | MustAwait | None = None
        """What came of the first try to admit it, where that is not the end of it."""
        self.admitted: Admitted | None = None
        self.exposure: Exposure | None = None
        """What it means to use, once that is known to exist for its caller."""
        self.hold: Hold | None = None
        """What it has taken of limits and budgets."""
        self.charged: tuple[str, ...] = ()
        """Quotas and budgets that count it, whatever becomes of it."""
        self.passing: Passing | None = None
        self.notes: tuple[str, ...] = ()
        """What guardrails did before it was turned down."""
        self.refusal: Refusal | None = None
        self.running: Running | None = None
        self.crashed = False
        self.abandoned: AbandonReason | None = None
        """Why a parked call was given up; this is about nothing else then."""

    def take(self, admission: Admitted | Refused | MustAwait) -> None:
        """Note what admission said."""
        self.principal, self.call = admission.principal, admission.call
        self.exposure = admission.exposure
        self.admission = None if isinstance(admission, Admitted) else admission
        if isinstance(admission, Refused):
            self.hold, self.notes, self.charged = None, admission.notes, admission.charged
            return
        self.hold, self.passing = admission.hold, admission.passing
        if isinstance(admission, MustAwait):
            self.charged = admission.charged
            return
        self.admitted, applied = admission, admission.applied
        self.charged = () if applied is None else applied.charged

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

    @property
    def cost_micro(self) -> int:
        """What it costs: its price, where its upstream may have executed it and asks nothing more."""
        admitted, running = self.admitted, self.running
        applied = None if admitted is None else admitted.applied
        if applied is None or applied.price is None:
            return 0
        if self.abandoned is not None:
            return applied.price.micro
        if running is None or not running.is_charged:
            return 0
        return applied.price.micro

    def entry(self, digest: Callable[[str, bytes], str], outcome: EntryOutcome) -> Entry:
        """The entry of this call; an intent is written before there is an end.

        ``digest`` takes a tenant and content, and gives what stands for it in the record.
        """
        call, principal, admitted, running = self.call, self.principal, self.admitted, self.running
        tenant = name = key = upstream = original = definition = caller_digest = result_digest = ""
        groups = NO_GROUPS
        if principal is not None:
            tenant = call.evidence.tenant or principal.tenant
            name, key = principal.name, principal.key_id
            groups = principal.groups
        if self.exposure is not None:
            capability, definition = self.exposure.capability, self.exposure.digest
            upstream, original = capability.upstream, capability.name
        sent = given = encode(call.params)
        if admitted is not None and admitted.params is not call.params:
            given, caller_digest = encode(admitted.params), digest(tenant, sent)
        code = status = None
        bytes_out, end = 0, None if running is None else running.end
        if isinstance(end, Result):
            result_digest, bytes_out = digest(tenant, end.body), len(end.body)
        elif end is not None:
            code, status = end.code, end.status
        target = call.target
        cost, currency, charged = self._bill(outcome)
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
            groups=groups,
            rules=self._rules(),
            cost=cost,
            currency=currency,
            charged=charged,
        )

    def _bill(self, outcome: EntryOutcome) -> tuple[int, str, tuple[str, ...]]:
        """What it cost, in which currency, and on which quotas and budgets it counts."""
        if outcome == "intent":
            return 0, "", ()
        applied = None if self.admitted is None else self.admitted.applied
        if applied is None:
            return 0, "", self.charged
        # A parked call that is given up was counted by its legs; only its money is due now.
        charged = self.charged if outcome != "abandoned" else applied.budgets
        cost = self.cost_micro
        return cost, applied.price.currency if cost and applied.price else "", charged

    def _rules(self) -> tuple[str, ...]:
        """Every rule that acted, each said once."""
        refusal, notes = self.refusal, self.notes
        if self.passing is not None:
            notes = tuple(dict.fromkeys((*notes, *self.passing.notes)))
        if refusal is not None and refusal.reason in ("limit", "budget"):
            notes = (*notes, f"{refusal.rule}=refuse")
        return notes
