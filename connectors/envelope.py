"""What surrounds a request's own parameters on an MCP wire, and how its answer is read back."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Final

import msgspec
from msgspec import Raw

from connectors.outcome import Failure, Result
from connectors.protocol import Request
from mcp_wire.codes import (
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_PROGRESS,
    META_REVISION,
)
from mcp_wire.jsonrpc import EMPTY_OBJECT, Message, decode_error, decode_members, members_of, raw

_TRACEPARENT: Final = "traceparent"
_EXTENSIONS: Final = "extensions"


_COMPLETE: Final = raw("complete")
_INPUT_REQUIRED: Final = raw("input_required")


@cache
def own_identity() -> Raw:
    """Portico as a client of its upstreams: the ``clientInfo`` of both eras."""
    return raw({"name": "portico", "version": version("portico")})


def modern_meta(
    revision: str,
    client_capabilities: Raw = EMPTY_OBJECT,
    client_info: Raw | None = None,
) -> dict[str, Raw]:
    """The reserved ``_meta`` keys every modern request carries (2026-07-28 basic, ``_meta``)."""
    return {
        META_REVISION: raw(revision),
        META_CLIENT_CAPABILITIES: client_capabilities,
        META_CLIENT_INFO: client_info or own_identity(),
    }


def with_meta(params: Mapping[str, Raw], meta: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """``params`` with ``_meta`` beside them; as they are when there is none."""
    return {**params, "_meta": raw(meta)} if meta else params


def request_params(
    request: Request, *, modern_revision: str | None, progress_token: int
) -> Mapping[str, Raw]:
    """Parameters of ``request`` as they go on the wire, ``_meta`` included.

    ``modern_revision`` stamps the envelope of that revision; None is a legacy upstream.
    """
    meta: dict[str, Raw] = dict(request.meta)
    if request.wants_progress:
        meta[META_PROGRESS] = raw(progress_token)
    if request.traceparent is not None:
        meta[_TRACEPARENT] = raw(request.traceparent)
    if modern_revision is not None:
        meta |= modern_meta(modern_revision, request.client_capabilities, request.client_info)
        if request.log_level is not None:
            meta[META_LOG_LEVEL] = raw(request.log_level)
    return with_meta(request.params, meta)


def end_of(answer: Message, *, modern: bool, extensions: bool = False) -> Result | Failure:
    """The neutral end that an answer stands for; its body is not looked into any further.

    An absent ``resultType`` reads as complete, an unknown one breaks the protocol unless the caller
    declared ``extensions`` (mcp.md C7).
    """
    if isinstance(answer.error, Raw):
        try:
            error = decode_error(answer.error)
        except msgspec.DecodeError:
            return Failure("violation", "The upstream answered with an unreadable error.")
        data = error.data if isinstance(error.data, Raw) else None
        return Failure("error", error.message, code=error.code, data=data)
    result = answer.result
    if not isinstance(result, Raw) or bytes(memoryview(result)[:1]) != b"{":
        return Failure("violation", "The upstream answered with a result that is no object.")
    if not modern:
        return Result(result)
    try:
        members = decode_members(result)
    except msgspec.DecodeError:
        return Failure("violation", "The upstream answered with an unreadable result.")
    kind = members.get("resultType")
    if kind == _INPUT_REQUIRED:
        return Result(result, input_required=True, members=members)
    if kind is not None and kind != _COMPLETE and not extensions:
        return Failure("violation", "The upstream answered with an unknown type of result.")
    return Result(result, members=members)


def declares_extensions(client_capabilities: Raw) -> bool:
    """Whether the caller negotiated extensions, and with them further types of result."""
    return _EXTENSIONS in members_of(client_capabilities)
