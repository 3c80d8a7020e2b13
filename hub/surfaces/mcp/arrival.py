"""One HTTP request on its way in: where it wants to go, what it accepts, and how to answer it."""

from functools import lru_cache
from typing import Final, Literal

from msgspec import Raw, Struct

from hub.domain.call import DEFAULT_VIRTUAL_SERVER, Call
from hub.domain.outcome import Refusal
from hub.domain.principal import Principal
from hub.surfaces.asgi import JSON, Fields, Headers, Receive, Send, encoded, respond
from hub.surfaces.mcp.answering import Answer
from hub.surfaces.mcp.calls import Caller
from hub.surfaces.mcp.open_streams import OpenStreams
from hub.wire_errors import Words, refused
from mcp_wire import codes
from mcp_wire.jsonrpc import encode_error

MAX_PATH: Final = 256
"""No longer path leads anywhere: names have 48 characters."""
SSE_SUFFIX: Final = "/sse"
MESSAGES_SUFFIX: Final = "/sse/messages"
_MAX_REMEMBERED: Final = 256
"""What callers send is remembered up to this length only: they could send many."""
_ENDPOINTS: Final[dict[tuple[str, ...], Literal["mcp", "sse", "messages"]]] = {
    ("mcp",): "mcp",
    ("sse",): "sse",
    ("sse", "messages"): "messages",
}


class Turned(Exception):  # noqa: N818 -- says what happens to the request
    """A request that is answered with an HTTP status before it becomes a call."""

    def __init__(self, status: int, words: Words) -> None:
        super().__init__(words.message)
        self.status = status
        self.words = words


class Endpoint(Struct, frozen=True):
    """What a path of this surface names."""

    kind: Literal["mcp", "sse", "messages"]
    virtual_server: str
    tenant: str | None

    def contradicts(self, fields: Fields) -> bool:
        """Whether path and header name different tenants."""
        named = fields.get(b"x-tenant-id")
        return self.tenant is not None and named is not None and named != self.tenant


def endpoint_of(path: str) -> Endpoint | None:
    """``/mcp``, ``/v/NAME/mcp``, ``/v/NAME/sse`` and below, all of them also behind ``/t/TENANT``."""
    return _endpoint_of(path) if len(path) <= MAX_PATH else None


@lru_cache(maxsize=1024)
def _endpoint_of(path: str) -> Endpoint | None:
    parts = path.removesuffix("/").split("/")[1:]
    tenant: str | None = None
    if len(parts) > 2 and parts[0] == "t":
        tenant, parts = parts[1], parts[2:]
    virtual_server = DEFAULT_VIRTUAL_SERVER
    named = len(parts) > 2 and parts[0] == "v"
    if named:
        virtual_server, parts = parts[1], parts[2:]
    kind = _ENDPOINTS.get(tuple(parts))
    if kind is None or not virtual_server or tenant == "" or (kind != "mcp" and not named):
        return None
    return Endpoint(kind, virtual_server, tenant)


class Arrival(Struct, frozen=True):
    """A request that passed the front door."""

    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    fields: Fields
    caller: Caller
    cors: Headers
    receive: Receive
    send: Send

    def accepts_json(self) -> bool:
        """Whether the client reads JSON answers."""
        return accepted(self.fields.get_bytes(b"accept"))[0]

    def accepts_stream(self) -> bool:
        """Whether the client reads event streams."""
        return accepted(self.fields.get_bytes(b"accept"))[1]

    def prefers_stream(self) -> bool:
        """Whether the client would rather have an event stream than JSON."""
        return prefers_stream(self.fields.get_bytes(b"accept"))

    async def respond(
        self, status: int, body: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Answer whole."""
        await respond(self.send, status, body, (*headers, *self.cors))

    async def refuse(
        self, status: int, words: Words, request_id: Raw | None = None, headers: Headers = ()
    ) -> None:
        """Answer with a JSON-RPC error, under the id of the request where it was read."""
        body = encode_error(request_id, words.code, words.message, words.data)
        await self.respond(status, body, (JSON, *encoded(words.headers), *headers))

    async def answer(self, answer: Answer, *more: tuple[bytes, bytes]) -> None:
        """Answer with what became of a request."""
        headers = (JSON, *encoded(answer.headers), *more)
        if answer.call:
            headers = (*headers, call_header(answer.call))
        await self.respond(answer.status, answer.message, headers)


def accepted(accept: bytes | None) -> tuple[bool, bool]:
    """Whether JSON and whether event streams are accepted; who says nothing accepts both."""
    if accept is not None and len(accept) > _MAX_REMEMBERED:
        return _accepted.__wrapped__(accept)
    return _accepted(accept)


@lru_cache(maxsize=256)
def _accepted(accept: bytes | None) -> tuple[bool, bool]:
    kinds = (accept or b"*/*").lower()
    return (
        any(kind in kinds for kind in (b"application/json", b"*/*", b"application/*")),
        any(kind in kinds for kind in (b"text/event-stream", b"*/*", b"text/*")),
    )


def prefers_stream(accept: bytes | None) -> bool:
    """Whether event streams are named before JSON: nothing else tells which one a client likes better."""
    kinds = (accept or b"").lower()
    return 0 <= kinds.find(b"text/event-stream") < kinds.find(b"application/json")


def call_header(call: str) -> tuple[bytes, bytes]:
    """The call id as HTTP headers carry it."""
    return (b"x-portico-call", call.encode("ascii"))


def check_room(streams: OpenStreams, principal: Principal, call: Call) -> None:
    """Raises Turned when no other stream may be opened."""
    try:
        streams.check(principal, call)
    except Refusal as refusal:
        words = refused(refusal, call.operation, "modern")
        raise Turned(words.status, words) from refusal


def unknown_session() -> Turned:
    """What every session id gets that is not the caller's own."""
    return Turned(404, Words(code=codes.INVALID_REQUEST, message="Unknown session."))
