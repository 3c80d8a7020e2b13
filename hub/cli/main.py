"""``portico``: the one console script."""

from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from hub.cli import capabilities, configuration, diagnosis, stdio, up, upstreams
from hub.cli.keys import key
from hub.cli.record import audit
from hub.cli.tenants import tenant
from hub.cli.usage import usage

app = typer.Typer(
    name="portico",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One MCP URL in front of all your tools.",
    epilog="Start with: portico up npx -y @modelcontextprotocol/server-everything",
)

app.command(context_settings=upstreams.PASS_WORDS_ON)(up.up)
app.command(context_settings=upstreams.PASS_WORDS_ON)(upstreams.add)
app.command()(upstreams.remove)
app.command()(upstreams.enable)
app.command()(upstreams.disable)
app.command()(upstreams.refresh)
app.command("test")(upstreams.try_out)
app.command()(upstreams.logs)
app.command("list")(capabilities.list_)
app.command()(capabilities.call)
app.command()(stdio.stdio)
app.command()(capabilities.connect)
app.command()(configuration.validate)
app.command()(configuration.plan)
app.command()(configuration.apply)
app.command()(configuration.export)
app.command()(capabilities.explain)
app.add_typer(audit, name="audit")
app.command()(usage)
app.add_typer(key, name="key")
app.add_typer(tenant, name="tenant")
app.command()(diagnosis.doctor)


@app.callback(invoke_without_command=True)
def portico(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """One MCP URL in front of all your tools."""
    if version:
        typer.echo(installed_version("portico"))
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()
