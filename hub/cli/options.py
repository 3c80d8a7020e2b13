"""Options that many commands share."""

import os
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import anyio
import typer

from hub.cli.printing import fail
from hub.data_directory import default_path
from hub.errors import PorticoError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data directory.",
        envvar="PORTICO_DATA",
        show_default="~/.local/share/portico",
    ),
]
Tenant = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        help="Which tenant is meant; platform administrators may name any.",
        envvar="PORTICO_TENANT",
        show_default="the administrator's own",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


def data_of(data: Path | None) -> Path:
    """The data directory in force: as given, else below the user's own data (XDG)."""
    return default_path(os.environ) if data is None else data.expanduser().absolute()


P = ParamSpec("P")
R = TypeVar("R")


def run(work: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an async command to its end. What ends it is raised as it is, not in groups.

    What Portico cannot do ends the command with its sentence.
    """
    try:
        return anyio.run(partial(work, *args, **kwargs), backend_options={"use_uvloop": True})
    except PorticoError as error:
        fail(str(error))
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, PorticoError):
            fail(str(first))
        raise first from group


def _first(error: BaseException) -> BaseException:
    """The first exception in nested groups; task groups wrap what is raised inside of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
