"""The upstream of the conformance kit: every tool, prompt and resource its scenarios name.

Tools and prompts do what the scenario of that name demands, nothing more. What asks the caller for
something is in ``everything_questions``, the tools that only answer in ``everything_tools``.
"""

import base64
import json
from typing import Any, Final

import mcp_types as types
from mcp.server.mcpserver import MCPServer, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore

from tests.peers.everything_questions import (
    Asking,
    add_asking_prompt,
    add_asking_tools,
    add_pushing_tools,
)
from tests.peers.everything_tools import (
    add_change_tools,
    add_content_tools,
    add_reporting_tools,
    image,
    schema_tool,
)
from tests.peers.offerings import LegacySessions, add_legacy_behaviour
from tests.peers.serving import main

HTTP: Final = "h11"
"""uvicorn's parser that strips the whitespace around header values, as the kit demands."""

RETRY_MS: Final = 100
"""When a client whose stream was closed is to come back."""


class RememberedEvents(EventStore):
    """Every event of every stream, so that a client that comes back gets what it missed."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        last = int(last_event_id) if last_event_id.isdecimal() else 0
        if not 0 < last <= len(self._events):
            return None
        stream_id, _ = self._events[last - 1]
        for number, (stream, message) in enumerate(self._events[last:], start=last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def build(*, bilingual: bool = False) -> MCPServer[Any]:
    """``bilingual``: what asks the caller for something does it as the caller's era does."""
    server: MCPServer[Any] = MCPServer(
        name="everything", version="1.0.0", tools=[schema_tool()], log_level="ERROR"
    )
    sessions = LegacySessions()
    add_content_tools(server)
    add_reporting_tools(server)
    asking = Asking(bilingual=bilingual)
    add_pushing_tools(server, asking)
    add_asking_tools(server, asking)
    add_asking_prompt(server, asking)
    add_change_tools(server, sessions)
    _add_resources(server)
    _add_prompts(server)
    _add_completion(server)
    add_legacy_behaviour(server, sessions)
    return server


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """Always the same text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """Always the same image."""
        return base64.b64decode(image().data)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        """Says which one was asked for."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """Can be subscribed to."""
        return "Watched resource content"


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """Takes nothing."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Repeats its arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803  # the scenario's name
        """Embeds the resource named."""
        contents = types.TextResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        return [
            UserMessage(types.EmbeddedResource(type="resource", resource=contents)),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """Shows an image."""
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]


def _add_completion(server: MCPServer[Any]) -> None:
    async def complete(ctx: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
        """What the argument may become: nothing but itself."""
        values = [params.argument.value]
        completion = types.Completion(values=values, total=1, has_more=False)
        return types.CompleteResult(completion=completion)

    wire = server._lowlevel_server
    wire.add_request_handler("completion/complete", types.CompleteRequestParams, complete)


def application(*, bilingual: bool = False, **options: Any) -> Any:
    return build(bilingual=bilingual).streamable_http_app(
        event_store=RememberedEvents(), retry_interval=RETRY_MS, **options
    )


if __name__ == "__main__":
    main(application, http=HTTP)
