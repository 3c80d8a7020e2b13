"""A server whose tools, prompts and resources want something of their caller first, in one era's way.

The legacy one pushes requests while a call runs, the modern one answers ``input_required`` and is
called again; names and answers are the same, so that tests need not know which they talk to.
``python -m tests.peers.asking_server --era legacy|modern`` serves over standard streams.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.shared.message import ServerMessageMetadata

from tests.peers.eras import only_legacy, only_modern
from tests.peers.offerings import Rendezvous
from tests.peers.serving import Peer, serving
from tests.peers.stdio_server import ROOT, serve

Era = Literal["legacy", "modern"]
Ctx = Context[Any, Any]
Requests = Mapping[str, Any]
Required = types.InputRequiredResult
SIGN_IN: Final = "https://accounts.example/sign-in"


def form(message: str, field: str) -> types.ElicitRequest:
    """Asks for one text."""
    schema = {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=schema)
    )


def completion(prompt: str) -> types.CreateMessageRequest:
    """Asks the caller's model."""
    text = types.TextContent(type="text", text=prompt)
    params = types.CreateMessageRequestParams(
        messages=[types.SamplingMessage(role="user", content=text)], max_tokens=10
    )
    return types.CreateMessageRequest(params=params)


def address(era: Era, url: str) -> types.ElicitRequest:
    """Asks to go somewhere."""
    number = "e-1" if era == "legacy" else None
    params = types.ElicitRequestURLParams(message="Sign in.", url=url, elicitation_id=number)
    return types.ElicitRequest(params=params)


def said(answer: Any) -> str:
    """An answer as one text."""
    if isinstance(answer, types.ElicitResult):
        content = answer.content or {}
        return ":".join([answer.action, *(str(value) for value in content.values())])
    if isinstance(answer, types.ListRootsResult):
        return ",".join(str(root.uri) for root in answer.roots)
    return str(answer.content.text)


class Asking:
    """Asks in the way of one era."""

    def __init__(self, era: Era) -> None:
        self.era = era

    async def __call__(
        self, ctx: Ctx, requests: Requests, state: str | None = None
    ) -> dict[str, str] | Required:
        """What the caller said to each, or what to answer to be told."""
        if self.era == "legacy":
            return await self._push(ctx, requests)
        answers = ctx.input_responses or {}
        if any(key not in answers for key in requests):
            return Required(input_requests=dict(requests), request_state=state)
        return {key: said(answers[key]) for key in requests}

    async def _push(self, ctx: Ctx, requests: Requests) -> dict[str, str]:
        answers: dict[str, str] = {}

        async def push(key: str, request: Any) -> None:
            kinds = {
                "elicitation/create": types.ElicitResult,
                "sampling/createMessage": types.CreateMessageResult,
                "roots/list": types.ListRootsResult,
            }
            answer = await ctx.session.send_request(
                request,
                kinds[request.method],
                metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
            )
            answers[key] = said(answer)

        async with anyio.create_task_group() as tasks:
            for key, request in requests.items():
                tasks.start_soon(push, key, request)
        return {key: answers[key] for key in requests}


def build(era: Era) -> MCPServer[Any]:
    """The server."""
    server: MCPServer[Any] = MCPServer(name=f"asking-{era}", log_level="ERROR")
    ask = Asking(era)
    _add_questions(server, ask)
    _add_rounds(server, ask)
    _add_addresses(server, ask)
    _add_waiting(server)
    _add_other_kinds(server, ask)
    return server


def _add_questions(server: MCPServer[Any], ask: Asking) -> None:
    async def one(ctx: Ctx, request: Any, state: str | None = None) -> str | Required:
        answers = await ask(ctx, {"it": request}, state)
        return answers if isinstance(answers, Required) else answers["it"]

    @server.tool()
    async def plain(text: str = "") -> str:
        """Asks nothing."""
        return f"plain {text}"

    @server.tool()
    async def colour(ctx: Ctx, question: str = "Which colour?") -> str | Required:
        """Ask for a colour."""
        return await one(ctx, form(question, "colour"))

    @server.tool()
    async def model(ctx: Ctx, prompt: str) -> str | Required:
        """Ask the caller's model."""
        return await one(ctx, completion(prompt))

    @server.tool()
    async def places(ctx: Ctx) -> str | Required:
        """Ask for the caller's roots."""
        return await one(ctx, types.ListRootsRequest())

    @server.tool()
    async def all_at_once(ctx: Ctx) -> str | Required:
        """Ask for a colour, the model's word and the roots."""
        requests = {
            "colour": form("Which colour?", "colour"),
            "model": completion("Say something."),
            "places": types.ListRootsRequest(),
        }
        answers = await ask(ctx, requests)
        return answers if isinstance(answers, Required) else " ".join(answers.values())

    @server.tool()
    async def progressing(ctx: Ctx) -> str | Required:
        """Report progress, ask, report more of it."""
        answered = bool(ask.era == "modern" and ctx.input_responses)
        if not answered:
            await ctx.report_progress(1, 3)
        answers = await ask(ctx, {"it": form("Which colour?", "colour")})
        if isinstance(answers, Required):
            return answers
        await ctx.report_progress(2, 3)
        await ctx.report_progress(3, 3)
        return answers["it"]


