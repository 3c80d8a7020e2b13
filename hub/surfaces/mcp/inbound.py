"""One message as it came: its parts, its era, and why it cannot be taken.

Pure: no I/O, and no input makes it raise anything but :class:`Malformed`. The era is decided from
the body (mcp.md S1); header fields are compared with it and never believed over it.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from hub.domain.outcome import Refusal
from hub.surfaces.asgi import Fields
from mcp_wire import codes
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.headers import NAME_PARAMS, decode_header_value
from mcp_wire.jsonrpc import EMPTY_OBJECT, Message, decode_batch, decode_members, raw, string_of
from mcp_wire.revisions import LATEST_MODERN, MODERN_REVISIONS, REVISIONS, Era
from mcp_wire.wellformed import decoded, with_whole_characters

MAX_ID_BYTES: Final = 1024


class Malformed(Exception):  # noqa: N818 -- says what the message is
    """A message that is answered with an error before it becomes a call."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        request_id: Raw | None = None,
        data: Any = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.data = None if data is None else raw(data)


class Mismatch(Refusal):
    """Header fields that disagree with the body, found once the call's schema was known (S4)."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid", message, cause="header mismatch")


class Inbound(Struct, frozen=True, gc=False):
    """One request, notification or answer."""

    method: str
    """Empty for an answer."""
    id: Raw | None
    """As it came; None for a notification."""
    params: dict[str, Raw]
    """Without ``_meta``."""
    meta: dict[str, Raw]
    answer: Message | None = None

    @property
    def is_request(self) -> bool:
        """Whether an answer is owed."""
        return self.id is not None and self.answer is None

    @property
    def is_modern(self) -> bool:
        """Whether it carries the envelope of the modern era."""
        return codes.META_REVISION in self.meta


class _Envelope(Struct, gc=False):
    jsonrpc: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: dict[str, Raw] | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _IdOnly(Struct, gc=False):
    id: Raw | UnsetType = UNSET


_envelope: Final = msgspec.json.Decoder(_Envelope)
_id_only: Final = msgspec.json.Decoder(_IdOnly)
_LATEST: Final = raw(LATEST_MODERN)
_VERSION: Final = raw("2.0")
_ROUTING: Final = frozenset((b"mcp-protocol-version", b"mcp-method", b"mcp-name"))
_NO_META: Final[dict[str, Raw]] = {}


def parse(body: bytes | Raw) -> Inbound:
    """Read one message. Raises Malformed, with the id where one could be read.

    The text is checked whole, so that what nobody decodes can be decoded later (RFC 8259 8.1).
    """
    try:
        if isinstance(body, bytes) and not body.isascii():
            body.decode()
        envelope = decoded(_envelope, body)
    except (msgspec.DecodeError, RecursionError):
        whole = with_whole_characters(bytes(body))
        if whole is not None:
            return parse(whole)
        raise _unreadable(body) from None
    except UnicodeDecodeError:
        raise Malformed(codes.PARSE_ERROR, "The body is not UTF-8.") from None
    request_id = None if envelope.id is UNSET else envelope.id
    if request_id is not None and not _is_id(request_id):
        raise Malformed(codes.INVALID_REQUEST, "'id' must be a string or a number.")
    if envelope.jsonrpc != _VERSION:
        raise Malformed(codes.INVALID_REQUEST, "'jsonrpc' must be \"2.0\".", request_id=request_id)
    if envelope.method is UNSET:
        return _answer(envelope, request_id)
    params = {} if envelope.params is UNSET else envelope.params
    meta = _NO_META
    if "_meta" in params:
        try:
            meta = decode_members(params.pop("_meta"))
        except (msgspec.DecodeError, RecursionError):
            raise Malformed(
                codes.INVALID_PARAMS, "'params._meta' must be an object.", request_id=request_id
            ) from None
    return Inbound(envelope.method, request_id, params, meta)


def id_of(body: bytes) -> Raw | None:
    """The id of whatever message a body may be, for a refusal that has nothing to do with it."""
    try:
        return parse(body).id
    except Malformed as error:
        return error.request_id


def parse_batch(body: bytes) -> list[Raw]:
    """The messages of a batch (2025-03-26). Raises Malformed."""
    try:
        return decode_batch(body)
    except (msgspec.DecodeError, RecursionError):
        raise Malformed(codes.PARSE_ERROR, "The body is not JSON.") from None


def is_batch(body: bytes) -> bool:
    """Whether the body is a JSON array."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def era_over_http(message: Inbound, revision_header: str | None) -> Era:
    """The era of a message: its envelope, else its handshake, else what its version header says."""
    if message.is_modern:
        return "modern"
    if message.method == "initialize":
        return "legacy"
    return "modern" if revision_header in MODERN_REVISIONS else "legacy"


