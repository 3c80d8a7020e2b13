"""Inputs of both edges of MCP: messages, event streams, header values."""

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, Final

import msgspec
from msgspec import Raw

from hub.surfaces.asgi import Fields
from hub.surfaces.mcp.inbound import (
    Inbound,
    Malformed,
    check_envelope,
    check_headers,
    check_revision,
    era_over_http,
    is_batch,
    log_level_of,
    members_param,
    parse,
    parse_batch,
    text_param,
)
from hub.surfaces.mcp.listen import wanted_by
from mcp_wire.headers import (
    build_param_headers,
    decode_header_value,
    encode_header_value,
    find_duplicate_routing_header,
    find_invalid_param_header,
    find_param_mismatch,
    param_header_map,
    strip_param_headers,
)
from mcp_wire.revisions import LATEST_MODERN
from mcp_wire.sse import SseDecoder, SseError, encode_frame
from tests.fuzz.mutation import JSON_WORDS
from tests.fuzz.target import Target, pure, tried

PARSE_CODES: Final = frozenset((-32700, -32600, -32602))
CHECK_CODES: Final = frozenset((-32602, -32020, -32022))
FIELDS: Final = (
    Fields([]),
    Fields([
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", b"=?base64?w6k=?="),
    ]),
)
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half characters, which are read as U+FFFD."""
SMALL_FRAME: Final = 64


def loads(text: bytes) -> Any:
    """JSON strictly in UTF-8, whatever the size of its numbers."""
    return json.loads(text.decode(), parse_int=str, parse_float=str)


def inbound(body: bytes) -> None:
    """A body is one message, a batch of them, or says why it is not; never anything else."""
    if is_batch(body):
        items = tried(lambda: parse_batch(body), Malformed)
        if isinstance(items, Malformed):
            assert items.code in PARSE_CODES
            return
        for item in items:
            _one(item)
    else:
        _one(body)


def _one(body: bytes | Raw) -> None:
    message = tried(lambda: parse(body), Malformed)
    if isinstance(message, Malformed):
        assert message.code in PARSE_CODES
        assert message.request_id is None or isinstance(_id(message.request_id), str)
        return
    value = loads(bytes(body))
    assert message.method == _HALF.sub("\ufffd", value.get("method", ""))
    assert message.id is None or isinstance(_id(message.id), str)
    for member in (*message.params.values(), *message.meta.values()):
        loads(bytes(member))
    for fields in FIELDS:
        assert era_over_http(message, fields.get(b"mcp-protocol-version")) in {"legacy", "modern"}
        _examined(message, fields)


def _examined(message: Inbound, fields: Fields) -> None:
    looks: list[Callable[[], object]] = [
        lambda: log_level_of(message),
        lambda: wanted_by(message),
        lambda: check_headers(message, LATEST_MODERN, fields),
        lambda: check_revision(message, check_envelope(message)),
        *(partial(text_param, message, name) for name in message.params),
        *(partial(members_param, message, name) for name in message.params),
    ]
    for look in looks:
        found = tried(look, Malformed)
        if isinstance(found, Malformed):
            assert found.code in CHECK_CODES
            assert found.request_id is message.id


def _id(request_id: Raw) -> Any:
    """An id as text, which is what both of its kinds are read as here."""
    return loads(bytes(request_id))


def sse(stream: bytes) -> None:
    """However a stream is cut, the same events come out, and no more is kept than one event."""
    whole = _fed([stream])
    assert whole == _fed([stream[at : at + 1] for at in range(len(stream))])
    digest = hashlib.sha256(stream).digest()
    cuts = sorted({0, len(stream), *(byte * len(stream) // 255 for byte in digest[:6])})
    assert whole == _fed([stream[start:end] for start, end in pairwise(cuts)])
    frames, last_id, _ = whole
    for frame in frames:
        assert frame.data
        if "\0" not in frame.event + frame.id:
            encoded = encode_frame(frame.data, event=frame.event, id=frame.id)
            assert SseDecoder().feed(encoded) == [frame]
    assert "\0" not in last_id
    decoder = SseDecoder(SMALL_FRAME)
    try:
        for at in range(0, len(stream), 7):
            for frame in decoder.feed(stream[at : at + 7]):
                assert len(frame.data) <= SMALL_FRAME
    except SseError:
        assert len(stream) > SMALL_FRAME


def _fed(chunks: list[bytes]) -> tuple[list[Any], str, int | None]:
    decoder = SseDecoder()
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return frames, decoder.last_id, decoder.retry_ms


def header_values(data: bytes) -> None:
    """A header's value reads as text or as nothing; text that is written reads back as it was."""
    decode_header_value(data.decode("latin-1"))
    text = data.decode("utf-8", "replace")
    encoded = encode_header_value(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert decode_header_value(encoded) == text
    lines = [
        (name, value) for name, _, value in (line.partition(b":") for line in data.split(b"\n"))
    ]
    find_duplicate_routing_header(lines)


def param_headers(data: bytes) -> None:
    """Schema, arguments, header fields, a line each: mirroring never raises and agrees with itself."""
    lines = data.split(b"\n")
    schema, arguments = _json(lines[0]), lines[1] if len(lines) > 1 else b""
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in lines[2:])]
    if schema is not None:
        stripped = strip_param_headers(msgspec.json.decode(lines[0], type=Raw))
        assert find_invalid_param_header(loads(bytes(stripped))) is None
    header_map = {("a",): "A", ("b", "c"): "C"}
    if schema is not None and find_invalid_param_header(schema) is None:
        header_map = param_header_map(schema)
    if _json(arguments) is None:
        return
    taken = msgspec.json.decode(arguments, type=Raw)
    find_param_mismatch(header_map, taken, fields)
    built = build_param_headers(header_map, taken)
    assert all(value.isascii() and value.isprintable() for _, value in built)
    sent = [(name.encode(), value.encode()) for name, value in built]
    if b"\\ud" not in arguments.lower():
        assert find_param_mismatch(header_map, taken, sent) is None


