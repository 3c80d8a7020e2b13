"""Commands about what can be used: list, call, explain, connect."""

from typing import Annotated, Any

import msgspec
import typer

from hub.cli.administration import administration
from hub.cli.connecting import CLIENTS, snippet
from hub.cli.mcp_client import call_tool
from hub.cli.options import Data, Json, Tenant, data_of, run
from hub.cli.printing import EXIT_ERROR, EXIT_USAGE, fail, note, say, show_json, show_table
from hub.cli.upstreams import describe

VirtualServer = Annotated[
    str, typer.Option("--virtual-server", "-v", help="Which endpoint; 'default' is /mcp.")
]
Key = Annotated[
    str | None,
    typer.Option(help="API key to call with; else the administrator's.", envvar="PORTICO_KEY"),
]


def list_(
    virtual_server: VirtualServer = "default",
    tokens: Annotated[
        bool, typer.Option(help="Estimate what each definition costs a model.")
    ] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """List what an endpoint exposes, and how its upstreams are doing.

    Example: portico list --virtual-server dev --tokens
    """

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.get("/capabilities", {"virtual_server": virtual_server})

    found = run(work)
    if json:
        show_json(found)
        return
    header = ("NAME", "KIND", "UPSTREAM", "ORIGINAL") + (("TOKENS",) if tokens else ())
    rows = [
        (item["name"], item["kind"], item["upstream"], item["original"])
        + ((f"~{item['tokens']}",) if tokens else ())
        for item in found["items"]
    ]
    show_table(header, rows)
    if tokens:
        say(f"Together about {sum(item['tokens'] for item in found['items'])} tokens.")
    for status in found["upstreams"]:
        note(describe(status))


def call(
    tool: Annotated[str, typer.Argument(help="Exposed name of the tool.")],
    arguments: Annotated[str, typer.Argument(help="Its arguments, a JSON object.")] = "{}",
    virtual_server: VirtualServer = "default",
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Call a tool as an MCP client would; exit 1 when it fails.

    Example: portico call find_order '{"id": "A-17"}' --virtual-server dev
    """
    try:
        parsed = msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        fail(f"The arguments are not a JSON object: {error}", code=EXIT_USAGE)

    async def work() -> Any:
        async with administration(data_of(data), upstreams=True) as admin:
            return await call_tool(admin.client, virtual_server, tool, parsed, key)

    answer = run(work)
    if json:
        show_json(answer)
    elif "error" in answer:
        fail(answer["error"]["message"])
    else:
        for block in answer["result"].get("content", []):
            say(
                block["text"]
                if block.get("type") == "text"
                else msgspec.json.encode(block).decode()
            )
    if "error" in answer or answer["result"].get("isError"):
        raise typer.Exit(EXIT_ERROR)


def explain(
    principal: Annotated[str, typer.Argument(help="Name of the principal, or 'anonymous'.")],
    capability: Annotated[
        str, typer.Argument(help="Exposed name, or an operation such as 'upstreams.put'.")
    ],
    virtual_server: VirtualServer = "default",
    kind: Annotated[
        str | None, typer.Option(help="tool, resource, template or prompt; else what has the name.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Identifier of the key that is presented.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option("--from", help="Address that it is presented from.")
    ] = None,
    tenant: Tenant = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Say why a principal may, or may not, use a capability: the grant, rule and layer.

    Example: portico explain ci-bot find_order --virtual-server dev --key key-3f9a
    """
    query = {"principal": principal, "capability": capability, "virtual_server": virtual_server}
    given = {"kind": kind, "key": key, "peer": peer}
    query.update({name: value for name, value in given.items() if value is not None})

    async def work() -> Any:
        async with administration(data_of(data), tenant=tenant) as admin:
            return await admin.get("/explain", query)

    answer = run(work)
    if json:
        show_json(answer)
        return
    say(f"{'allowed' if answer['allowed'] else 'denied'} by {answer['layer']}: {answer['reason']}")
    if answer["allowed"] and answer["conditions"]:
        say(f"The key is good {', '.join(answer['conditions'])}.")
    if answer["rules"]:
        say(f"Rules that hold for it: {', '.join(answer['rules'])}.")
    if not answer["allowed"] and answer["other_grants"]:
        say(f"Grants of others that name it: {', '.join(answer['other_grants'])}.")


def connect(
    client: Annotated[str, typer.Argument(help=", ".join(CLIENTS))],
    virtual_server: VirtualServer = "default",
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show how a client is connected: a command to run, or what belongs into its file.

    Example: portico connect claude-code --virtual-server dev
    """
    if client not in CLIENTS:
        fail(f"Unknown client '{client}'; known are {', '.join(CLIENTS)}.", code=EXIT_USAGE)

    async def work() -> Any:
        async with administration(data_of(data)) as admin:
            return await admin.get("/status")

    status = run(work)
    if not status["url"]:
        fail("No hub is running here, so there is no URL yet: portico up")
    path = "/mcp" if virtual_server == "default" else f"/v/{virtual_server}/mcp"
    shown = snippet(client, status["url"] + path, key=key)
    if json:
        show_json(msgspec.to_builtins(shown))
        return
    if shown.command:
        say(shown.command)
    if shown.text:
        note(f"{'Or in' if shown.command else 'In'} {shown.file}:")
        say(shown.text)
