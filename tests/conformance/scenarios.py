"""What a client does against Portico in each client scenario of the conformance kit."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import mcp_types as types
from mcp import Client
from mcp.client import ClientRequestContext

from tests.peers.clients import Era, connected, tool_names

Context = Mapping[str, Any]
"""What the kit tells the client beside the address: calls to make, for instance."""

Step = Callable[[Client, Context], Awaitable[None]]

SAMPLES: Final[Mapping[str, Any]] = {"string": "x", "integer": 1, "number": 1, "boolean": True}
"""An argument of each primitive type."""


async def accept(
    context: ClientRequestContext, params: types.ElicitRequestParams
) -> types.ElicitResult:
    """Fill in a form: the default of every field, and yes where there is none (SEP-1034)."""
    content: dict[str, Any] = {}
    if isinstance(params, types.ElicitRequestFormParams):
        fields = params.requested_schema.get("properties", {})
        content = {
            name: field.get("default", SAMPLES.get(field.get("type", "")))
            for name, field in fields.items()
        }
    return types.ElicitResult(action="accept", content=content)


async def complete(
    context: ClientRequestContext, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    text = types.TextContent(type="text", text="a completion")
    return types.CreateMessageResult(role="assistant", content=text, model="none")


async def roots(context: ClientRequestContext) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[])


async def list_only(client: Client, context: Context) -> None:
    await tool_names(client)


async def call_named(client: Client, context: Context) -> None:
    """Call what the kit asks for, with the arguments it gives; leave out what is not listed."""
    listed = await tool_names(client)
    for call in context["toolCalls"]:
        if call["name"] in listed:
            await client.call_tool(call["name"], call["arguments"])


async def call_every_tool(client: Client, context: Context) -> None:
    """Call whatever is listed, with something for every argument."""
    listed = await client.list_tools()
    for tool in listed.tools:
        fields = tool.input_schema.get("properties", {})
        arguments = {name: SAMPLES.get(field.get("type")) for name, field in fields.items()}
        await client.call_tool(tool.name, arguments)


async def use_everything(client: Client, context: Context) -> None:
    """List every kind of thing, and use one of each."""
    await call_every_tool(client, context)
    for resource in (await client.list_resources()).resources:
        await client.read_resource(str(resource.uri))
    for prompt in (await client.list_prompts()).prompts:
        await client.get_prompt(prompt.name)


async def call_in_turn(client: Client, context: Context) -> None:
    """Call what asks back, with something unrelated in between."""
    await tool_names(client)
    await client.call_tool("test_mrtr_echo_state", {})
    await client.call_tool("test_mrtr_unrelated", {})
    await client.call_tool("test_mrtr_no_state", {})
    await client.call_tool("test_mrtr_no_result_type", {})


async def echo_schema(client: Client, context: Context) -> None:
    """Hand a tool's schema back as it was listed."""
    listed = await client.list_tools()
    schema = next(
        tool.input_schema for tool in listed.tools if tool.name == "json_schema_2020_12_tool"
    )
    await client.call_tool("json_schema_echo", {"schema": schema})


STEPS: Final[Mapping[str, Step]] = {
    "initialize": list_only,
    "tools_call": call_every_tool,
    "elicitation-sep1034-client-defaults": call_every_tool,
    "sse-retry": call_every_tool,
    "request-metadata": list_only,
    "http-standard-headers": use_everything,
    "http-custom-headers": call_named,
    "http-invalid-tool-headers": call_every_tool,
    "sep-2322-client-request-state": call_in_turn,
    "json-schema-ref-no-deref": list_only,
    "json-schema-2020-12-preservation": echo_schema,
}
"""Scenario -> what is done."""


async def act(url: str, era: Era, scenario: str, context: Context) -> None:
    """Do what a scenario wants of a client, at ``url``. Raises MCPError where it goes wrong."""
    async with connected(
        url,
        era,
        elicitation_callback=accept,
        sampling_callback=complete,
        list_roots_callback=roots,
    ) as client:
        await STEPS[scenario](client, context)
