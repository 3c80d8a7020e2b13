"""Commands about API keys: ``portico key create | list | revoke | rotate``."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from hub.cli.administration import administration
from hub.cli.options import Data, Json, Tenant, data_of, run
from hub.cli.printing import note, say, show_json, show_table

key = typer.Typer(
    no_args_is_help=True,
    help="API keys: create, list, revoke, rotate.",
    epilog="Start with: portico key create --principal ci-bot",
)
Id = Annotated[str, typer.Argument(help="Identifier of the key, as listed.")]


@key.command()
def create(
    principal: Annotated[str, typer.Option(help="Who holds it; made when new.")],
    group: Annotated[str | None, typer.Option(help="Also put the principal in this group.")] = None,
    virtual_server: Annotated[
        list[str] | None, typer.Option(help="Limit the key to this virtual server.")
    ] = None,
    cidr: Annotated[
        list[str] | None, typer.Option(help="Limit the key to callers in this network.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires; else never.")] = None,
    tenant: Tenant = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a key and show it, this once.

    Example: portico key create --principal ci-bot --group engineers --cidr 10.0.0.0/8
    """
    body: dict[str, Any] = {"principal": principal}
    if group is not None:
        body["group"] = group
    if virtual_server:
        body["virtual_servers"] = virtual_server
    if cidr:
        body["cidrs"] = cidr
    if days is not None:
        body["ttl_s"] = days * 86_400
    _show_key(_post("/keys", body, tenant, data), json=json)


@key.command("list")
def list_(tenant: Tenant = None, data: Data = None, json: Json = False) -> None:
    """List keys; the keys themselves are not stored.

    Example: portico key list
    """

    async def work() -> Any:
        async with administration(data_of(data), tenant=tenant) as admin:
            return await admin.get("/keys")

    keys = run(work)
    if json:
        show_json(keys)
        return
    show_table(
        ("ID", "PRINCIPAL", "STATE", "CREATED", "EXPIRES", "LAST USED", "FROM", "LIMITED TO"),
        [
            (
                item["id"],
                item["principal"],
                item["state"],
                item["created_at"],
                item["expires_at"] or "-",
                item["used_at"] or "-",
                item["used_from"] or "-",
                ", ".join([*(item["virtual_servers"] or ()), *item["cidrs"]]) or "-",
            )
            for item in keys["keys"]
        ],
    )


@key.command()
def revoke(key_id: Id, tenant: Tenant = None, data: Data = None, json: Json = False) -> None:
    """Make a key void at once; open streams it opened are closed.

    Example: portico key revoke k_3f9a
    """

    async def work() -> None:
        async with administration(data_of(data), tenant=tenant) as admin:
            await admin.delete(f"/keys/{quote(key_id, safe='')}")

    run(work)
    if json:
        show_json({"revoked": key_id})
    else:
        say(f"Revoked {key_id}.")


@key.command()
def rotate(
    key_id: Id,
    overlap: Annotated[int, typer.Option(help="Seconds the old key goes on working.")] = 3_600,
    tenant: Tenant = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a new key in place of an old one, which works on for a while.

    Example: portico key rotate k_3f9a --overlap 3600
    """
    query = {"overlap_s": str(overlap)}
    path = f"/keys/{quote(key_id, safe='')}/rotate"
    _show_key(_post(path, None, tenant, data, query), json=json)


def _post(
    path: str, body: Any, tenant: str | None, data: Any, query: dict[str, str] | None = None
) -> Any:
    async def work() -> Any:
        async with administration(data_of(data), tenant=tenant) as admin:
            return await admin.post(path, body, query)

    return run(work)


def _show_key(made: Any, *, json: bool) -> None:
    if json:
        show_json(made)
        return
    say(made["key"])
    note("This key is not shown again. Send it as 'Authorization: Bearer ptk_…'.")
