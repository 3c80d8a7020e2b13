"""``portico stdio``: MCP over standard streams, for clients that start their servers themselves."""

import importlib
from typing import Annotated

import httpx2
import typer

from hub.cli.administration import serving
from hub.cli.options import Data, data_of, run


def stdio(
    virtual_server: Annotated[
        str, typer.Option("--virtual-server", "-v", help="Which endpoint; 'default' is /mcp.")
    ] = "default",
    key: Annotated[
        str | None, typer.Option(help="API key to present.", envvar="PORTICO_KEY")
    ] = None,
    data: Data = None,
) -> None:
    """Serve MCP on standard input and output: a bridge to the running hub, else a hub in process.

    Example: portico stdio --virtual-server dev
    """
    directory = data_of(data)
    holder = run(serving, directory)
    if holder is not None:
        path = "/mcp" if virtual_server == "default" else f"/v/{virtual_server}/mcp"
        run(_relay, holder.url + path, key)
    else:
        # The application is heavy; a bridge does without it.
        process = importlib.import_module("hub.process")
        run(process.run_on_streams, process.Options(data=directory), virtual_server, key)


async def _relay(url: str, key: str | None) -> None:
    relay = importlib.import_module("hub.surfaces.mcp.stdio_relay")
    streams = importlib.import_module("hub.surfaces.mcp.standard_streams")
    # Answers may take as long as they take; only connecting is timed.
    timeout = httpx2.Timeout(None, connect=10.0)
    async with (
        httpx2.AsyncClient(timeout=timeout, trust_env=False) as client,
        streams.standard_streams() as (source, sink),
    ):
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        failures = (httpx2.TransportError,)
        hub = relay.Hub(client=client, url=url, headers=headers, failures=failures)
        await relay.StdioRelay(hub).run(source, sink)
