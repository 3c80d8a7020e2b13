"""Tools of the conformance kit's upstream that answer without asking the caller for anything."""

import base64
import io
import struct
import wave
import zlib
from typing import Annotated, Any, Final

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from pydantic import Field

from tests.peers.offerings import LegacySessions, send_log

STEP_S: Final = 0.05
"""Between two messages of one call: they are to arrive one by one."""

AWAY_S: Final = 0.2
"""How long a call runs on after its stream was closed; longer than clients wait to come back."""

SCHEMA_2020_12: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""Keywords that lists have to keep, as the kit spells them."""


def image() -> types.ImageContent:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    data = base64.b64encode(png + chunk(b"IEND", b"")).decode()
    return types.ImageContent(type="image", data=data, mime_type="image/png")


def audio() -> types.AudioContent:
    """A few samples of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(1)
        wav.setframerate(8000)
        wav.writeframes(b"\x80" * 8)
    data = base64.b64encode(file.getvalue()).decode()
    return types.AudioContent(type="audio", data=data, mime_type="audio/wav")


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.EmbeddedResource(type="resource", resource=contents)


def schema_tool() -> Tool:
    """A tool whose schema no function signature could give."""

    def json_schema_2020_12_tool() -> str:
        """Has a schema of many keywords."""
        return "kept"

    return Tool.from_function(json_schema_2020_12_tool).model_copy(
        update={"parameters": SCHEMA_2020_12}
    )


def add_content_tools(server: MCPServer[Any]) -> None:
    """Every kind of content, and failing."""

    @server.tool()
    def test_simple_text() -> str:
        """Text."""
        return "This is a simple text response for testing."

    @server.tool()
    def test_image_content() -> list[types.ImageContent]:
        """An image."""
        return [image()]

    @server.tool()
    def test_audio_content() -> list[types.AudioContent]:
        """A sound."""
        return [audio()]

    @server.tool()
    def test_embedded_resource() -> list[types.EmbeddedResource]:
        """A resource within the result."""
        text = "This is an embedded resource content."
        return [embedded("test://embedded-resource", "text/plain", text)]

    @server.tool()
    def test_multiple_content_types() -> list[types.ContentBlock]:
        """Text, an image and a resource."""
        resource = embedded(
            "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
        )
        text = types.TextContent(type="text", text="Multiple content types test:")
        return [text, image(), resource]

    @server.tool()
    def test_error_handling() -> str:
        """Run and fail."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    def test_x_mcp_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "nowhere",
    ) -> str:
        """Takes a parameter that modern HTTP mirrors in a header."""
        return f"region={region}"

    @server.tool()
    def test_missing_capability(ctx: Context[Any, Any]) -> str:
        """Works for callers that have a model."""
        declared = ctx.client_capabilities
        if declared is None or declared.sampling is None:
            raise MCPError(
                code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="This tool needs the client's capability 'sampling'.",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return "The client has a model."


def add_reporting_tools(server: MCPServer[Any]) -> None:
    """Log messages and progress while a call runs, and a stream closed under it."""

    @server.tool()
    async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
        """Log three times."""
        for message in ("started", "processing data", "completed"):
            await send_log(ctx, f"Tool execution {message}")
            await anyio.sleep(STEP_S)
        return "Logged three times."

    @server.tool()
    async def test_logging_tool(ctx: Context[Any, Any]) -> str:
        """Log once, for whoever wants to know."""
        await send_log(ctx, "Nobody may have asked for this")
        return "Logged."

    @server.tool()
    async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
        """Report progress three times."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
            await anyio.sleep(STEP_S)
        return "Reported three times."

    @server.tool()
    async def test_reconnection(ctx: Context[Any, Any]) -> str:
        """Close the stream of the call, then answer whoever comes back for it."""
        await send_log(ctx, "Before the stream is closed")
        await ctx.close_sse_stream()
        await anyio.sleep(AWAY_S)
        await send_log(ctx, "After the stream was closed")
        return "Reconnection test completed"


def add_change_tools(server: MCPServer[Any], sessions: LegacySessions) -> None:
    """Lists that change on demand: what is there goes, and comes back the next time."""
    offered: set[str] = set()

    @server.tool()
    async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
        """Offer or withdraw a tool, and announce it."""
        name = "test_dynamic_tool"
        if name in offered:
            server.remove_tool(name)
        else:
            server.add_tool(lambda: "dynamic", name=name, description="Comes and goes.")
        offered.symmetric_difference_update({name})
        await ctx.notify_tools_changed()
        await sessions.announce("notifications/tools/list_changed")
        return "The tools changed."

    @server.tool()
    async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
        """Offer or withdraw a prompt, and announce it."""
        name = "test_dynamic_prompt"
        if name in offered:
            server.remove_prompt(name)
        else:
            prompt = Prompt.from_function(lambda: "dynamic", name=name, description="Goes again.")
            server.add_prompt(prompt)
        offered.symmetric_difference_update({name})
        await ctx.notify_prompts_changed()
        await sessions.announce("notifications/prompts/list_changed")
        return "The prompts changed."
