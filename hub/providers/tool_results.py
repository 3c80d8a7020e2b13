"""Results of Portico's own tools."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from hub.domain.outcome import Result
from mcp_wire.jsonrpc import encode, raw


def structured(value: Mapping[str, Any]) -> Result:
    """A result as structured content, and as text for clients that do not know that."""
    text = encode(value)
    content = [{"type": "text", "text": text.decode()}]
    return Result(raw({"content": content, "structuredContent": Raw(text), "isError": False}))


def failed(text: str) -> Result:
    """A result that says what was wrong, for the model to try again."""
    return Result(raw({"content": [{"type": "text", "text": text}], "isError": True}))


def arguments_of(params: Mapping[str, Raw]) -> dict[str, Any] | None:
    """The arguments of a tool call as plain values; None where they are no object."""
    try:
        return msgspec.json.decode(params.get("arguments", b"{}"), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
