"""Commands about tenants: ``portico tenant list | add | remove | enable | disable``."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hub.cli.administration import administration
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import say, show_json, show_table

tenant = typer.Typer(
    no_args_is_help=True,
    help="Tenants: list, add, remove, enable, disable.",
    epilog="Start with: portico tenant add acme --title 'Acme Ltd'",
)
Name = Annotated[str, typer.Argument(help="Name of the tenant.")]


@tenant.command("list")
def list_(data: Data = None, json: Json = False) -> None:
    """List tenants.

    Example: portico tenant list
    """

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.get("/tenants")

    found = run(work)
    if json:
        show_json(found)
        return
    rows = [
        (
            item["name"],
            "enabled" if item["enabled"] else "disabled",
            item["title"] or "-",
            ", ".join(item["files"]) or "-",
        )
        for item in found["tenants"]
    ]
    show_table(("NAME", "STATE", "TITLE", "FILES"), rows)


@tenant.command()
def add(
    name: Name,
    title: Annotated[str | None, typer.Option(help="Title for people.")] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Add a tenant, or give it another title; make its keys with: portico key create --tenant NAME.

    Example: portico tenant add acme --title 'Acme Ltd'
    """

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            known = {item["name"]: item for item in (await admin.get("/tenants"))["tenants"]}
            enabled = known[name]["enabled"] if name in known else True
            return await admin.put(_path(name), {"title": title, "enabled": enabled})

    _show(run(work), f"Added {name}.", json=json)


@tenant.command()
def remove(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also where configuration files describe it.")
    ] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Revoke all keys of a tenant and remove all its objects; the record stays.

    Example: portico tenant remove acme
    """

    async def work() -> None:
        async with administration(data_of(data)) as admin:
            await admin.delete(_path(name) + ("?force=true" if force else ""))

    run(work)
    _show({"removed": name}, f"Removed {name}.", json=json)


@tenant.command()
def enable(name: Name, data: Data = None, json: Json = False) -> None:
    """Let a disabled tenant's callers in again.

    Example: portico tenant enable acme
    """
    _show(_set(name, data, enabled=True), f"Enabled {name}.", json=json)


@tenant.command()
def disable(name: Name, data: Data = None, json: Json = False) -> None:
    """Admit nobody of a tenant, and end what its callers have open; everything is kept.

    Example: portico tenant disable acme
    """
    _show(_set(name, data, enabled=False), f"Disabled {name}.", json=json)


def _set(name: str, data: Path | None, *, enabled: bool) -> Any:
    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            known = await admin.get(_path(name))
            return await admin.put(_path(name), {"title": known["title"], "enabled": enabled})

    return run(work)


def _path(name: str) -> str:
    return f"/tenants/{quote(name, safe='')}"


def _show(answer: Any, sentence: str, *, json: bool) -> None:
    if json:
        show_json(answer)
    else:
        say(sentence)