def _add_rounds(server: MCPServer[Any], ask: Asking) -> None:
    @server.tool()
    async def story(ctx: Ctx, chapters: int = 3) -> str | Required:
        """Ask for one word after the other; what was said before is in the request's state."""
        words: list[str] = json.loads((ask.era == "modern" and ctx.request_state) or "[]")
        if ask.era == "modern" and ctx.input_responses:
            words.append(said(ctx.input_responses[f"chapter {len(words) + 1}"]))
        while len(words) < chapters:
            key = f"chapter {len(words) + 1}"
            answers = await ask(ctx, {key: form(key, "word")}, json.dumps(words))
            if isinstance(answers, Required):
                return answers
            words.append(answers[key])
        return " ".join(words)

    @server.tool()
    async def come_again(ctx: Ctx, times: int = 2) -> str | Required:
        """Want nothing but to be called again (modern only)."""
        count = int(ctx.request_state or "0")
        return str(count) if count == times else Required(request_state=str(count + 1))


def _add_addresses(server: MCPServer[Any], ask: Asking) -> None:
    visited: set[str] = set()

    @server.tool()
    async def visit(ctx: Ctx) -> str | Required:
        """Ask the caller to go somewhere."""
        answers = await ask(ctx, {"there": address(ask.era, SIGN_IN)})
        return answers if isinstance(answers, Required) else answers["there"]

    @server.tool()
    async def visited_first(name: str) -> str:
        """Refuse until ``visited`` was told (legacy only)."""
        if name not in visited:
            params = address("legacy", f"{SIGN_IN}/{name}").params
            assert isinstance(params, types.ElicitRequestURLParams)
            raise UrlElicitationRequiredError([params])
        return f"welcome {name}"

    @server.tool()
    async def note_visit(name: str) -> str:
        """What the browser would do."""
        visited.add(name)
        return "noted"


def _add_waiting(server: MCPServer[Any]) -> None:
    rendezvous = Rendezvous()
    ask = Asking("legacy")

    @server.tool()
    async def watched(ctx: Ctx, name: str) -> str | Required:
        """Ask, and note under ``name`` when this was given up (legacy only)."""
        try:
            answers = await ask(ctx, {"it": form("Which colour?", "colour")})
        except anyio.get_cancelled_exc_class():
            rendezvous.event("cancelled", name).set()
            raise
        return str(answers)

    @server.tool()
    async def then_hang(ctx: Ctx, name: str) -> str | Required:
        """Ask, then never answer (legacy only)."""
        await ask(ctx, {"it": form("Which colour?", "colour")})
        rendezvous.event("answered", name).set()
        try:
            await anyio.sleep_forever()
        finally:
            rendezvous.event("cancelled", name).set()
        return "never"

    @server.tool()
    async def impatient(ctx: Ctx, name: str) -> str | Required:
        """Ask, and go on without an answer once ``tell`` was called (legacy only)."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, ctx, {"it": form("Which colour?", "colour")})
            await rendezvous.event("enough", name).wait()
            tasks.cancel_scope.cancel()
        return "without you"

    @server.tool()
    async def tell(what: str, name: str) -> str:
        """Set what somebody waits for."""
        rendezvous.event(what, name).set()
        return "told"

    @server.tool()
    async def hear(what: str, name: str) -> str:
        """Wait until something was set."""
        await rendezvous.event(what, name).wait()
        return "heard"


def _add_other_kinds(server: MCPServer[Any], ask: Asking) -> None:
    @server.prompt()
    async def advice(ctx: Ctx) -> str | Required:
        """Ask before it prompts."""
        answers = await ask(ctx, {"it": form("Which colour?", "colour")})
        return answers if isinstance(answers, Required) else f"Paint it {answers['it']}."

    # The SDK offers a context to resources with parameters only.
    @server.resource("ask://colour/{room}", name="colour", mime_type="text/plain")
    async def colour_of(room: str, ctx: Ctx) -> str | Required:
        """Ask before it is read."""
        answers = await ask(ctx, {"it": form(f"Which colour for {room}?", "colour")})
        return answers if isinstance(answers, Required) else answers["it"]


class Recording:
    """An ASGI application that notes the JSON bodies posted to another one."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.posted: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        chunks: list[bytes] = []

        async def noting() -> Any:
            message = await receive()
            chunks.append(message.get("body", b""))
            if chunks and message["type"] == "http.request" and not message.get("more_body"):
                body = b"".join(chunks)
                if body:
                    self.posted.append(json.loads(body))
            return message

        await self._app(scope, noting if scope["type"] == "http" else receive, send)

    def params_of(self, method: str) -> list[dict[str, Any]]:
        """Parameters of the requests for a method, without ``_meta``, in their order."""
        return [
            {key: value for key, value in message["params"].items() if key != "_meta"}
            for message in self.posted
            if message.get("method") == method
        ]

    def methods(self) -> list[str]:
        """Methods of requests and notifications, in their order."""
        return [message["method"] for message in self.posted if "method" in message]


@contextmanager
def asking_sse_server() -> Iterator[Peer]:
    """The legacy server over HTTP+SSE."""
    with serving(build("legacy").sse_app(), path="/sse") as peer:
        yield peer


@contextmanager
def asking_server(era: Era) -> Iterator[tuple[Peer, Recording]]:
    """The server over Streamable HTTP, and what was posted to it."""
    hold: Callable[[Any], Any] = only_legacy if era == "legacy" else only_modern
    recording = Recording(hold(build(era).streamable_http_app()))
    with serving(recording) as peer:
        yield peer, recording


def command(era: Era) -> tuple[str, ...]:
    """What starts this program, from any directory."""
    run = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['--era', {era!r}]; "
    return (sys.executable, "-c", run + "import tests.peers.asking_server as peer; peer.main()")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="An asking peer for tests.")
    parser.add_argument("--era", choices=("legacy", "modern"), default="legacy")
    era: Era = parser.parse_args().era
    anyio.run(serve, build(era), era)


if __name__ == "__main__":
    main()
