"""What the upstreams of the matrix offer: the peers' offerings, and each way of asking the caller.

A tool that asks pushes its questions on the legacy wire, and ends in ``input_required`` on the
modern one; what it answers is the same.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from weakref import WeakKeyDictionary

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.session import ServerSession
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.shared.message import ServerMessageMetadata
from pydantic import BaseModel

from tests.peers.offerings import build

SIGN_IN: Final = "https://accounts.example/sign-in"
URL_ASKED: Final = "Please sign in."


class Colour(BaseModel):
    """What is asked for in forms."""

    colour: str


class Shape(BaseModel):
    """What is asked for after that."""

    shape: str


class Kinds(BaseModel):
    """What the tool ``kinds`` says of its result."""

    count: int


def build_matrix(name: str) -> MCPServer[Any]:
    """A server for the matrix; eras and transports are decided by whoever serves it."""
    server = build(name)
    _add_asking_tools(server)
    _add_url_tools(server)
    _add_several_questions(server)
    _add_session_tools(server)
    _add_results_of_one_era(server)
    return server


def is_modern(ctx: Context[Any, Any]) -> bool:
    """Whether this very request is of the modern era."""
    return (ctx.protocol_version or "") >= "2026"


def asking(
    requests: Mapping[str, types.InputRequest], state: str | None = None
) -> types.InputRequiredResult:
    """How a modern server asks."""
    return types.InputRequiredResult(input_requests=dict(requests), request_state=state)


def form(message: str, wanted: type[BaseModel]) -> types.ElicitRequest:
    """A question with a form."""
    schema = wanted.model_json_schema()
    params = types.ElicitRequestFormParams(message=message, requested_schema=schema)
    return types.ElicitRequest(params=params)


async def push(ctx: Context[Any, Any], request: Any, result_type: Any) -> Any:
    """How a legacy server asks: on the stream of the request that it asks for."""
    metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
    return await ctx.session.send_request(request, result_type, metadata=metadata)


def said(ctx: Context[Any, Any], key: str) -> Any:
    """What the caller answered; None on the first leg."""
    return (ctx.input_responses or {}).get(key)


def _add_asking_tools(server: MCPServer[Any]) -> None:
    @server.tool()
    async def ask_model(ctx: Context[Any, Any], prompt: str) -> str | types.InputRequiredResult:
        """Ask the caller's model."""
        content = types.TextContent(type="text", text=prompt)
        message = types.SamplingMessage(role="user", content=content)
        params = types.CreateMessageRequestParams(messages=[message], max_tokens=10)
        request = types.CreateMessageRequest(params=params)
        answer = said(ctx, "model")
        if not is_modern(ctx):
            answer = await push(ctx, request, types.CreateMessageResult)
        elif answer is None:
            return asking({"model": request})
        return f"{answer.model}: {answer.content.text}"

    @server.tool()
    async def ask_roots(ctx: Context[Any, Any]) -> str | types.InputRequiredResult:
        """Ask for the caller's roots."""
        answer = said(ctx, "roots")
        if not is_modern(ctx):
            answer = await push(ctx, types.ListRootsRequest(), types.ListRootsResult)
        elif answer is None:
            return asking({"roots": types.ListRootsRequest()})
        return ",".join(str(root.uri) for root in answer.roots)

    @server.prompt()
    async def painted(ctx: Context[Any, Any]) -> str | types.InputRequiredResult:
        """A prompt that needs to know a colour."""
        if not is_modern(ctx):
            answered = await ctx.elicit("Which colour?", Colour)
            assert answered.action == "accept"
            return f"Paint it {answered.data.colour}."
        answer = said(ctx, "colour")
        if answer is None:
            return asking({"colour": form("Which colour?", Colour)})
        return f"Paint it {(answer.content or {})['colour']}."


def _add_url_tools(server: MCPServer[Any]) -> None:
    signed_in: set[str] = set()

    def url_question() -> types.ElicitRequest:
        params = types.ElicitRequestURLParams(message=URL_ASKED, url=SIGN_IN)
        return types.ElicitRequest(params=params)

    @server.tool()
    async def ask_url(ctx: Context[Any, Any]) -> str | types.InputRequiredResult:
        """Ask the caller to open an address, and wait for what it says."""
        if not is_modern(ctx):
            return (await ctx.elicit_url(URL_ASKED, SIGN_IN, "elicitation-1")).action
        answer = said(ctx, "url")
        return answer.action if answer is not None else asking({"url": url_question()})

    @server.tool()
    async def needs_url(ctx: Context[Any, Any], name: str) -> str | types.InputRequiredResult:
        """Refuse until the caller has been shown an address; the legacy wire has an error for it."""
        if name in signed_in:
            return "signed in"
        signed_in.add(name)
        if is_modern(ctx):
            return asking({"url": url_question()})
        asked = types.ElicitRequestURLParams(
            message=URL_ASKED, url=SIGN_IN, elicitation_id="elicitation-2"
        )
        raise UrlElicitationRequiredError([asked])


