"""Resource URIs in results, said as the caller's virtual server exposes them.

Only where a collision forced another URI on a resource; text is left as it is (mcp.md row 15).
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from msgspec import Raw

from hub.domain.outcome import Event, Outcome, Result
from mcp_wire.jsonrpc import decode_batch, decode_members, raw, string_of

_HOLDS_URIS = frozenset(("contents", "content", "messages", "resource"))
"""Members of results whose objects may carry a ``uri``, at any depth of these."""


async def with_exposed_uris(outcome: Outcome, renamed: Mapping[str, str]) -> AsyncGenerator[Event]:
    """The same outcome, its result's URIs renamed by ``renamed`` (original -> exposed)."""
    async with aclosing(outcome) as events:
        async for event in events:
            if isinstance(event, Result):
                yield Result(_renamed(event.body, renamed), event.input_required)
            else:
                yield event


def _renamed(value: Raw, renamed: Mapping[str, str]) -> Raw:
    first = bytes(memoryview(value)[:1])
    if first == b"[":
        return raw([_renamed(item, renamed) for item in decode_batch(value)])
    if first != b"{":
        return value
    members = decode_members(value)
    uri = string_of(members.get("uri"))
    if uri is not None and uri in renamed:
        members["uri"] = raw(renamed[uri])
    for name in _HOLDS_URIS & members.keys():
        members[name] = _renamed(members[name], renamed)
    return raw(members)
