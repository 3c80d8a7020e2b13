"""Rules on what is used: guardrails, limits, prices and budgets, as an administrator wrote them."""

from typing import Literal

from msgspec import Raw, Struct

from hub.domain.source import Source
from mcp_wire.jsonrpc import EMPTY_OBJECT

Direction = Literal["request", "response", "definition"]
"""What a guardrail looks at: what goes to an upstream, what comes back, how it describes itself."""

CheckName = Literal[
    "secrets",
    "personal_data",
    "words",
    "injection",
    "hidden_text",
    "json_schema",
    "size",
    "allowed_values",
    "urls",
    "webhook",
]
GuardAction = Literal["redact", "block", "require_approval"]
Mode = Literal["enforce", "monitor"]
"""``monitor``: what would have happened is recorded, and nothing happens."""

Per = Literal["key", "principal", "group", "virtual_server", "tool", "tenant"]
"""Whose uses are counted together."""

Period = Literal["hour", "day", "week", "month"]
"""Of the calendar, in UTC; weeks begin on Monday."""

OnOutage = Literal["refuse", "local"]
"""While the shared counts cannot be reached: turn calls down, or let each process spend its share."""

RuleKind = Literal["guardrail", "rate", "quota", "concurrency", "budget"]


class Attach(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a rule holds: everything that is given must fit; nothing given never fits."""

    tenant: str | None = None
    group: str | None = None
    principal: str | None = None
    virtual_server: str | None = None
    tool: str | None = None
    """Virtual server and exposed name: ``dev/find_order``."""


class GuardrailSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check on content, and what is done with what it finds."""

    name: str
    check: CheckName
    on: tuple[Direction, ...]
    action: GuardAction
    attach: Attach
    mode: Mode = "enforce"
    order: int = 0
    """Smaller ones are named first where several block."""
    options: Raw = EMPTY_OBJECT
    """What the check itself is told, an object; its shape belongs to the check."""
    guarded: bool = False
    """Written by a tenant's administrator: the address guard holds for URLs in it."""
    source: Source = "api"


class LimitSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much may be used. Exactly one of ``rate``, ``quota`` and ``concurrency`` is set."""

    name: str
    per: Per
    attach: Attach
    rate: str | None = None
    """``20/s``, ``100/min``, ``1000/h``."""
    burst: int | None = None
    """How many may come at once; None: as many as the rate allows in its window."""
    quota: str | None = None
    """``5000/day``: a count and a period of the calendar."""
    concurrency: int | None = None
    on_outage: OnOutage = "local"
    source: Source = "api"


class PriceSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one use costs."""

    upstream: str
    tool: str | None = None
    """Original name; None: every tool of the upstream that has no price of its own."""
    per_call: str
    """An amount with its currency: ``0.002 USD``."""
    source: Source = "api"

    @property
    def name(self) -> str:
        """A stable identifier: what is priced."""
        return f"{self.upstream}/{self.tool or '*'}"


class BudgetSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much may be spent in a period."""

    name: str
    amount: str
    """With its currency: ``100.00 USD``."""
    period: Period
    per: Per
    attach: Attach
    alert_at: tuple[float, ...] = ()
    """Shares of the amount, from 0 to 1, each announced once a period when it is reached."""
    alert_url: str | None = None
    """Where alerts are posted; None: they are in the record and the log."""
    on_limit: Literal["block", "alert"] = "block"
    on_outage: OnOutage = "refuse"
    guarded: bool = False
    """Written by a tenant's administrator: the address guard holds for ``alert_url``."""
    source: Source = "api"