def _add_several_questions(server: MCPServer[Any]) -> None:
    @server.tool()
    async def two_rounds(ctx: Context[Any, Any]) -> str | types.InputRequiredResult:
        """Ask for a colour, and then for a shape of that colour."""
        if not is_modern(ctx):
            first = await ctx.elicit("Which colour?", Colour)
            assert first.action == "accept"
            second = await ctx.elicit(f"Which {first.data.colour} shape?", Shape)
            assert second.action == "accept"
            return f"{first.data.colour} {second.data.shape}"
        colour, shape = said(ctx, "colour"), said(ctx, "shape")
        if shape is not None:
            return f"{ctx.request_state} {shape.content['shape']}"
        if colour is not None:
            known = colour.content["colour"]
            return asking({"shape": form(f"Which {known} shape?", Shape)}, state=known)
        return asking({"colour": form("Which colour?", Colour)}, state="nothing yet")

    @server.tool()
    async def two_questions(ctx: Context[Any, Any]) -> str | types.InputRequiredResult:
        """Ask for a colour and for the roots at the same time."""
        found: dict[str, Any] = {}

        async def push_colour() -> None:
            answer = await ctx.elicit("Which colour?", Colour)
            assert answer.action == "accept"
            found["colour"] = answer.data.colour

        async def push_roots() -> None:
            answer = await push(ctx, types.ListRootsRequest(), types.ListRootsResult)
            found["roots"] = answer.roots

        if not is_modern(ctx):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(push_colour)
                tasks.start_soon(push_roots)
        elif ctx.input_responses:
            found["colour"] = said(ctx, "colour").content["colour"]
            found["roots"] = said(ctx, "roots").roots
        else:
            colour = form("Which colour?", Colour)
            return asking({"colour": colour, "roots": types.ListRootsRequest()})
        return f"{found['colour']} {len(found['roots'])}"


def _add_session_tools(server: MCPServer[Any]) -> None:
    visits: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
    roots_changed = anyio.Event()

    async def note_change(ctx: Any, params: Any) -> None:
        roots_changed.set()

    server._lowlevel_server.add_notification_handler(
        "notifications/roots/list_changed", types.NotificationParams, note_change
    )

    @server.tool()
    def visit(ctx: Context[Any, Any]) -> int:
        """How often this session has been here; 1 each time where there are no sessions."""
        connection = ctx.session._connection
        visits[connection] = visits.get(connection, 0) + 1
        return visits[connection]

    @server.tool()
    async def await_roots_changed() -> str:
        """Answer once a client has said that its roots changed."""
        nonlocal roots_changed
        await roots_changed.wait()
        roots_changed = anyio.Event()
        return "changed"

    remarked: dict[str, anyio.Event] = {}

    @server.tool()
    async def remark(ctx: Context[Any, Any], message: str) -> str:
        """Log something that belongs to no request, where there can be such a thing; then wait."""
        send: Any = ServerSession.send_log_message
        related = ctx.request_id if is_modern(ctx) else None
        heard = remarked[message] = anyio.Event()
        await send.__wrapped__(ctx.session, "error", message, "peer", related_request_id=related)
        await heard.wait()
        return "remarked"

    @server.tool()
    def heard(message: str) -> str:
        """What was remarked was heard."""
        remarked.pop(message).set()
        return "good"


def _add_results_of_one_era(server: MCPServer[Any]) -> None:
    icon = types.Icon(src="https://pictures.example/kinds.png")

    @server.tool(title="All kinds", icons=[icon])
    def kinds() -> Annotated[types.CallToolResult, Kinds]:
        """Content of kinds that came one revision after another."""
        recording = types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav")
        link = types.ResourceLink(type="resource_link", name="notes", uri="memo://static")
        content = [types.TextContent(type="text", text="all of it"), recording, link]
        return types.CallToolResult(content=content, structured_content={"count": 3})

    @server.tool()
    def numbers(ctx: Context[Any, Any]) -> types.CallToolResult:
        """Structured content that is no object, which only the modern era knows."""
        values: Any = [1, 2, 3] if is_modern(ctx) else {"values": [1, 2, 3]}
        text = types.TextContent(type="text", text="1, 2, 3")
        return types.CallToolResult(content=[text], structured_content=values)
