"""Sections of ``portico.yaml`` on what is used: guardrails, limits, prices, budgets."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from hub.config.rule_checks import CHECK_KEYS, check_attach, check_guardrail, check_limit
from hub.config.section import Flag, HttpUrl, Line, Name, Section, Text
from hub.domain.rules import CheckName, Direction, GuardAction, Mode, OnOutage, Per, Period

RATE_PATTERN: Final = r"^[1-9][0-9]{0,8}/(s|min|h)$"
QUOTA_PATTERN: Final = r"^[1-9][0-9]{0,11}/(hour|day|week|month)$"
AMOUNT_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,6})? [A-Z]{3}$"

Rate = Annotated[str, StringConstraints(pattern=RATE_PATTERN)]
Quota = Annotated[str, StringConstraints(pattern=QUOTA_PATTERN)]
Amount = Annotated[str, StringConstraints(pattern=AMOUNT_PATTERN)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]


class AttachSection(Section):
    """Where a rule holds: everything given has to fit, and something has to be given."""

    tenant: Name | None = Field(None, description="The whole tenant, named as in this file.")
    group: Name | None = Field(None, description="Calls of the members of a group.")
    principal: Name | None = Field(None, description="Calls of one principal.")
    virtual_server: Name | None = Field(None, description="What a virtual server exposes.")
    tool: Line | None = Field(
        None, description="One tool: virtual server and exposed name, such as dev/find_order."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_attach(self.model_dump(exclude_none=True)))
        return self


class GuardrailSection(Section):
    """A check on content, and what is done with what it finds."""

    name: Name = Field(description="What records, refusals and metrics call it.")
    check: CheckName = Field(description="What is looked for.")
    on: Annotated[tuple[Direction, ...], Field(min_length=1)] = Field(
        description="Where: what goes to an upstream, what comes back, how tools describe themselves."
    )
    action: GuardAction = Field(
        description="redact cuts out what was found; block turns the call down."
    )
    mode: Mode = Field("enforce", description="monitor: it is recorded, and nothing happens.")
    order: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = Field(
        0, description="Of several that block, the one with the smallest is named."
    )
    attach: AttachSection = Field(description="Where it holds.")
    kinds: tuple[Line, ...] = Field(
        (), description="secrets, personal_data: only these kinds; none given: all."
    )
    words: tuple[Text, ...] = Field((), description="words: what may not occur.")
    patterns: tuple[Annotated[Text, StringConstraints(max_length=512)], ...] = Field(
        (), description="words: regular expressions (RE2), each at most 512 characters."
    )
    ignore_case: Flag = Field(True, description="words: whether case does not matter.")
    whole_words: Flag = Field(True, description="words: whether parts of words do not count.")
    sensitivity: Literal["low", "normal", "high"] = Field(
        "normal", description="injection: how little is enough."
    )
    max_bytes: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="size: bytes of JSON at the most."
    )
    max_depth: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        None, description="size: levels of nesting at the most."
    )
    arguments: dict[str, tuple[JsonValue, ...]] = Field(
        {}, description="allowed_values: by argument, the values it may have."
    )
    allow: tuple[Line, ...] = Field(
        (), description="urls: domains that may occur; *.example.org for everything below one."
    )
    url: HttpUrl | None = Field(None, description="webhook: who is asked.")
    deadline_ms: Annotated[int, Field(strict=True, ge=1, le=60_000)] = Field(
        800, description="webhook: milliseconds to answer in."
    )
    on_error: Literal["block", "allow"] = Field(
        "block", description="webhook: what happens where no answer can be had."
    )
    headers: dict[str, Line] = Field(
        {}, description="webhook: headers; values may be 'env:NAME' or 'file:PATH'."
    )
    secret: Line | None = Field(
        None, description="webhook: 'env:NAME' or 'file:PATH' of what requests are signed with."
    )
    format: Literal["portico", "agentgateway"] = Field(
        "portico", description="webhook: in which words it is asked."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_guardrail(self.model_dump(exclude_defaults=True)))
        return self

    def options(self) -> dict[str, JsonValue]:
        """What the check itself is told: its own keys, defaults left out."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        return {key: given[key] for key in CHECK_KEYS[self.check] if key in given}


class LimitSection(Section):
    """How much may be used. Exactly one of rate, quota and concurrency."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [key]} for key in ("rate", "quota", "concurrency")]
        }
    )

    name: Name = Field(description="What records, refusals and metrics call it.")
    rate: Rate | None = Field(None, description="Calls in a time: 20/s, 100/min, 1000/h.")
    burst: Count | None = Field(
        None, description="With rate: calls that may come at once; null: as many as the rate says."
    )
    quota: Quota | None = Field(
        None, description="Calls in a period of the calendar, UTC: 5000/day, 100/hour."
    )
    concurrency: Count | None = Field(None, description="Calls under way at the same time.")
    per: Per = Field(description="Whose calls are counted together.")
    attach: AttachSection = Field(description="Where it holds.")
    on_outage: OnOutage = Field(
        "local",
        description="While Redis is away: local lets each process spend its share, "
        "refuse turns calls down.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_limit(self.model_dump(exclude_none=True)))
        return self


class PriceSection(Section):
    """What one use of a tool costs."""

    upstream: str = Field(description="Name of an upstream.")
    tool: Line | None = Field(
        None, description="The upstream's own name of a tool; null: all that have no price."
    )
    per_call: Amount = Field(description="An amount and its currency: 0.002 USD.")


class BudgetSection(Section):
    """How much may be spent."""

    name: Name = Field(description="What records, refusals and metrics call it.")
    amount: Amount = Field(description="An amount and its currency: 100.00 USD.")
    period: Period = Field(description="After which it begins anew; of the calendar, UTC.")
    per: Per = Field(description="Whose calls are paid together.")
    attach: AttachSection = Field(description="Where it holds.")
    alert_at: tuple[Share, ...] = Field(
        (), description="Shares of the amount, from 0 to 1, that are announced when reached."
    )
    alert_url: HttpUrl | None = Field(
        None, description="Where alerts are posted, beside the record and the log."
    )
    on_limit: Literal["block", "alert"] = Field(
        "block", description="What happens when it is spent."
    )
    on_outage: OnOutage = Field(
        "refuse",
        description="While Redis is away: refuse turns calls down, local lets each process "
        "spend its share.",
    )
