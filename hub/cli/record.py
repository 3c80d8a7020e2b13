"""Commands about the record: ``portico audit tail | search | verify | export``."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from hub.audit.export import export as export_record
from hub.audit.reading import Filters
from hub.audit.signatures import Checkpoint, last_checkpoint_in, read_public_keys
from hub.audit.verify import verify as verify_record
from hub.cli.administration import administration
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import EXIT_REFUSED, EXIT_USAGE, fail, note, say, show_json, show_table
from hub.errors import PorticoError
from hub.vault.key_ring import FILE_NAME as RING_FILE
from hub.vault.key_ring import load_or_create

audit = typer.Typer(
    no_args_is_help=True,
    help="The record: look, verify, export.",
    epilog="Start with: portico audit tail",
)

Principal = Annotated[str | None, typer.Option(help="Calls of this principal.")]
Group = Annotated[str | None, typer.Option(help="Calls of principals in this group.")]
Capability = Annotated[str | None, typer.Option(help="Calls on this exposed name.")]
VirtualServer = Annotated[str | None, typer.Option(help="Calls on this virtual server.")]
OutcomeOption = Annotated[str | None, typer.Option("--outcome", help="ok, failed, refused, …")]
Rule = Annotated[
    str | None,
    typer.Option(help="Calls on which this guardrail, limit or budget acted; NAME or NAME=ACTION."),
]
Since = Annotated[str | None, typer.Option(help="From this RFC 3339 time on.")]
Until = Annotated[str | None, typer.Option(help="Before this RFC 3339 time.")]
Text = Annotated[str | None, typer.Option(help="Entries that contain this text.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="How many, newest first.")]
Cursor = Annotated[
    str | None, typer.Option(help="Go on behind an answer, with the same filters as there.")
]


@audit.command()
def tail(
    principal: Principal = None,
    group: Group = None,
    capability: Capability = None,
    virtual_server: VirtualServer = None,
    outcome: OutcomeOption = None,
    rule: Rule = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the newest entries, of some calls or of all.

    Example: portico audit tail -n 50 --rule no-secrets
    """
    _show(_entries(locals(), data), json=json)


@audit.command()
def search(
    principal: Principal = None,
    group: Group = None,
    capability: Capability = None,
    virtual_server: VirtualServer = None,
    outcome: OutcomeOption = None,
    rule: Rule = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Find entries by who, what, which rule acted, how it ended, when, and text.

    Example: portico audit search --principal ci-bot --outcome refused
    """
    _show(_entries(locals(), data), json=json)


def _entries(options: Mapping[str, Any], data: Path | None) -> Any:
    """What the options of a command ask for; those that only the command line has are no part of it."""
    query = {
        name: str(value)
        for name, value in options.items()
        if value and name not in ("data", "json")
    }

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.get("/audit/entries", query)

    return run(work)


def _show(found: Any, *, json: bool) -> None:
    if json:
        show_json(found)
        return
    show_table(
        ("AT", "PRINCIPAL", "OPERATION", "TARGET", "OUTCOME", "RULES", "MS", "CALL"),
        [
            (
                entry["at"],
                entry.get("principal") or "-",
                entry["operation"],
                entry.get("target") or "-",
                entry["outcome"] + (f" ({entry['reason']})" if entry.get("reason") else ""),
                " ".join(entry.get("rules", ())) or "-",
                f"{entry.get('duration_us', 0) / 1000:.1f}",
                entry["call"],
            )
            for entry in found["items"]
        ],
    )
    if found["cursor"]:
        note(f"Older ones follow with --cursor {found['cursor']}")


@audit.command()
def verify(
    against: Annotated[
        Path | None,
        typer.Option(help="A checkpoint kept elsewhere: finds a tail removed since.", exists=True),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="PEM file; else the keys of this data directory.", exists=True),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check the whole record offline; exit 3 when anything was altered, removed or reordered.

    Example: portico audit verify --against checkpoint.json
    """
    directory = data_of(data)
    record = _record_in(directory)
    keys = _public_keys(directory, public_key)
    checkpoint = _checkpoint_in(against) if against is not None else None
    report = verify_record(record, public_keys=keys, against=checkpoint)
    if json:
        show_json({"intact": report.intact, **to_builtins(report)})
    else:
        for finding in report.findings:
            say(f"{finding.file}:{finding.line}: {finding.kind}: {finding.detail}")
        removed = sum(writer.retired_segments for writer in report.writers)
        if removed:
            lines = sum(writer.retired_lines for writer in report.writers)
            say(
                f"Retention removed {removed} segments of {lines} lines, sealed before "
                f"{report.retained_since}; it signed for them, and their seals are kept."
            )
        say(
            f"{'Intact' if report.intact else 'NOT INTACT'}: {len(report.writers)} chains, "
            f"{report.checkpoints} checkpoints, {report.uncovered_lines} lines since the last one."
        )
    if not report.intact:
        raise typer.Exit(EXIT_REFUSED)


@audit.command()
def export(
    principal: Principal = None,
    capability: Capability = None,
    since: Since = None,
    until: Until = None,
    data: Data = None,
) -> None:
    """Print entries with proofs, one JSON line each, for whoever verifies them elsewhere.

    Example: portico audit export --since 2026-11-01T00:00:00Z > evidence.jsonl
    """
    filters = Filters(
        principal=principal or "",
        capability=capability or "",
        since=_moment(since),
        until=_moment(until),
    )
    for line in export_record(_record_in(data_of(data)), filters):
        sys.stdout.buffer.write(line)


def _record_in(directory: Path) -> Path:
    """Where the record is kept. Where there is none, nothing was looked at, and that is said."""
    record = directory / "record"
    if not record.is_dir():
        fail(f"There is no record in {directory}; name its data directory with --data.")
    return record


def _public_keys(directory: Path, pem: Path | None) -> tuple[bytes, ...]:
    if pem is None:
        if not (directory / RING_FILE).exists():
            fail(f"{directory} has no {RING_FILE}; name the keys that signed with --public-key.")
        try:
            return load_or_create(directory, datetime.now(UTC)).public_keys()
        except PorticoError as error:
            fail(str(error))
    try:
        return read_public_keys(pem.read_bytes())
    except ValueError as error:
        fail(f"{pem} is no file of public keys: {error}.", code=EXIT_USAGE)


def _checkpoint_in(file: Path) -> Checkpoint:
    found = last_checkpoint_in(file.read_bytes().rstrip(b"\n") + b"\n")
    if found is None:
        fail(f"{file} does not end with a checkpoint.", code=EXIT_USAGE)
    return found


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
    if moment is None or moment.tzinfo is None:
        fail(f"'{text}' is no time with a zone: 2026-11-21T09:00:00Z.", code=EXIT_USAGE)
    return moment
