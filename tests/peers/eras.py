"""Holding a server that speaks both eras to one of them, the way single-era servers answer."""

import json
from typing import Any, Final

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


def _version_header(scope: Any) -> str | None:
    for name, value in scope.get("headers", ()):
        if name == b"mcp-protocol-version":
            return str(value.decode("latin-1"))
    return None


async def _read_body(receive: Any) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answer(send: Any, status: int, payload: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(payload).encode()})


def only_modern(app: Any) -> Any:
    """Refuse what does not say it is modern with -32022, naming what is supported."""

    async def gate(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or _version_header(scope) == MODERN:
            await app(scope, receive, send)
            return
        try:
            request_id = json.loads(await _read_body(receive)).get("id")
        except ValueError:
            request_id = None
        data = {"supported": [MODERN], "requested": _version_header(scope) or ""}
        error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
        await _answer(send, 400, {"jsonrpc": "2.0", "id": request_id, "error": error})

    return gate


def only_legacy(app: Any) -> Any:
    """Refuse a version header it does not know as servers before 2026 do: 400, id lost."""

    async def gate(scope: Any, receive: Any, send: Any) -> None:
        version = _version_header(scope) if scope["type"] == "http" else None
        if version is None or version in LEGACY:
            await app(scope, receive, send)
            return
        error = {"code": -32600, "message": "Bad Request: Unsupported protocol version"}
        await _answer(send, 400, {"jsonrpc": "2.0", "id": "server-error", "error": error})

    return gate
