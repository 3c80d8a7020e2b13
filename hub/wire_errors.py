"""How refusals and failures are said on each wire: one table, used by every surface.

On the MCP wires a tool that ran into a limit, a guardrail or a dead upstream gives a result with
``isError``, so that models can read it; everything else, and every other method, gives an error.
On HTTP wires it is ``application/problem+json`` (RFC 9457). Messages say what the caller's own view
holds, and neither addresses nor causes.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from hub.domain.outcome import Failure, Refusal, RefusalReason
from mcp_wire import codes
from mcp_wire.jsonrpc import decode_members, raw
from mcp_wire.revisions import Era

META_FAILURE: Final = "io.portico/failure"
RETRY_AFTER_S: Final = 5
"""When to try again a call that could not be taken, where nothing better is known."""

CANCELLED: Final = -32800
"""Code of the answer to a cancelled request, on the wire that wants one: legacy HTTP (as LSP has it)."""

CRASHED: Final = "Portico failed while answering; the call id leads to its log."


class Words(Struct, frozen=True, kw_only=True):
    """How something went wrong, ready for a JSON-RPC answer: a ``result``, or an error."""

    code: int = 0
    message: str = ""
    data: Raw | None = None
    result: Raw | None = None
    """A tool result with ``isError``; there is no error then."""
    status: int = 200
    """HTTP status that goes with it."""
    headers: Mapping[str, str] = {}


class Problem(Struct, frozen=True):
    """The same for HTTP surfaces."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class _Row(Struct, frozen=True):
    code: int
    status: int
    title: str
    in_result: bool = False
    """Said in a tool result where the request was ``tools/call``."""


_ROWS: Final[Mapping[RefusalReason, _Row]] = {
    "unauthenticated": _Row(codes.UNAUTHENTICATED, 401, "A credential is needed"),
    "absent": _Row(codes.INVALID_PARAMS, 404, "Not found"),
    "virtual_server": _Row(codes.VIRTUAL_SERVER_DENIED, 403, "No such virtual server for you"),
    "invalid": _Row(codes.INVALID_PARAMS, 400, "Invalid parameters"),
    "limit": _Row(codes.LIMIT_REACHED, 429, "Limit reached", in_result=True),
    "budget": _Row(codes.BUDGET_SPENT, 402, "Budget spent", in_result=True),
    "guardrail": _Row(codes.GUARDRAIL_BLOCKED, 403, "Blocked by a guardrail", in_result=True),
    "unavailable": _Row(codes.UNAVAILABLE, 503, "Not available now"),
    "forbidden": _Row(codes.VIRTUAL_SERVER_DENIED, 403, "Not allowed"),
    "conflict": _Row(codes.INVALID_REQUEST, 409, "Conflict"),
}

_NOUNS: Final = {
    "tools/call": "tool",
    "prompts/get": "prompt",
    "completion/complete": "reference",
}

_FAILED: Final = {
    "unreachable": "cannot be reached; nothing was executed",
    "timeout": "did not answer in time; the call may have been executed",
    "disconnected": "hung up before it answered; the call may have been executed",
    "violation": "gave an answer that its protocol does not allow",
}


def refused(refusal: Refusal, operation: str, era: Era) -> Words:
    """A refusal on an MCP wire. Denied and absent capabilities give the same words."""
    row = _ROWS[refusal.reason]
    message = refusal.message or row.title
    headers = _with_retry(refusal)
    if refusal.reason == "absent":
        return _absent(refusal, operation, era)
    if row.in_result and operation == "tools/call":
        note = {**_object(refusal.data), "reason": raw(refusal.reason)}
        return Words(result=_tool_error(message, codes.META_REFUSAL, note), headers=headers)
    return Words(
        code=row.code,
        message=message,
        data=refusal.data,
        status=_status(row.code, era),
        headers=headers,
    )


def failed(failure: Failure, operation: str, era: Era, upstream: str, target: str) -> Words:
    """A failure of an upstream on an MCP wire; ``target`` is the name or URI the caller used.

    An error of the upstream's own protocol keeps its code, message and data, except where the code
    means something else, or nothing, in the caller's era (mcp.md row 23).
    """
    if failure.kind == "error":
        code = failure.code if failure.code is not None else codes.INTERNAL_ERROR
        code, data = _crossed(code, failure.data, operation, era, target)
        return Words(code=code, message=failure.message, data=data, status=_status(code, era))
    message = f"{_sentence(failure, upstream)}."
    note = {
        "upstream": raw(upstream),
        "kind": raw(failure.kind),
        **({} if failure.status is None else {"status": raw(failure.status)}),
        **({} if failure.retry_after_s is None else {"retryAfterS": raw(failure.retry_after_s)}),
    }
    if operation == "tools/call":
        return Words(result=_tool_error(message, META_FAILURE, note))
    return Words(code=codes.INTERNAL_ERROR, message=message, data=raw({META_FAILURE: note}))


