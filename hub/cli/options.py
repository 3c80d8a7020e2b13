"""Options that many commands share."""

import os
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import anyio
import typer

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data directory.",
        envvar="PORTICO_DATA",
        show_default="~/.local/share/portico",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


def data_of(data: Path | None) -> Path:
    """The data directory in force: as given, else below the user's own data (XDG)."""
    if data is not None:
        return data.expanduser().absolute()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "portico"


P = ParamSpec("P")
R = TypeVar("R")


def run(work: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an async command to its end. What ends it is raised as it is, not in groups."""
    try:
        return anyio.run(partial(work, *args, **kwargs), backend_options={"use_uvloop": True})
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    """The first exception in nested groups; task groups wrap what is raised inside of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
