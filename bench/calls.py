"""The requests that callers send: whole HTTP messages, made before anything is measured.

A load generator puts a fresh id of eight digits in the place of :data:`ID` each time, and a generator
of streams the same number for the progress token; the length stays the same, so that nothing else has
to change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.upstream import CHUNKS_TOOL, JSON_TOOL, STREAM_TOOL
from bench.variants import Variant
from mcp_wire.codes import META_CLIENT_CAPABILITIES, META_PROGRESS, META_REVISION
from mcp_wire.headers import METHOD_HEADER, NAME_HEADER, REVISION_HEADER, SESSION_HEADER
from mcp_wire.jsonrpc import encode

ID: Final = b"10000000"
SEPARATOR: Final = b"\0"


def text_of(variant: Variant) -> str:
    """The argument of its calls."""
    return ("The quick brown fox jumps over the lazy dog. " * (variant.text_bytes // 45 + 1))[
        : variant.text_bytes
    ]


def params_of(variant: Variant) -> dict[str, Any]:
    """The parameters of its requests, envelope included."""
    params: dict[str, Any] = {}
    if variant.method == "tools/call":
        params = {"name": _tool_of(variant), "arguments": {"text": text_of(variant)}}
    meta: dict[str, Any] = {}
    if variant.chunks:
        params["arguments"] |= {"chunks": variant.chunks, "pause_ms": variant.pause_ms}
        meta[META_PROGRESS] = int(ID)
    if variant.era == "modern":
        meta |= {META_REVISION: variant.revision, META_CLIENT_CAPABILITIES: {}}
    return {**params, "_meta": meta} if meta else params


def _tool_of(variant: Variant) -> str:
    if variant.chunks:
        return CHUNKS_TOOL
    return STREAM_TOOL if variant.streamed else JSON_TOOL


def headers_of(variant: Variant, session: str | None) -> dict[str, str]:
    """The headers its requests have beside those of HTTP itself."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        REVISION_HEADER: variant.revision,
    }
    if variant.era == "modern":
        headers[METHOD_HEADER] = variant.method
        if variant.method == "tools/call":
            headers[NAME_HEADER] = _tool_of(variant)
    if session is not None:
        headers[SESSION_HEADER] = session
    return headers


def request_of(
    url: str, variant: Variant, session: str | None, credentials: Mapping[str, str]
) -> bytes:
    """One HTTP request with :data:`ID` for its id."""
    body = b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (
        ID,
        variant.method.encode(),
        encode(params_of(variant)),
    )
    address = urlsplit(url)
    headers = {
        "Host": address.netloc,
        **headers_of(variant, session),
        **credentials,
        "Content-Length": str(len(body)),
    }
    lines = [
        f"POST {address.path} HTTP/1.1",
        *(f"{key}: {value}" for key, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def write_requests(file: Path, requests: Sequence[bytes]) -> None:
    """Keep requests where a load generator reads them; they hold no NUL."""
    file.write_bytes(SEPARATOR.join(requests))
