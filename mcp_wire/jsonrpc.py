"""JSON-RPC 2.0 messages, decoded one level deep: what nobody inspects stays the bytes that came.

Members are :class:`msgspec.Raw`, so integers beyond 2**53, ``1e400``, explicit nulls and unknown
fields cross unchanged. Repeated keys collapse to the last, the one that is also forwarded.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from mcp_wire.wellformed import UNREADABLE, decoded, read_again

Members = Mapping[str, Raw]
"""A JSON object decoded one level deep."""

NULL: Final = Raw(b"null")
EMPTY_OBJECT: Final = Raw(b"{}")


class Message(Struct, gc=False):
    """One request, notification or answer; which one says :meth:`is_request` and its siblings."""

    jsonrpc: str | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET

    @property
    def is_request(self) -> bool:
        """Whether an answer is owed: a method with an ``id`` member (JSON-RPC 2.0 section 4)."""
        return self.method is not UNSET and self.id is not UNSET

    @property
    def is_notification(self) -> bool:
        """Whether it has a method and no ``id`` member (JSON-RPC 2.0 section 4.1)."""
        return self.method is not UNSET and self.id is UNSET

    @property
    def is_answer(self) -> bool:
        """Whether it answers a request: a result or an error, and no method."""
        return self.method is UNSET and (self.result is not UNSET or self.error is not UNSET)


class ErrorBody(Struct, gc=False):
    """The ``error`` member of an answer."""

    code: int
    message: str = ""
    data: Raw | UnsetType = UNSET


_encoder: Final = msgspec.json.Encoder()
encode: Final[Callable[[Any], bytes]] = _encoder.encode
"""JSON text of plain values, Structs and Raw members."""
_message: Final = msgspec.json.Decoder(Message)
_members: Final = msgspec.json.Decoder(dict[str, Raw])
_error: Final = msgspec.json.Decoder(ErrorBody)
_string: Final = msgspec.json.Decoder(str)
_items: Final = msgspec.json.Decoder(list[Raw])


def decode_message(body: bytes | memoryview | Raw) -> Message:
    """Read one message. Raises :class:`msgspec.DecodeError` or ``ValidationError`` (a subclass)."""
    try:
        if isinstance(body, bytes) and not body.isascii():
            body.decode()
        return decoded(_message, body)
    except UNREADABLE as error:
        return read_again(_message, body, error)


def decode_batch(body: bytes | Raw) -> list[Raw]:
    """Read a JSON array one level deep (2025-03-26 batches). Raises :class:`msgspec.DecodeError`."""
    try:
        if isinstance(body, bytes) and not body.isascii():
            body.decode()
        return decoded(_items, body)
    except UNREADABLE as error:
        return read_again(_items, body, error)


def decode_members(raw: bytes | Raw) -> dict[str, Raw]:
    """Read an object one level deep, in its order. Raises :class:`msgspec.DecodeError` otherwise."""
    try:
        return _members.decode(raw)
    except UNREADABLE as error:
        return read_again(_members, raw, error)


def members_of(raw: Raw | UnsetType | None) -> dict[str, Raw]:
    """The members of an optional object; absent reads as empty."""
    return decode_members(raw) if isinstance(raw, Raw) else {}


def decode_error(raw: bytes | Raw) -> ErrorBody:
    """Read an error member. Raises :class:`msgspec.DecodeError` when it has no integer code."""
    try:
        return _error.decode(raw)
    except UNREADABLE as error:
        return read_again(_error, raw, error)


def string_of(raw: Raw | None) -> str | None:
    """The text of a JSON string; anything else, and absence, is None."""
    if raw is None:
        return None
    try:
        return _string.decode(raw)
    except UNREADABLE as error:
        return read_again(_string, raw, error) if bytes(raw)[:1] == b'"' else None


def raw(value: Any) -> Raw:
    """The same as :func:`encode`, to be spliced in a larger message."""
    return Raw(_encoder.encode(value))


def encode_request(request_id: int | str, method: str, params: Any) -> bytes:
    """A request; ``params`` may be members, Raw or plain values."""
    return _encoder.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def encode_notification(method: str, params: Any = None) -> bytes:
    """A notification; ``params`` is left out when None."""
    if params is None:
        return _encoder.encode({"jsonrpc": "2.0", "method": method})
    return _encoder.encode({"jsonrpc": "2.0", "method": method, "params": params})


def encode_result(request_id: Raw, result: bytes | Raw) -> bytes:
    """The answer of a request that succeeded; the id is echoed byte for byte."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, result)


def encode_error(
    request_id: Raw | None, code: int, message: str, data: Raw | UnsetType | None = None
) -> bytes:
    """The answer of a request that failed; an unreadable id is answered as null."""
    body: dict[str, Any] = {"code": code, "message": message}
    if isinstance(data, Raw):
        body["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id or NULL, _encoder.encode(body))
