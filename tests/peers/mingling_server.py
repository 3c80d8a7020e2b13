"""A server whose calls wait for each other, so that many are under way at the same time."""

import sys
from pathlib import Path
from typing import Any, Final

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.session import ServerSession
from pydantic import BaseModel

from tests.peers.stdio_server import Era, serve

ROOT: Final = Path(__file__).parents[2]


class Repeated(BaseModel):
    """What callers are asked to say again."""

    text: str


class Together:
    """Holds calls until a number of them is there, then lets the last one go first."""

    def __init__(self) -> None:
        self._waiting: list[anyio.Event] = []

    async def wait(self, number: int) -> None:
        """Wait for ``number`` calls, and for those that came later than this one."""
        turn = anyio.Event()
        self._waiting.append(turn)
        if len(self._waiting) == number:
            turn.set()
        await turn.wait()
        self._waiting.remove(turn)
        if self._waiting:
            self._waiting[-1].set()


def build() -> MCPServer[Any]:
    """One tool."""
    server: MCPServer[Any] = MCPServer(name="mingling", version="1", log_level="ERROR")
    together = Together()

    @server.tool()
    async def mingle(
        ctx: Context[Any, Any], text: str, number: int, asks: bool
    ) -> str | types.InputRequiredResult:
        """Say ``text`` in each way there is, among ``number`` calls that do the same."""
        answered = text
        if asks:
            said = await _ask(ctx, text)
            if isinstance(said, types.InputRequiredResult):
                return said
            answered = said
        await ctx.report_progress(1, 2, text)
        await _log(ctx, text)
        await together.wait(number)
        await ctx.report_progress(2, 2, text)
        return answered

    return server


async def _ask(ctx: Context[Any, Any], text: str) -> str | types.InputRequiredResult:
    if (ctx.protocol_version or "") < "2026":
        answer = await ctx.elicit(text, Repeated)
        return answer.data.text if answer.action == "accept" else answer.action
    response = (ctx.input_responses or {}).get("again")
    if isinstance(response, types.ElicitResult):
        return str((response.content or {}).get("text"))
    params = types.ElicitRequestFormParams(
        message=text, requested_schema=Repeated.model_json_schema()
    )
    request = types.ElicitRequest(params=params)
    return types.InputRequiredResult(input_requests={"again": request}, request_state=text)


async def _log(ctx: Context[Any, Any], text: str) -> None:
    send: Any = ServerSession.send_log_message
    bare = send.__wrapped__  # without the deprecation warning, which fails tests
    await bare(ctx.session, "info", text, "peer", related_request_id=ctx.request_id)


def command(era: Era) -> list[str]:
    """What starts this program, from any directory."""
    run = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.peers.mingling_server as s; "
    )
    return [sys.executable, "-c", f"{run}s.main({era!r})"]


def main(era: Era) -> None:
    """The program."""
    anyio.run(serve, build(), era)
