"""Commands about upstreams: add, remove, enable, disable, refresh, test, logs."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hub.cli.administration import Administration, administration
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import EXIT_REFUSED, EXIT_USAGE, fail, note, say, show_json
from hub.cli.targets import FileTarget, UpstreamTarget, parse_target, text_of

Name = Annotated[str, typer.Argument(help="Name of the upstream.")]
Target = Annotated[
    list[str],
    typer.Argument(
        help="A URL, a command with its arguments, or a file (mcpServers, server.json)."
    ),
]

PASS_WORDS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""For commands that end in another command's words: its options are not ours."""


def add(
    target: Target,
    name: Annotated[
        str | None, typer.Option("--name", help="Name; else made from the target.")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Register upstreams: one by URL or command, or all of a client's file.

    Example: portico add https://orders.example/mcp
    """

    async def work() -> None:
        async with administration(data_of(data)) as admin:
            added = await add_target(admin, target, name)
        if json:
            show_json({"added": added})
        else:
            say(f"Added {', '.join(added)}.")

    run(work)


async def add_target(admin: Administration, words: list[str], name: str | None) -> list[str]:
    """Register what ``words`` mean; the names that were added."""
    target = parse_target(words)
    if isinstance(target, FileTarget):
        if not target.path.is_file():
            fail(f"There is no file '{target.path}'.", code=EXIT_USAGE)
        body = {"text": text_of(target.path), "path": str(target.path.absolute())}
        imported = await admin.post("/imports", body)
        for remark in imported.get("notes", ()):
            note(f"{remark['name']}: {remark['message']}")
        return [upstream["name"] for upstream in imported["upstreams"]]
    chosen = name or target.name
    if name is None and await _is_there(admin, target):
        return [chosen]
    await admin.put(f"/upstreams/{quote(chosen, safe='')}", target.spec)
    return [chosen]


async def _is_there(admin: Administration, target: UpstreamTarget) -> bool:
    """Whether it is registered already. Ends the command when another one has its name."""
    listed = (await admin.get("/upstreams"))["upstreams"]
    found = next((item for item in listed if item["name"] == target.name), None)
    if found is None:
        return False
    if any(found.get(key) != value for key, value in target.spec.items()):
        fail(
            f"There is another upstream '{target.name}' already; choose a name with --name.",
            code=EXIT_REFUSED,
        )
    return True


def remove(name: Name, data: Data = None, json: Json = False) -> None:
    """Forget an upstream and everything that was listed from it.

    Example: portico remove orders
    """

    async def work() -> None:
        async with administration(data_of(data)) as admin:
            await admin.delete(f"/upstreams/{quote(name, safe='')}")

    run(work)
    _show({"removed": name}, f"Removed {name}.", json=json)


def enable(name: Name, data: Data = None, json: Json = False) -> None:
    """Let a disabled upstream serve again.

    Example: portico enable orders
    """
    _show(_ask(name, "enable", data), f"Enabled {name}.", json=json)


def disable(name: Name, data: Data = None, json: Json = False) -> None:
    """Stop using an upstream; its definition is kept.

    Example: portico disable orders
    """
    _show(_ask(name, "disable", data), f"Disabled {name}.", json=json)


def refresh(name: Name, data: Data = None, json: Json = False) -> None:
    """List an upstream anew now; exit 1 when it does not work.

    Example: portico refresh orders
    """
    _show_listed(_ask(name, "refresh", data, upstreams=True), json=json)


def try_out(name: Name, data: Data = None, json: Json = False) -> None:
    """Connect to an upstream, list it, and say what was found; exit 1 when it does not work.

    Example: portico test orders
    """
    _show_listed(_ask(name, "test", data, upstreams=True), json=json)


def logs(name: Name, data: Data = None, json: Json = False) -> None:
    """What a stdio upstream wrote to its standard error lately.

    Example: portico logs files
    """

    async def work() -> None:
        async with administration(data_of(data)) as admin:
            found = await admin.get(f"/upstreams/{quote(name, safe='')}/logs")
        if json:
            show_json(found)
        else:
            say("\n".join(found["lines"]))

    run(work)


def _ask(name: str, verb: str, data: Path | None, *, upstreams: bool = False) -> Any:
    async def work() -> Any:
        async with administration(data_of(data), upstreams=upstreams) as admin:
            return await admin.post(f"/upstreams/{quote(name, safe='')}/{verb}")

    return run(work)


def _show(answer: Any, sentence: str, *, json: bool) -> None:
    if json:
        show_json(answer)
    else:
        say(sentence)


def _show_listed(status: Any, *, json: bool) -> None:
    """How an upstream is after it was to be listed. Ends the command where that did not work."""
    works = status["state"] == "live"
    if json or works:
        _show(status, describe(status), json=json)
    if not works:
        reason = status.get("error") or f"it is {status['state']}"
        fail(f"The upstream '{status['upstream']}' could not be listed: {reason}")


def describe(status: Any) -> str:
    """One line about an upstream's status, and one for each definition that is held."""
    line = f"{status['upstream']}: {status['state']}"
    if status.get("since"):
        line += f" since {status['since']}"
    if status.get("error"):
        line += f" ({status['error']})"
    return "\n  ".join((line, *status.get("held", ())))
