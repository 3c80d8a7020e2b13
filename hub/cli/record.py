"""Commands about the record: ``portico audit tail | search | verify | export``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.administration import administration
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import show_json, show_table

audit = typer.Typer(no_args_is_help=True, help="The record: look, verify, export.")

Principal = Annotated[str | None, typer.Option(help="Calls of this principal.")]
Capability = Annotated[str | None, typer.Option(help="Calls on this exposed name.")]
OutcomeOption = Annotated[str | None, typer.Option("--outcome", help="ok, failed, refused, …")]
Since = Annotated[str | None, typer.Option(help="From this RFC 3339 time on.")]
Until = Annotated[str | None, typer.Option(help="Before this RFC 3339 time.")]
Text = Annotated[str | None, typer.Option(help="Entries that contain this text.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="How many, newest first.")]


@audit.command()
def tail(limit: Limit = 20, data: Data = None, json: Json = False) -> None:
    """Show the newest entries.

    Example: portico audit tail -n 50
    """
    _show(_entries({"limit": str(limit)}, data), json=json)


@audit.command()
def search(
    principal: Principal = None,
    capability: Capability = None,
    outcome: OutcomeOption = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    limit: Limit = 100,
    data: Data = None,
    json: Json = False,
) -> None:
    """Find entries by who, what, how it ended, when, and text.

    Example: portico audit search --principal ci-bot --outcome refused
    """
    query = {
        "principal": principal,
        "target": capability,
        "outcome": outcome,
        "since": since,
        "until": until,
        "text": text,
        "limit": str(limit),
    }
    _show(_entries({name: value for name, value in query.items() if value}, data), json=json)


def _entries(query: dict[str, str], data: Path | None) -> Any:
    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.get("/audit/entries", query)

    return run(work)


def _show(found: Any, *, json: bool) -> None:
    if json:
        show_json(found)
        return
    show_table(
        ("AT", "PRINCIPAL", "OPERATION", "TARGET", "OUTCOME", "MS", "CALL"),
        [
            (
                entry["at"],
                entry.get("principal") or "-",
                entry["operation"],
                entry.get("target") or "-",
                entry["outcome"] + (f" ({entry['reason']})" if entry.get("reason") else ""),
                f"{entry.get('duration_us', 0) / 1000:.1f}",
                entry["call"],
            )
            for entry in found["items"]
        ],
    )
