"""What the peers on the official SDK offer: the same tools, resources and prompts in every era."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TypeVar
from weakref import WeakSet

import anyio
import mcp_types as types
from mcp.server.lowlevel import NotificationOptions
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field

Item = TypeVar("Item")

FIRST_TOOL_PAGE = 5
"""Tools on one page: the lists need several requests."""


class Answered(BaseModel):
    """What an elicitation of :func:`build` asks for."""

    colour: str


class Rendezvous:
    """Lets one call wait until another one has started or was cancelled."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], anyio.Event] = {}

    def event(self, what: str, name: str) -> anyio.Event:
        return self._events.setdefault((what, name), anyio.Event())


class LegacySessions:
    """Sessions seen so far: whom a change is announced to on the legacy wire."""

    def __init__(self) -> None:
        self._sessions: WeakSet[Any] = WeakSet()
        self.subscribed: dict[str, WeakSet[Any]] = {}

    def note(self, session: ServerSession) -> None:
        self._sessions.add(session._connection)

    def subscribe(self, session: ServerSession, uri: str) -> None:
        self.subscribed.setdefault(uri, WeakSet()).add(session._connection)

    def unsubscribe(self, session: ServerSession, uri: str) -> None:
        self.subscribed.setdefault(uri, WeakSet()).discard(session._connection)

    async def announce(self, method: str) -> None:
        for connection in list(self._sessions):
            await connection.notify(method, None)

    async def announce_update(self, uri: str) -> None:
        for connection in list(self.subscribed.get(uri, ())):
            await connection.notify("notifications/resources/updated", {"uri": uri})


async def send_log(
    ctx: Context[Any, Any], message: str, level: types.LoggingLevel = "info"
) -> None:
    """Log to the caller, without the SDK's deprecation warning, which fails tests."""
    send: Any = ServerSession.send_log_message
    bare = send.__wrapped__
    await bare(ctx.session, level, message, "peer", related_request_id=ctx.request_id)


def build(name: str = "everything") -> MCPServer[Any]:
    """A server with all of it; eras and transports are decided by whoever serves it."""
    server: MCPServer[Any] = MCPServer(
        name=name, version="1.2.3", instructions="Ask me anything.", log_level="ERROR"
    )
    sessions = LegacySessions()
    _add_plain_tools(server)
    _add_waiting_tools(server)
    _add_interactive_tools(server)
    _add_change_tools(server, sessions)
    _add_resources(server)
    _add_prompts(server)
    _add_wire_behaviour(server, sessions)
    return server


def _add_plain_tools(server: MCPServer[Any]) -> None:
    @server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
    def echo(text: str) -> str:
        """Say the same."""
        return text

    @server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def fail(reason: str = "as asked") -> str:
        """Run and fail."""
        raise ToolError(reason)

    @server.tool()
    def refuse(code: int = -32050) -> str:
        """Answer with an error of the protocol."""
        raise MCPError(code=code, message="refused as asked", data={"asked": True})

    @server.tool()
    def big(size_bytes: int) -> str:
        """A text of that size."""
        return "x" * size_bytes

    @server.tool()
    def headers(ctx: Context[Any, Any]) -> str:
        """The HTTP headers of this request, as JSON."""
        return json.dumps(dict(ctx.headers or {}))

    @server.tool()
    def meta(ctx: Context[Any, Any]) -> str:
        """The ``_meta`` of this request, as JSON."""
        return json.dumps(dict(ctx.request_context.meta or {}))

    @server.tool()
    def capabilities(ctx: Context[Any, Any]) -> str:
        """The client capabilities this request was made with, as JSON."""
        declared = ctx.client_capabilities
        return declared.model_dump_json(by_alias=True, exclude_none=True) if declared else "null"

    @server.tool()
    def route(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
        count: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Count"})] = 0,
    ) -> str:
        """Takes parameters that modern HTTP mirrors in headers."""
        return f"{region}:{count}"


def _add_waiting_tools(server: MCPServer[Any]) -> None:
    rendezvous = Rendezvous()

    @server.tool()
    async def slow(ctx: Context[Any, Any], steps: int = 3, pause_s: float = 0.0) -> str:
        """Report progress that often, then answer."""
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            await anyio.sleep(pause_s)
        return f"{steps} steps"

    @server.tool()
    async def log(ctx: Context[Any, Any], message: str, level: types.LoggingLevel = "info") -> str:
        """Log a message for the caller, then answer."""
        await send_log(ctx, message, level)
        return "logged"

    @server.tool()
    async def hang(name: str) -> str:
        """Never answer; ``await_cancelled`` sees when this was given up."""
        rendezvous.event("started", name).set()
        try:
            await anyio.sleep_forever()
        finally:
            rendezvous.event("cancelled", name).set()
        return "never"

    @server.tool()
    async def await_started(name: str) -> str:
        """Answer once ``hang`` of that name runs."""
        await rendezvous.event("started", name).wait()
        return "started"

    @server.tool()
    async def await_cancelled(name: str) -> str:
        """Answer once ``hang`` of that name was cancelled."""
        await rendezvous.event("cancelled", name).wait()
        return "cancelled"


