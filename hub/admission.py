"""What admission decides of a call: it may run, it is turned down, or something has to be awaited."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, Protocol

from msgspec import Raw, Struct
from msgspec.structs import replace

from hub.domain.call import Call
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.guarding import Context
from hub.domain.metering import Hold
from hub.domain.outcome import Outcome, Refusal
from hub.domain.principal import Principal
from hub.guard.passing import Passing
from hub.policy.rules import Applied
from hub.snapshot import Snapshot, TenantSnapshot

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
    applied: Applied | None = None
    """The rules that hold for it; None: none does."""
    hold: Hold | None = None
    """What it has taken of limits and budgets."""
    passing: Passing | None = None
    """Its guardrails; None: nothing is looked at."""


class Waited(Struct, frozen=True, kw_only=True):
    """What a call has waited for already, carried from one admission to the next."""

    listed: bool = False
    hold: Hold | None = None
    passing: Passing | None = None
    asked: Mapping[str, Raw] | None = None
    """The parameters that guardrails were asked about, and ``given``: what they let through."""
    given: Mapping[str, Raw] = {}


NOTHING_YET: Final = Waited()


class Refused(Struct, frozen=True):
    """A call that a stage turned down, and whom it came from as far as was known."""

    call: Call
    principal: Principal | None
    refusal: Refusal
    exposure: Exposure | None = None
    """What it meant to use, where that is allowed and something else was not."""
    notes: tuple[str, ...] = ()
    """What guardrails did meanwhile."""
    charged: tuple[str, ...] = ()
    """Quotas and budgets that have counted it all the same."""


class MustAwait(Struct, frozen=True):
    """A stage has to wait: await :attr:`wait`, then admit the call again with what it gives.

    It may raise Refusal, which is about what was found out of the call so far. ``hold`` was taken
    already, and is the caller's to settle.
    """

    wait: Callable[[], Awaitable[Waited]]
    call: Call
    principal: Principal | None
    exposure: Exposure | None = None
    hold: Hold | None = None
    passing: Passing | None = None
    charged: tuple[str, ...] = ()
    """Quotas and budgets that have counted it by now."""


class Resumed(Struct, frozen=True):
    """What a call goes on with that continues an earlier leg of its interaction."""

    interaction_id: str = ""
    outcome: Outcome | None = None
    """The upstream request that the earlier leg left open; None: the provider is asked anew."""
    more: Mapping[str, Raw] = {}
    """What the provider gets beside the parameters. No digest covers it: legs compare equal."""
    hold: Hold | None = None
    """What the earlier leg reserved: given back, now that this one has reserved for itself."""


class Resumption(Protocol):
    """What a call claims to continue."""

    def resume(self, admitted: Admitted) -> Resumed:
        """What it continues, once it is known who calls and what. Raises Refusal."""
        ...


def passing_of(
    applied: Applied, call: Call, principal: Principal, exposure: Exposure | None
) -> Passing | None:
    """The guardrails of a call, and what they are told of it; None: nothing is looked at."""
    if not applied.request and not applied.response:
        return None
    context = Context(
        direction="request",
        tenant=principal.tenant,
        principal=principal.name,
        groups=principal.groups,
        key=principal.key_id,
        virtual_server=call.virtual_server,
        operation=call.operation,
        target=call.target.name,
        capability=None if exposure is None else exposure.capability,
        call=call.id,
        schema=applied.input_schema,
    )
    answer = replace(context, direction="response", schema=applied.output_schema)
    return Passing(applied.request, applied.response, context, answer, call.meta)
