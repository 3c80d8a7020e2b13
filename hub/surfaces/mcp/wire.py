"""Answers and notifications as each era has them, spliced from members that stay as they came."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from hub.surfaces.mcp.calls import CACHEABLE
from hub.surfaces.mcp.down_level import (
    add_content,
    drop_structured,
    result_for,
    with_object_schemas,
)
from hub.wire_errors import Words
from mcp_wire import codes
from mcp_wire.jsonrpc import (
    decode_members,
    encode,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    raw,
)
from mcp_wire.revisions import LATEST_LEGACY

CHANGED_METHODS: Final = {
    "tools": "notifications/tools/list_changed",
    "resources": "notifications/resources/list_changed",
    "prompts": "notifications/prompts/list_changed",
}

_COMPLETE: Final = raw("complete")
_NO_TTL: Final = raw(0)
_LIST_TTL: Final = raw(5000)
"""Milliseconds: short, as grants change and not every client listens."""
_PUBLIC: Final = raw("public")
_PRIVATE: Final = raw("private")
_NOT_FOUND: Final = frozenset(("uri",))
_MODERN_ONLY: Final = ("resultType", "ttlMs", "cacheScope")


def modern_result(
    members: dict[str, Any], method: str, call: str, server_info: Raw, *, public: bool = False
) -> bytes:
    """A result with what every modern one carries (mcp.md S8, S9); whatever else it has stays.

    ``members`` are the taker's to change; ``public``: everyone who reaches this virtual server gets
    the same.
    """
    if method == "tools/call" and "resultType" not in members:
        add_content(members)
    kind = members.setdefault("resultType", _COMPLETE)
    if method in CACHEABLE and kind == _COMPLETE:
        _say_how_long(members, method, public=public)
    meta: dict[str, Any] = _meta_of(members) if "_meta" in members else {}
    meta[codes.META_SERVER_INFO] = server_info
    meta[codes.META_CALL] = call
    members["_meta"] = meta
    return encode(members)


def _say_how_long(members: dict[str, Raw], method: str, *, public: bool) -> None:
    """Whatever an upstream says, ``public`` is only what is the same for everybody (row 16)."""
    if method == "resources/read":
        members.setdefault("ttlMs", _NO_TTL)
        if not public:
            members["cacheScope"] = _PRIVATE
        members.setdefault("cacheScope", _PRIVATE)
    else:
        members["ttlMs"] = _LIST_TTL
        members["cacheScope"] = _PUBLIC if public else _PRIVATE


def legacy_result(body: Raw, method: str, call: str, revision: str) -> bytes:
    """A result without what only the modern era, or a younger revision, knows (mcp.md rows 16 to 19).

    An empty one stays empty, as some clients want it; over HTTP a header has the call id as well.
    """
    if revision != LATEST_LEGACY:
        body = result_for(body, method, revision)
    if method == "tools/list":
        body = with_object_schemas(body)
    members = decode_members(body)
    if not members:
        return b"{}"
    meta = _meta_of(members)
    meta.pop(codes.META_SERVER_INFO, None)
    meta[codes.META_CALL] = raw(call)
    members["_meta"] = raw(meta)
    if "resultType" in members or method in CACHEABLE:
        for name in _MODERN_ONLY:
            members.pop(name, None)
    structured = members.get("structuredContent")
    if structured is not None and bytes(memoryview(structured)[:1]) not in b"{n":
        drop_structured(members)
    return msgspec.json.encode(members)


def error_answer(request_id: Raw | None, words: Words, call: str) -> bytes:
    """An error; the call id joins ``data`` where that is an object or absent."""
    return encode_error(request_id, words.code, words.message, _with_call(words.data, call))


def progress(token: Raw, params: Mapping[str, Raw]) -> bytes:
    """A progress notification under the caller's own token."""
    return encode_notification("notifications/progress", {**params, "progressToken": token})


def log_message(params: Mapping[str, Raw]) -> bytes:
    """A log notification."""
    return encode_notification("notifications/message", params)


def list_changed(method: str, subscription: Raw | None) -> bytes:
    """A list has changed; ``subscription`` is the id of a modern listen request."""
    return encode_notification(method, _stamp(subscription) or None)


def resource_updated(uri: str, subscription: Raw | None) -> bytes:
    """A resource has new content."""
    return encode_notification(
        "notifications/resources/updated", {"uri": uri, **_stamp(subscription)}
    )


def elicitation_completed(elicitation: str) -> bytes:
    """An elicitation by URL is settled (2025-11-25)."""
    return encode_notification("notifications/elicitation/complete", {"elicitationId": elicitation})


def acknowledged(honoured: Mapping[str, Raw], subscription: Raw) -> bytes:
    """The first frame of a listen stream: what of the request is honoured (mcp.md S12)."""
    params = {"notifications": honoured, **_stamp(subscription)}
    return encode_notification("notifications/subscriptions/acknowledged", params)


def listen_end(subscription: Raw, call: str, server_info: Raw) -> bytes:
    """The graceful end of a listen stream."""
    members = {"_meta": raw({codes.META_SUBSCRIPTION: subscription})}
    return encode_result(
        subscription, modern_result(members, "subscriptions/listen", call, server_info)
    )


def ask(request_id: str, method: str, params: Raw, vendor_keys: Mapping[str, Raw]) -> bytes:
    """A request to a legacy client, with the vendor ``_meta`` of the request it belongs to.

    Clients find by it which of their requests is asking (mcp.md section 5, Goose).
    """
    members = decode_members(params)
    meta = {**vendor_keys, **_meta_of(members)}
    meta.pop(codes.META_PROGRESS, None)
    members.pop("_meta", None)
    if meta:
        members["_meta"] = raw(meta)
    return encode_request(request_id, method, members)


def _stamp(subscription: Raw | None) -> dict[str, Mapping[str, Raw]]:
    return {} if subscription is None else {"_meta": {codes.META_SUBSCRIPTION: subscription}}


def _meta_of(members: Mapping[str, Raw]) -> dict[str, Raw]:
    """``_meta`` of a result; one that is no object breaks the protocol and is replaced."""
    meta = members.get("_meta")
    try:
        return decode_members(meta) if meta is not None else {}
    except msgspec.DecodeError:
        return {}


def _with_call(data: Raw | None, call: str) -> Raw | None:
    if not call:
        return data
    try:
        members = decode_members(data) if data is not None else {}
    except msgspec.DecodeError:
        return data
    if members.keys() == _NOT_FOUND:
        return data  # the TypeScript SDK 2 knows a missing resource by this and nothing else
    return raw({**members, codes.META_CALL: call})