def check_envelope(message: Inbound) -> str:
    """The revision that a modern request says it speaks. Raises Malformed (mcp.md S2)."""
    for key in (codes.META_REVISION, codes.META_CLIENT_CAPABILITIES):
        if key not in message.meta:
            raise Malformed(
                codes.INVALID_PARAMS, f"'params._meta' lacks {key}.", request_id=message.id
            )
    said, declared = message.meta[codes.META_REVISION], message.meta[codes.META_CLIENT_CAPABILITIES]
    revision = LATEST_MODERN if said == _LATEST else text_of(said)
    if revision is None:
        raise Malformed(
            codes.INVALID_PARAMS, f"'{codes.META_REVISION}' must be text.", request_id=message.id
        )
    if declared != EMPTY_OBJECT and not is_object(declared):
        raise Malformed(
            codes.INVALID_PARAMS,
            f"'{codes.META_CLIENT_CAPABILITIES}' must be an object.",
            request_id=message.id,
        )
    return revision


def check_headers(message: Inbound, revision: str, fields: Fields) -> None:
    """Compare routing headers with the body. Raises Malformed with -32020 (mcp.md S3)."""
    if not fields.repeated.isdisjoint(_ROUTING):
        raise _mismatch(message, "A routing header came more than once.")
    if fields.get(b"mcp-protocol-version") != revision:
        raise _mismatch(message, f"MCP-Protocol-Version must be {revision!r} as in the body.")
    if fields.get(b"mcp-method") != message.method:
        raise _mismatch(message, "Mcp-Method must be the method in the body.")
    param = NAME_PARAMS.get(message.method)
    if param is None:
        return
    name = text_of(message.params.get(param))
    if name is not None and decode_header_value(fields.get(b"mcp-name")) != name:
        raise _mismatch(message, f"Mcp-Name must be 'params.{param}' of the body.")


def check_revision(message: Inbound, revision: str) -> None:
    """Raises Malformed with -32022 for a revision that is not served to modern requests."""
    if revision not in MODERN_REVISIONS:
        raise unsupported(revision, message.id)


def unsupported(revision: str, request_id: Raw | None) -> Malformed:
    """The error that names every revision served here, so that clients of any era find one."""
    return Malformed(
        codes.UNSUPPORTED_REVISION,
        "Unsupported protocol version.",
        request_id=request_id,
        data={"supported": list(reversed(REVISIONS)), "requested": revision},
    )


def log_level_of(message: Inbound) -> str | None:
    """The level that a modern request asks logs for (mcp.md S13). Raises Malformed."""
    wanted = message.meta.get(codes.META_LOG_LEVEL)
    if wanted is None:
        return None
    level = text_of(wanted)
    if level not in LOG_LEVELS:
        raise Malformed(codes.INVALID_PARAMS, "Unknown log level.", request_id=message.id)
    return level


def text_of(value: Raw | None) -> str | None:
    """The text of a JSON string, and None for anything else, text that is no UTF-8 included."""
    try:
        return string_of(value)
    except msgspec.DecodeError:
        return None


def is_object(value: Raw) -> bool:
    """Whether a value that was read once is a JSON object."""
    return bytes(memoryview(value)[:1]) == b"{"


def text_param(message: Inbound, name: str) -> str:
    """A parameter that must be text. Raises Malformed."""
    value = text_of(message.params.get(name))
    if value is None:
        raise Malformed(codes.INVALID_PARAMS, f"'{name}' must be text.", request_id=message.id)
    return value


def members_param(message: Inbound, name: str) -> dict[str, Raw]:
    """A parameter that must be an object; absent reads as empty. Raises Malformed."""
    value = message.params.get(name)
    if value is None:
        return {}
    try:
        return decode_members(value)
    except (msgspec.DecodeError, RecursionError):
        raise Malformed(
            codes.INVALID_PARAMS, f"'{name}' must be an object.", request_id=message.id
        ) from None


def _answer(envelope: _Envelope, request_id: Raw | None) -> Inbound:
    if request_id is None or (envelope.result is UNSET and envelope.error is UNSET):
        raise Malformed(
            codes.INVALID_REQUEST,
            "The message is no request, notification or answer.",
            request_id=request_id,
        )
    answer = Message(id=request_id, result=envelope.result, error=envelope.error)
    return Inbound("", request_id, {}, _NO_META, answer)


def _unreadable(body: bytes | Raw) -> Malformed:
    """The error for a body of another shape, with its id where there is one to be found."""
    try:
        found = _id_only.decode(body).id
    except msgspec.ValidationError:
        return Malformed(codes.INVALID_REQUEST, "The body must be one JSON-RPC message.")
    except (msgspec.DecodeError, RecursionError):
        return Malformed(codes.PARSE_ERROR, "The body is not JSON.")
    request_id = found if isinstance(found, Raw) and _is_id(found) else None
    return Malformed(
        codes.INVALID_REQUEST,
        "The message is malformed: 'method' must be text and 'params' an object.",
        request_id=request_id,
    )


def _is_id(value: Raw) -> bool:
    text = bytes(value)
    return len(text) <= MAX_ID_BYTES and (text.isdigit() or text[:1] in b'"-' or text[:1].isdigit())


def _mismatch(message: Inbound, text: str) -> Malformed:
    return Malformed(codes.HEADER_MISMATCH, text, request_id=message.id)
