"""Single exchanges outside the measurement: sessions are opened and answers are looked into."""

import http.client
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from bench.calls import headers_of, params_of, text_of
from bench.errors import Unsound
from bench.upstream import TOOL_COUNT
from bench.variants import Variant
from mcp_wire.headers import SESSION_HEADER
from mcp_wire.revisions import LATEST_LEGACY
from mcp_wire.sse import SseDecoder

TIMEOUT_S: Final = 30.0
_CLIENT_INFO: Final = {"name": "bench", "version": "1"}


class Answer(Struct, frozen=True):
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    message: Any
    """The decoded JSON-RPC message; None where there is none."""


def post(url: str, headers: Mapping[str, str], message: Mapping[str, Any]) -> Answer:
    """Send one message and read what comes back, be it JSON or an event stream."""
    return exchange("POST", url, headers, json.dumps(message).encode())


def exchange(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    """One HTTP request on a connection of its own. Raises Unsound where no answer comes."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=TIMEOUT_S)
    try:
        connection.request(method, address.path, body or None, dict(headers))
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unsound(f"{method} {url}: {error}") from error
    finally:
        connection.close()
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    given = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, given, _message(kind, content))


def open_session(url: str, variant: Variant, credentials: Mapping[str, str]) -> str | None:
    """The handshake of a legacy caller: its session id, None where the server gives none.

    Modern callers have no handshake. Raises Unsound.
    """
    if variant.era == "modern":
        return None
    plain = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        **credentials,
    }
    params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": _CLIENT_INFO}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    answer = post(url, plain, message)
    if answer.status != 200 or "result" not in (answer.message or {}):
        raise Unsound(f"{url}: initialize was answered with {answer.status} {answer.message!r}")
    session = answer.headers.get(SESSION_HEADER.lower())
    headers = {**headers_of(variant, session), **credentials}
    post(url, headers, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    return session


def verify(url: str, variant: Variant, session: str | None, credentials: Mapping[str, str]) -> None:
    """Make the variant's request once and look into the answer. Raises Unsound."""
    headers = {**headers_of(variant, session), **credentials}
    message = {"jsonrpc": "2.0", "id": 2, "method": variant.method, "params": params_of(variant)}
    answer = post(url, headers, message)
    result = (answer.message or {}).get("result") if answer.status == 200 else None
    if not isinstance(result, dict) or not _is_right(variant, result):
        shown = repr(answer.message)[:500]
        raise Unsound(f"{url}: {variant.name} was answered with {answer.status} {shown}")


def _is_right(variant: Variant, result: Mapping[str, Any]) -> bool:
    if variant.method == "tools/list":
        return len(result.get("tools", ())) >= TOOL_COUNT
    content = result.get("content") or [{}]
    return content[0].get("text") == text_of(variant) and not result.get("isError", False)


def _message(kind: str, content: bytes) -> Any:
    if kind == "text/event-stream":
        frames = SseDecoder().feed(content)
        content = frames[-1].data if frames else b""
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None
