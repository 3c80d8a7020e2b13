"""``portico up``: start the hub, register what was named, and say how to connect."""

import importlib
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.connecting import snippet
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import EXIT_USAGE, fail, say, show_json
from hub.cli.targets import FileTarget, parse_target, text_of
from hub.telemetry.logs import LogLevel

_FIRST_TOOLS = 8


def up(
    target: Annotated[
        list[str] | None,
        typer.Argument(help="Also register this: a URL, a command, or a client's mcpServers file."),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="Configuration file: applied now, and whenever it changes. Several: each of "
            "another tenant, the settings of the process in the first.",
            exists=True,
        ),
    ] = None,
    data: Data = None,
    bind: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="The least important messages; else the file's.")
    ] = None,
    json: Json = False,
) -> None:
    """Start Portico and serve until Ctrl-C.

    Example: portico up --port 8080 npx -y @modelcontextprotocol/server-everything
    """
    if workers > 1:
        fail(
            "Several workers share their state in PostgreSQL and Redis, and Redis is not supported "
            "yet: start one worker.",
            code=EXIT_USAGE,
        )
    # The application is heavy; commands that only ask a running hub do without it.
    process = importlib.import_module("hub.process")
    options = process.Options(
        data=data_of(data),
        config=tuple(dict.fromkeys(file.absolute() for file in config or ())),
        bind=bind,
        port=port,
        log_level=log_level,
        target=_read(target) if target else None,
    )
    run(process.run_until_stopped, options, partial(_tell, json=json))


def _read(words: list[str]) -> Any:
    """What to register, a file already read: relative paths are the caller's."""
    target = parse_target(words)
    if isinstance(target, FileTarget):
        if not target.path.is_file():
            fail(f"There is no file '{target.path}'.", code=EXIT_USAGE)
        return {"text": text_of(target.path), "path": str(target.path.absolute())}
    return {"name": target.name, "spec": target.spec}


def _tell(started: Any, *, json: bool) -> None:
    """Say where Portico is; ``started`` is the application's ``Started``."""
    if json:
        show_json({
            "url": started.url,
            "data": str(started.data),
            "pid": os.getpid(),
            "tools": started.tools,
        })
        return
    say(f"Portico serves {started.url}")
    for name in started.tools[:_FIRST_TOOLS]:
        say(f"  {name}")
    if len(started.tools) > _FIRST_TOOLS:
        say(f"  … and {len(started.tools) - _FIRST_TOOLS} more: portico list")
    say()
    say("Connect Claude Code:")
    say(f"  {snippet('claude-code', started.url).command}")
    say("Connect Goose (from its documentation, not tried here):")
    say(f"  {snippet('goose', started.url).command}")
    say("Other clients: portico connect cursor | vscode | codex | gemini")
    if not started.anonymous:
        say("A key is needed: portico key create --principal NAME")