def _json(text: bytes) -> Any:
    """What an edge would have taken for JSON, and handed on."""
    try:
        msgspec.json.decode(text, type=Raw)
        return json.loads(text.decode(), parse_float=float)
    except (ValueError, RecursionError):
        return None


MESSAGE_WORDS: Final = (
    *JSON_WORDS,
    b'"jsonrpc":"2.0"', b'"id":1', b'"id":null', b'"id":""', b'"method":"tools/call"', b'"params":{}',
    b'"result":{}', b'"error":{"code":1,"message":""}', b'"_meta":{}', b"initialize", b"tools/list",
    b"io.modelcontextprotocol/protocolVersion", b"io.modelcontextprotocol/clientCapabilities",
    b"io.modelcontextprotocol/logLevel", b"progressToken", b"2026-07-28", b"2025-11-25", b"name",
    b"arguments", b"uri", b"cursor", b"requestId", b"resourceSubscriptions", b"notifications",
    b"inputResponses", b"requestState",
)  # fmt: skip
TARGETS: Final = (
    Target("inbound", pure(inbound), MESSAGE_WORDS),
    Target(
        "sse",
        pure(sse),
        (
            b"data: ", b"data", b"data:", b"event: ", b"id: ", b"id", b"retry: 10", b":", b"\r\n",
            b"\r", b"\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"\0", b"\xff", b"x" * 70,
        ),
        max_bytes=1024,
    ),
    Target(
        "header_values",
        pure(header_values),
        (b"=?base64?", b"?=", b"eA==", b"/w==", b" ", b"\t", b"\x7f", b"\xc3\xa9", b"mcp-name:x\n"),
        max_bytes=1024,
    ),
    Target(
        "param_headers",
        pure(param_headers),
        (
            *JSON_WORDS, b"x-mcp-header", b"properties", b'"type":"string"', b'"type":"integer"',
            b"Mcp-Param-A: ", b"items", b"anyOf", b"$defs", b"4.0", b"=?base64?eA==?=",
        ),
    ),
)  # fmt: skip
