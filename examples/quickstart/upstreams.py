"""The three upstreams of this example, small servers on the official SDK; the argument says which.

``notes`` speaks over stdio, ``orders`` over Streamable HTTP of revision 2026-07-28, ``library`` over
Streamable HTTP of revision 2025-11-25 with sessions.
"""

import argparse
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel

READ_ONLY = ToolAnnotations(read_only_hint=True)

# --- notes -------------------------------------------------------------------------------------

notes = MCPServer[Any]("notes", instructions="Short notes, kept in memory.", log_level="ERROR")
_notes = {"welcome": "This note came through a child process of Portico."}


@notes.tool()
def write_note(title: str, text: str) -> str:
    """Keep a note under a title; an older one with that title is replaced."""
    _notes[title] = text
    return f"Kept '{title}'."


@notes.tool(annotations=READ_ONLY)
def read_note(title: str) -> str:
    """The text of a note."""
    return _notes.get(title, f"There is no note '{title}'.")


@notes.resource("notes://all")
def all_notes() -> str:
    """All titles, one a line."""
    return "\n".join(sorted(_notes))


# --- orders ------------------------------------------------------------------------------------

orders = MCPServer[Any]("orders", instructions="Orders of a small shop.", log_level="ERROR")


class Order(BaseModel):
    """One order as the shop knows it."""

    number: int
    tenant: str
    item: str
    status: str


_orders = [
    Order(number=1001, tenant="acme", item="ladder", status="sent"),
    Order(number=1002, tenant="acme", item="rope", status="packed"),
    Order(number=1003, tenant="globex", item="lamp", status="open"),
]


@orders.tool(annotations=READ_ONLY)
def get_order(number: int, tenant: str) -> Order:
    """Look an order of a tenant up by its number."""
    for order in _orders:
        if (order.number, order.tenant) == (number, tenant):
            return order
    raise ValueError(f"{tenant} has no order {number}.")


@orders.tool(annotations=ToolAnnotations(destructive_hint=True))
def cancel_order(number: int, tenant: str) -> Order:
    """Cancel an order for good."""
    order = get_order(number, tenant)
    order.status = "cancelled"
    return order


# --- library -----------------------------------------------------------------------------------

library = MCPServer[Any]("library", instructions="A very small library.", log_level="ERROR")
_books = {
    "dune": "Frank Herbert, 1965",
    "emma": "Jane Austen, 1815",
    "solaris": "Stanisław Lem, 1961",
}


@library.tool(annotations=READ_ONLY)
async def find_book(title: str, context: Context[Any]) -> str:
    """Who wrote a book, and when."""
    for looked_at, shelf in enumerate(sorted(_books), 1):
        await context.report_progress(looked_at, len(_books), f"looked at {shelf}")
    return _books.get(title.lower(), f"We do not have '{title}'.")


@library.prompt()
def recommend(mood: str) -> str:
    """Ask for a book that fits a mood."""
    return (
        f"Recommend one of {', '.join(sorted(_books))} to somebody who feels {mood}, and say why."
    )


# --- serving -----------------------------------------------------------------------------------

MODERN = "2026-07-28"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def serve(server: MCPServer[Any], port: int, *, only: str) -> None:
    """Serve ``/mcp`` on 127.0.0.1 until told to stop, in the era of revision ``only``.

    The SDK speaks both eras on one address and chooses by the version header; so does this gate.
    """
    application = server.streamable_http_app()

    async def gate(scope: Message, receive: Receive, send: Send) -> None:
        wanted = dict(scope.get("headers", ())).get(b"mcp-protocol-version", b"").decode()
        if scope["type"] == "http" and (wanted == MODERN) != (only == MODERN):
            await refuse(await request_id(receive), send, only, wanted)
        else:
            await application(scope, receive, send)

    uvicorn.run(gate, host="127.0.0.1", port=port, log_level="error", ws="none")


async def request_id(receive: Receive) -> Any:
    """The JSON-RPC id of the request being received; None when it has none."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    try:
        return json.loads(body).get("id")
    except ValueError:
        return None


async def refuse(answered_id: Any, send: Send, supported: str, requested: str) -> None:
    """Answer that this revision is not spoken here."""
    error = {
        "code": -32022,
        "message": "Unsupported protocol version",
        "data": {"supported": [supported], "requested": requested},
    }
    answer = json.dumps({"jsonrpc": "2.0", "id": answered_id, "error": error}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("notes", "orders", "library"))
    parser.add_argument("--port", type=int, default=0, help="where the HTTP ones listen")
    arguments = parser.parse_args()
    if arguments.name == "notes":
        notes.run("stdio")
    elif arguments.name == "orders":
        serve(orders, arguments.port, only=MODERN)
    else:
        serve(library, arguments.port, only="2025-11-25")


if __name__ == "__main__":
    main()