def _add_interactive_tools(server: MCPServer[Any]) -> None:
    def is_modern(ctx: Context[Any, Any]) -> bool:
        return (ctx.protocol_version or "") >= "2026"

    @server.tool()
    async def elicit(
        ctx: Context[Any, Any], question: str = "Which colour?"
    ) -> str | types.InputRequiredResult:
        """Ask the caller for a colour: pushed on the legacy wire, ``input_required`` on the modern."""
        if not is_modern(ctx):
            answer = await ctx.elicit(question, Answered)
            colour = answer.data.colour if answer.action == "accept" else ""
            return f"{answer.action}:{colour}"
        if not ctx.input_responses:
            request = types.ElicitRequest(
                params=types.ElicitRequestFormParams(
                    message=question, requested_schema=Answered.model_json_schema()
                )
            )
            return types.InputRequiredResult(
                input_requests={"colour": request}, request_state="round-1"
            )
        response = ctx.input_responses["colour"]
        assert isinstance(response, types.ElicitResult)
        return f"{response.action}:{(response.content or {}).get('colour', '')}"

    @server.tool()
    async def sample(ctx: Context[Any, Any], prompt: str) -> str:
        """Ask the caller's model, pushed on the legacy wire."""
        params = types.CreateMessageRequestParams(
            messages=[
                types.SamplingMessage(
                    role="user", content=types.TextContent(type="text", text=prompt)
                )
            ],
            max_tokens=10,
        )
        answer = await ctx.session.send_request(
            types.CreateMessageRequest(params=params), types.CreateMessageResult
        )
        return getattr(answer.content, "text", "?")

    @server.tool()
    async def roots(ctx: Context[Any, Any]) -> str:
        """Ask for the caller's roots, pushed on the legacy wire."""
        answer = await ctx.session.send_request(types.ListRootsRequest(), types.ListRootsResult)
        return ",".join(str(root.uri) for root in answer.roots)


def _add_change_tools(server: MCPServer[Any], sessions: LegacySessions) -> None:
    @server.tool()
    async def add_tool(ctx: Context[Any, Any], name: str) -> str:
        """Offer one more tool and announce it."""
        server.add_tool(lambda: name, name=name, description="Came later.")
        await ctx.notify_tools_changed()
        await sessions.announce("notifications/tools/list_changed")
        return "added"

    @server.tool()
    async def remove_tool(ctx: Context[Any, Any], name: str) -> str:
        """Withdraw a tool and announce it."""
        server.remove_tool(name)
        await ctx.notify_tools_changed()
        await sessions.announce("notifications/tools/list_changed")
        return "removed"

    @server.tool()
    async def announce_prompts(ctx: Context[Any, Any]) -> str:
        """Announce that the prompts changed."""
        await ctx.notify_prompts_changed()
        await sessions.announce("notifications/prompts/list_changed")
        return "announced"

    @server.tool()
    async def announce_resources(ctx: Context[Any, Any]) -> str:
        """Announce that the resources changed."""
        await ctx.notify_resources_changed()
        await sessions.announce("notifications/resources/list_changed")
        return "announced"

    @server.tool()
    async def touch(ctx: Context[Any, Any], uri: str) -> str:
        """Announce that a resource was updated."""
        await ctx.notify_resource_updated(uri)
        await sessions.announce_update(uri)
        return "touched"


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("memo://static", name="static", mime_type="text/plain")
    def static() -> str:
        """Always the same."""
        return "static text"

    @server.resource("memo://watched", name="watched", mime_type="text/plain")
    def watched() -> str:
        """Can be subscribed to."""
        return "watched text"

    @server.resource("memo://bytes", name="bytes", mime_type="application/octet-stream")
    def binary() -> bytes:
        """Not text."""
        return b"\x00\x01\xff"

    @server.resource("memo://note/{id}", name="note", mime_type="text/plain")
    def note(id: str) -> str:
        """One note."""
        return f"note {id}"


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"Say hello to {name}."

    @server.prompt()
    def plain() -> str:
        """Takes nothing."""
        return "Just do it."


def _page(items: Sequence[Item], cursor: str | None, size: int) -> tuple[list[Item], str | None]:
    start = int(cursor.removeprefix("from-")) if cursor else 0
    end = start + size
    return list(items[start:end]), f"from-{end}" if end < len(items) else None


def _add_wire_behaviour(server: MCPServer[Any], sessions: LegacySessions) -> None:
    """Pages and completion, which the decorators do not offer, and what legacy clients expect."""
    wire = server._lowlevel_server

    async def list_tools(ctx: Any, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        page, cursor = _page(await server.list_tools(), params.cursor, FIRST_TOOL_PAGE)
        return types.ListToolsResult(tools=page, next_cursor=cursor)

    async def complete(ctx: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
        names = ["alice", "albert", "bob"]
        values = [name for name in names if name.startswith(params.argument.value)]
        completion = types.Completion(values=values, total=len(values), has_more=False)
        return types.CompleteResult(completion=completion)

    wire.add_request_handler("tools/list", types.PaginatedRequestParams, list_tools)
    wire.add_request_handler("completion/complete", types.CompleteRequestParams, complete)
    add_legacy_behaviour(server, sessions)


def add_legacy_behaviour(server: MCPServer[Any], sessions: LegacySessions) -> None:
    """Subscriptions, log levels and announced changes for clients before 2026-07-28."""
    wire = server._lowlevel_server

    async def subscribe(ctx: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        sessions.subscribe(ctx.session, str(params.uri))
        return types.EmptyResult()

    async def unsubscribe(ctx: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        sessions.unsubscribe(ctx.session, str(params.uri))
        return types.EmptyResult()

    async def set_level(ctx: Any, params: types.SetLevelRequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    async def note_session(ctx: Any, call_next: Any) -> Any:
        if ctx.protocol_version < "2026":
            sessions.note(ctx.session)
        return await call_next(ctx)

    announced = NotificationOptions(
        prompts_changed=True, resources_changed=True, tools_changed=True
    )
    setattr(  # noqa: B010  # the SDK offers no setting for what legacy servers announce
        wire,
        "create_initialization_options",
        partial(wire.create_initialization_options, announced),
    )
    wire.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)
    wire.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, unsubscribe)
    wire.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)
    wire.middleware.append(note_session)
