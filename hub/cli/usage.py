"""``portico usage``: what was used and what it cost, by tool, principal, group, day or virtual server."""

import csv
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, TextIO

import typer

from hub.cli.administration import administration
from hub.cli.options import Data, Json, Tenant, data_of, run
from hub.cli.printing import EXIT_USAGE, fail, note, say, show_json, show_table
from hub.metering.money import MICRO

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_STALE_S: Final = 2.0
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula."""


By = Annotated[
    list[str] | None,
    typer.Option(
        help="tool, principal, group, day, virtual_server, upstream or key; may be repeated.",
        show_default="tool",
    ),
]
Since = Annotated[str | None, typer.Option(help="From this day (UTC) or RFC 3339 time on.")]
Until = Annotated[str | None, typer.Option(help="Before this day or time.")]
PeriodOption = Annotated[
    str | None,
    typer.Option(
        "--period", help="The current hour, day, week or month (UTC).", show_default="month"
    ),
]
Principal = Annotated[str | None, typer.Option(help="Uses of this principal.")]
Group = Annotated[str | None, typer.Option(help="Uses of this group's principals.")]
VirtualServer = Annotated[str | None, typer.Option(help="Uses through this virtual server.")]
Tool = Annotated[str | None, typer.Option(help="Uses of this one, as UPSTREAM/NAME.")]
Csv = Annotated[bool, typer.Option("--csv", help="Answer in CSV, for spreadsheets.")]


def usage(
    by: By = None,
    since: Since = None,
    until: Until = None,
    period: PeriodOption = None,
    principal: Principal = None,
    group: Group = None,
    virtual_server: VirtualServer = None,
    tool: Tool = None,
    tenant: Tenant = None,
    csv: Csv = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what was used and what it cost; exact, from the record.

    Example: portico usage --by principal --by tool --period day

    Example: portico usage --by group --since 2026-11-01 --until 2026-12-01 --csv > november.csv
    """
    if csv and json:
        fail("Choose --csv or --json.", code=EXIT_USAGE)
    asked = {
        "by": ",".join(by or ()),
        "since": _moment(since),
        "until": _moment(until),
        "period": period,
        "principal": principal,
        "group": group,
        "virtual_server": virtual_server,
        "tool": tool,
    }
    query = {name: value for name, value in asked.items() if value}

    async def work() -> Any:
        async with administration(data_of(data), tenant=tenant) as admin:
            return await admin.get("/usage", query)

    found = run(work)
    if json:
        show_json(found)
        return
    if csv:
        write_csv(found, sys.stdout)
    else:
        _show(found)
    if found["note"]:
        note(found["note"])
    if found["lag_s"] > _STALE_S:
        note(f"What was recorded in the last {found['lag_s']:.0f} s may be missing.")


def write_csv(found: Mapping[str, Any], file: TextIO) -> None:
    """The rows, one line each, with a column for each currency. The total is not among them."""
    currencies = [cost["currency"] for cost in found["total"]["costs"]]
    names = _names(found)
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*names, "calls", "refused", *(f"cost_{each}" for each in currencies)])
    for row in found["rows"]:
        micro = {cost["currency"]: cost["micro"] for cost in row["costs"]}
        lines.writerow([
            *(_cell(row["of"][name]) for name in names),
            row["calls"],
            row["refused"],
            *(_decimal(micro.get(each, 0)) for each in currencies),
        ])


def _show(found: Mapping[str, Any]) -> None:
    names = _names(found)
    say(f"{found['tenant']}, from {found['since']} until {found['until']}")
    rows: list[tuple[object, ...]] = [
        (*(row["of"][name] or "-" for name in names), *_sums(row)) for row in found["rows"]
    ]
    rows.append(("TOTAL", *[""] * (len(names) - 1), *_sums(found["total"])))
    show_table((*(name.upper() for name in names), "CALLS", "REFUSED", "COST"), rows)


def _names(found: Mapping[str, Any]) -> list[str]:
    return [name for by in found["by"] for name in (("tool", "kind") if by == "tool" else (by,))]


def _sums(used: Mapping[str, Any]) -> tuple[object, ...]:
    costs = ", ".join(cost["amount"] for cost in used["costs"])
    return used["calls"], used["refused"], costs or "-"


def _decimal(micro: int) -> str:
    """Units of a currency, exactly; what spreadsheets read as a number."""
    whole, rest = divmod(abs(micro), MICRO)
    return f"{'-' if micro < 0 else ''}{whole}.{rest:06}"


def _cell(text: str) -> str:
    """A name as spreadsheets show it and never run it: upstreams choose names of tools."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _moment(text: str | None) -> str | None:
    """A day means its beginning."""
    return f"{text}T00:00:00Z" if text is not None and _DAY.fullmatch(text) else text
