"""The HTTP answer to an operation as the result of its tool."""

import zlib
from base64 import b64encode
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import Raw

from connectors.http_message import Response, header_of
from connectors.openapi_operation import Operation
from connectors.outcome import Failure, Result
from mcp_wire.jsonrpc import raw
from mcp_wire.revisions import era_of
from mcp_wire.wellformed import UNREADABLE

MAX_ERROR_BYTES: Final = 16 * 1024
"""How much of the body of a failed request is told."""
META_STATUS: Final = "io.portico/http_status"

_INFLATING: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_raw: Final = msgspec.json.Decoder(Raw)


def answer_of(
    operation: Operation, response: Response, revision: str, max_bytes: int
) -> Result | Failure:
    """A failed request is a result as well, one that says so: the tool ran.

    A Failure is an answer that cannot be read.
    """
    try:
        body = _plain_body(response, max_bytes)
    except zlib.error:
        return Failure("violation", "The upstream's answer cannot be decompressed.")
    if body is None:
        return Failure("violation", "The upstream's answer is too large.")
    media_type, charset = _media_type(response)
    if not 200 <= response.status < 300:
        words = f"{_status_line(response)}\n{_decoded(body[:MAX_ERROR_BYTES], charset)}".rstrip()
        return tool_result(words, revision, status=response.status, is_error=True)
    result: dict[str, Any] = {"content": []}
    if body:
        result["content"] = [_content(operation, body, media_type, charset)]
    elif operation.method == "HEAD":
        result["content"] = [{"type": "text", "text": _head(response)}]
    else:
        result["content"] = [{"type": "text", "text": _status_line(response)}]
    structured = _structured(body) if _is_json(media_type) else None
    if structured is not None:
        result["structuredContent"] = structured
    elif operation.is_structured:
        result["structuredContent"] = {}
    return _ended(result, revision, status=response.status)


def tool_result(
    words: str, revision: str, *, status: int | None = None, is_error: bool = False
) -> Result:
    """A result that is a text."""
    result: dict[str, Any] = {"content": [{"type": "text", "text": words}]}
    if is_error:
        result["isError"] = True
    return _ended(result, revision, status=status)


def _ended(result: dict[str, Any], revision: str, *, status: int | None) -> Result:
    if status is not None:
        result["_meta"] = {META_STATUS: status}
    if era_of(revision) == "modern":
        result["resultType"] = "complete"
    return Result(raw(result))


def _content(operation: Operation, body: bytes, media_type: str, charset: str) -> Mapping[str, Any]:
    """Text as text, pictures and sounds as such, anything else as an embedded resource."""
    if _is_json(media_type) or media_type.startswith("text/") or media_type.endswith("xml"):
        return {"type": "text", "text": _decoded(body, charset)}
    data = b64encode(body).decode()
    family = media_type.partition("/")[0]
    if family in {"image", "audio"}:
        return {"type": family, "data": data, "mimeType": media_type}
    resource = {"uri": f"openapi://answer/{operation.name}", "mimeType": media_type, "blob": data}
    return {"type": "resource", "resource": resource}


def _structured(body: bytes) -> Raw | None:
    """The body itself when it is a JSON object, byte for byte."""
    try:
        if not body.isascii():
            body.decode()
        value = _raw.decode(body)
    except UNREADABLE:
        return None
    return value if bytes(memoryview(value)[:1]) == b"{" else None


def _plain_body(response: Response, max_bytes: int) -> bytes | None:
    """The body without its content coding; None when it is too large that way."""
    coding = (header_of(response.headers, b"content-encoding") or "").lower()
    window = _INFLATING.get(coding)
    if window is None or not response.body:
        return response.body
    inflater = zlib.decompressobj(window)
    body = inflater.decompress(response.body, max_bytes)
    return None if inflater.unconsumed_tail else body


def _media_type(response: Response) -> tuple[str, str]:
    """Media type in lower case, and charset."""
    value = header_of(response.headers, b"content-type") or "application/octet-stream"
    media_type, *parameters = (part.strip() for part in value.split(";"))
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media_type.lower(), text.strip(" \"'")
    return media_type.lower(), "utf-8"


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset, errors="replace")
    except LookupError:
        return body.decode(errors="replace")


def _status_line(response: Response) -> str:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP {response.status} {phrase}".rstrip()


def _head(response: Response) -> str:
    fields = (
        f"{name.decode('latin-1')}: {value.decode('latin-1')}"
        for name, value in response.headers
        if name != b"set-cookie"
    )
    return "\n".join((_status_line(response), *fields))
