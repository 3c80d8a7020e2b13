"""Commands about the desired state: validate, plan, apply, export."""

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.administration import administration
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import EXIT_ERROR, EXIT_REFUSED, note, say, show_json
from hub.cli.targets import text_of

File = Annotated[
    Path, typer.Argument(help="The configuration file.", exists=True, dir_okay=False, readable=True)
]

Adopt = Annotated[
    bool, typer.Option("--adopt", help="Let the file take over objects of the API it describes.")
]


def validate(file: File = Path("portico.yaml"), data: Data = None, json: Json = False) -> None:
    """Check a configuration file; exit 1 when it cannot be used.

    Example: portico validate portico.yaml
    """
    report = _ask("validate", file, data)
    if json:
        show_json(report)
    else:
        for problem in report["problems"]:
            note(_placed(problem))
        for warning in report["warnings"]:
            note(f"warning: {_placed(warning)}")
        say(f"{file} {'is valid' if report['valid'] else 'cannot be used'}.")
    if not report["valid"]:
        raise typer.Exit(EXIT_ERROR)


def plan(
    file: File = Path("portico.yaml"),
    adopt: Adopt = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what applying a file would change, and who would gain or lose what; exit 3 on changes.

    Example: portico plan portico.yaml
    """
    report = _ask("plan", file, data, adopt=adopt)
    _show_plan(report, json=json)
    if not report["is_empty"] or report["conflicts"]:
        raise typer.Exit(EXIT_REFUSED)


def apply(
    file: File = Path("portico.yaml"),
    adopt: Adopt = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a file's state the desired state, all of it or nothing.

    Example: portico apply portico.yaml
    """
    _show_plan(_ask("apply", file, data, adopt=adopt), json=json)


def export(data: Data = None, json: Json = False) -> None:
    """Print the desired state as a configuration file.

    Example: portico export > portico.yaml
    """

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.post("/configuration/export", {"source": "all"})

    exported = run(work)
    if json:
        show_json(exported)
    else:
        say(exported["text"].rstrip("\n"))


def _ask(verb: str, file: Path, data: Path | None, **options: bool) -> Any:
    body = {"text": text_of(file), "path": str(file.absolute()), **options}

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.post(f"/configuration/{verb}", body)

    return run(work)


def _show_plan(report: Any, *, json: bool) -> None:
    if json:
        show_json(report)
        return
    for warning in report["warnings"]:
        note(f"warning: {warning}")
    for conflict in report["conflicts"]:
        note(f"conflict: {conflict} is owned by the API; --adopt lets the file take it over")
    for change in report["changes"]:
        drifted = " (drifted)" if change["drifted"] else ""
        say(f"{_SIGNS[change['action']]} {change['noun']} {change['name']}{drifted}")
        for field in change["fields"]:
            say(f"    {field['path']}: {_shown(field['before'])} -> {_shown(field['after'])}")
    for access in report["access"] or ():
        for reach in access["gained"]:
            say(f"+ {access['principal']} may use {reach['virtual_server']}/{reach['name']}")
        for reach in access["lost"]:
            say(
                f"- {access['principal']} may no longer use {reach['virtual_server']}/{reach['name']}"
            )
    if report["is_empty"]:
        say("Nothing differs.")


_SIGNS = {"add": "+", "change": "~", "remove": "-", "adopt": "="}


def _placed(problem: Any) -> str:
    path = f"{problem['path']}: " if problem["path"] else ""
    return f"{problem['file']}:{problem['line']}:{problem['column']}: {path}{problem['message']}"


def _shown(value: Any) -> str:
    return "-" if value is None else dumps(value, ensure_ascii=False)