def problem_of_refusal(refusal: Refusal, call: str) -> Problem:
    """A refusal as problem+json; ``call`` is the call id, empty where no call was made."""
    row = _ROWS[refusal.reason]
    return _problem(row.status, row.title, refusal.message, call, _with_retry(refusal))


def problem_of_failure(failure: Failure, call: str, upstream: str = "") -> Problem:
    """A failure of an upstream as problem+json; empty ``upstream``: what answers has no such name."""
    return _problem(502, "No answer could be had", f"{_sentence(failure, upstream)}.", call, {})


def _problem(
    status: int, title: str, detail: str, call: str, headers: Mapping[str, str]
) -> Problem:
    members: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if detail and detail != title:
        members["detail"] = detail
    if call:
        members[codes.META_CALL] = call
    return Problem(status, msgspec.json.encode(members), headers)


def _absent(refusal: Refusal, operation: str, era: Era) -> Words:
    """The name is all that is said, so that denied and absent cannot be told apart."""
    code, data = codes.INVALID_PARAMS, None
    message = f"Unknown {_NOUNS.get(operation, 'name')}: {refusal.message}"
    if operation.startswith("resources/"):
        message = f"Resource not found: {refusal.message}"
        data = raw({"uri": refusal.message})
        if era == "legacy":
            code = codes.LEGACY_RESOURCE_NOT_FOUND
    return Words(code=code, message=message, data=data, status=_status(code, era))


def _crossed(
    code: int, data: Raw | None, operation: str, era: Era, target: str
) -> tuple[int, Raw | None]:
    if era == "modern":
        return _for_modern(code, data, operation, target)
    if code in {codes.HEADER_MISMATCH, codes.MISSING_CLIENT_CAPABILITY, codes.UNSUPPORTED_REVISION}:
        return codes.INTERNAL_ERROR, data
    names_target = _object(data).get("uri") == raw(target)
    if code == codes.INVALID_PARAMS and operation == "resources/read" and names_target:
        return codes.LEGACY_RESOURCE_NOT_FOUND, data
    return code, data


def _for_modern(code: int, data: Raw | None, operation: str, target: str) -> tuple[int, Raw | None]:
    if code == codes.LEGACY_RESOURCE_NOT_FOUND:
        members = _object(data)
        if operation == "resources/read" and "uri" not in members:
            data = raw({**members, "uri": target})
        return codes.INVALID_PARAMS, data
    reserved = -32099 <= code <= -32020
    if reserved and code != codes.MISSING_CLIENT_CAPABILITY:
        return codes.INTERNAL_ERROR, data
    return code, data


def _sentence(failure: Failure, upstream: str) -> str:
    name = f"Upstream '{upstream}'" if upstream else "What was to answer"
    if failure.kind == "unsupported":
        return f"{name} cannot do this: {failure.message.rstrip('.')}"
    if failure.kind != "status":
        return f"{name} {_FAILED.get(failure.kind, 'failed')}"
    hint = ""
    if failure.retry_after_s is not None:
        hint = f"; it asks to be left alone for {failure.retry_after_s:g} s"
    return f"{name} answered with HTTP status {failure.status}{hint}"


def _tool_error(message: str, key: str, note: Mapping[str, Raw]) -> Raw:
    return raw({
        "content": [{"type": "text", "text": message}],
        "isError": True,
        "_meta": {key: note},
    })


def _status(code: int, era: Era) -> int:
    """HTTP status beside a code; legacy clients read 4xx as a broken transport, so few are sent."""
    status = codes.HTTP_STATUS.get(code, 200)
    if era == "legacy" and code not in _LEGACY_STATUSES:
        return 200
    return status


_LEGACY_STATUSES: Final = frozenset((
    codes.UNAUTHENTICATED,
    codes.VIRTUAL_SERVER_DENIED,
    codes.UNAVAILABLE,
))


def _with_retry(refusal: Refusal) -> Mapping[str, str]:
    if refusal.reason == "unavailable" and "Retry-After" not in refusal.headers:
        return {**refusal.headers, "Retry-After": str(RETRY_AFTER_S)}
    return refusal.headers


def _object(data: Raw | None) -> dict[str, Raw]:
    """The members of ``data``; anything but an object has none."""
    try:
        return decode_members(data) if data is not None else {}
    except msgspec.DecodeError:
        return {}
