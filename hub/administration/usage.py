"""What was used and what it cost, summed up from the ledger."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from pydantic import Field

from hub.administration.desk import Desk, Shape
from hub.domain.principal import Principal
from hub.domain.rules import Period
from hub.errors import ConfigurationError, StoreUnavailableError
from hub.metering.money import format_money
from hub.metering.periods import end_of, start_of
from hub.stores.ledger import UseField, UseFilter, UseSum

By = Literal["tool", "principal", "group", "day", "virtual_server", "upstream", "key"]
"""What rows can stand for."""

MAX_ROWS: Final = 50_000
CATCH_UP_S: Final = 2.0
_ALMOST_A_MINUTE: Final = timedelta(seconds=59, microseconds=999_999)
"""How long an answer waits for calls that have just ended."""
QUERY: Final = ("by", "since", "until", "period", "principal", "group", "virtual_server", "tool")

_FIELDS: Final[Mapping[By, tuple[UseField, ...]]] = {
    "tool": ("upstream", "tool", "kind"),
    "principal": ("principal",),
    "group": ("groups",),
    "day": ("day",),
    "virtual_server": ("virtual_server",),
    "upstream": ("upstream",),
    "key": ("key",),
}
_OVERLAP: Final = (
    "Rows overlap: what principals in several groups used is in the row of each of them. "
    "The total counts it once."
)


class UsageRequest(Shape):
    """Which uses are summed up, and what the rows stand for. Without times: the current month."""

    by: str = Field("tool", description=f"What rows stand for: {', '.join(get_args(By))}; or "
                    "several of them, with commas.")  # fmt: skip
    since: datetime | None = Field(None, description="From this minute on.")
    until: datetime | None = Field(
        None, description="To the end of the minute before, or that it is in; now, if it is absent."
    )
    period: Period | None = Field(
        None, description="The current hour, day, week or month (UTC), in the place of since."
    )
    principal: str = Field("", description="Uses of this principal.")
    group: str = Field("", description="Uses of principals that were in this group.")
    virtual_server: str = Field("", description="Uses through this virtual server.")
    tool: str = Field("", description="Uses of this one: original name, or upstream/original.")


class Cost(Shape):
    """An amount of one currency."""

    currency: str
    micro: int = Field(description="Millionths of the currency's unit.")
    amount: str = Field(description="As people write it: 0.002 USD.")


class Used(Shape):
    """Sums of uses."""

    calls: int = Field(description="Calls that reached what they were for, whatever came of them.")
    refused: int = Field(description="Calls that were refused; they are not among the others.")
    costs: tuple[Cost, ...] = Field(description="One for each currency.")


class UsageRow(Used):
    """Uses that agree in what the rows stand for."""

    of: dict[str, str] = Field(
        description="What the row stands for; empty where there is none, as for principals in no "
        "group. A tool also has its kind: tool, resource, template or prompt."
    )


class Usage(Shape):
    """What was used in a time, exactly."""

    tenant: str
    since: datetime
    until: datetime
    by: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    total: Used = Field(description="Everything that was wanted, each use once.")
    overlapping: bool = Field(description="Rows overlap, so that they add up to more than total.")
    note: str = Field(description="What to know about the rows; empty where there is nothing.")
    lag_s: float = Field(description="What was recorded in the last seconds may be missing.")


async def usage(desk: Desk, principal: Principal, tenant: str, request: UsageRequest) -> Usage:  # noqa: ARG001 -- every function takes who asks
    """What a tenant used and what it cost, by tool, principal, group, day or virtual server.

    Raises ConfigurationError for what cannot be meant, StoreUnavailableError.
    """
    ledger = desk.ledger
    if ledger is None:
        raise StoreUnavailableError("There is no ledger here.")
    by = _by(request.by)
    since, until = _times(request, desk.now())
    wanted = UseFilter(
        tenant=tenant,
        since=since,
        until=until,
        principal=request.principal or None,
        group=request.group or None,
        virtual_server=request.virtual_server or None,
        tool=request.tool or None,
    )
    is_level = await ledger.catch_up(CATCH_UP_S)
    sums = await ledger.sums(wanted, [field for name in by for field in _FIELDS[name]])
    rows, overlapping = _rows(sums, by, request.group)
    if len(rows) > MAX_ROWS:
        raise ConfigurationError(
            f"That is more than {MAX_ROWS} rows; ask for a shorter time, or by fewer things."
        )
    return Usage(
        tenant=tenant,
        since=since,
        until=until,
        by=by,
        rows=rows,
        total=Used(**_added(sums)),
        overlapping=overlapping,
        note=_OVERLAP if overlapping else "",
        lag_s=0.0 if is_level else ledger.lag_s,
    )


def _by(text: str) -> tuple[By, ...]:
    known: dict[str, By] = {name: name for name in _FIELDS}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigurationError(f"'by' cannot be '{name}'; it is one of {', '.join(known)}.")
    return tuple(dict.fromkeys(known[name] for name in names))


def _times(request: UsageRequest, now: datetime) -> tuple[datetime, datetime]:
    if any(at is not None and at.tzinfo is None for at in (request.since, request.until)):
        raise ConfigurationError("Times need a zone: 2026-11-21T09:00:00Z.")
    if request.period is not None and (request.since or request.until):
        raise ConfigurationError("Ask for a period, or for since and until.")
    if request.since is None:
        if request.until is not None:
            raise ConfigurationError("'until' needs 'since'.")
        period = request.period or "month"
        return start_of(period, now), end_of(period, now)
    since, until = request.since, request.until or now
    return _minute(since), _minute(until + _ALMOST_A_MINUTE)


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _rows(
    sums: Sequence[UseSum], by: Sequence[By], group: str
) -> tuple[tuple[UsageRow, ...], bool]:
    """The rows, and whether some use is in several of them. ``group``: only this one's; or empty."""
    together: dict[tuple[str, ...], list[UseSum]] = {}
    overlapping = False
    for one in sums:
        groups = ((group,) if group else one.groups or ("",)) if "group" in by else ("",)
        overlapping = overlapping or len(groups) > 1
        for name in groups:
            together.setdefault(_values(one, by, name), []).append(one)
    names = [name for each in by for name in _names(each)]
    rows = [
        UsageRow(of=dict(zip(names, values, strict=True)), **_added(summed))
        for values, summed in together.items()
    ]
    if "day" in by:
        rows.sort(key=lambda row: list(row.of.values()))
    else:
        rows.sort(key=lambda row: (-row.calls, list(row.of.values())))
    return tuple(rows), overlapping


def _names(by: By) -> tuple[str, ...]:
    return ("tool", "kind") if by == "tool" else (by,)


def _values(one: UseSum, by: Sequence[By], group: str) -> tuple[str, ...]:
    """What a row stands for, by :func:`_names`, in the order of ``by``."""
    fields = iter(one.fields)
    values: list[str] = []
    for name in by:
        if name == "group":
            values.append(group)
        elif name == "tool":
            upstream, tool, kind = next(fields), next(fields), next(fields)
            values += (f"{upstream}/{tool}", kind) if upstream else ("", kind)
        else:
            values.append(next(fields))
    return tuple(values)


def _added(sums: Sequence[UseSum]) -> dict[str, int | tuple[Cost, ...]]:
    """Sums of sums, currencies kept apart: the members of :class:`Used`."""
    costs: dict[str, int] = {}
    for one in sums:
        if one.currency or one.cost:
            costs[one.currency] = costs.get(one.currency, 0) + one.cost
    return {
        "calls": sum(one.calls for one in sums),
        "refused": sum(one.refused for one in sums),
        "costs": tuple(
            Cost(currency=currency, micro=micro, amount=format_money(micro, currency))
            for currency, micro in sorted(costs.items())
        ),
    }
