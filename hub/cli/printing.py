"""How commands answer: tables for people, JSON for programs, problems on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import typer

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
"""Drift, or refused by policy."""


def say(text: str = "") -> None:
    """One line for people."""
    typer.echo(text)


def note(text: str) -> None:
    """Progress and remarks: standard error, so that output can be piped."""
    typer.echo(text, err=True)


def show_json(value: Any) -> None:
    """A JSON value on one line, or indented when a person is looking."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(json.dumps(value, indent=indent, ensure_ascii=False))


def show_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns with a header line; nothing but the header when there are no rows."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def fail(message: str, *, code: int = EXIT_ERROR) -> NoReturn:
    """End the command with a message that names the fix."""
    typer.echo(f"portico: {message}", err=True)
    raise typer.Exit(code)
