"""Fetching everything an MCP upstream offers, page by page: shared by HTTP, SSE and stdio.

The caller brings ``request(method, params) -> result``, which stamps what its wire needs and raises
:class:`connectors.errors.ConnectorError`, :class:`connectors.errors.ErrorAnswer` for an error of
the protocol. Every definition is kept as it was received; judging it is the catalogue's work.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from connectors.errors import ErrorAnswer, ProtocolViolation
from connectors.protocol import Listing
from mcp_wire.codes import METHOD_NOT_FOUND
from mcp_wire.jsonrpc import members_of, string_of

RequestResult = Callable[[str, Mapping[str, Raw]], Awaitable[Raw]]
"""Sends one request of discovery and returns the ``result`` member."""

MAX_DEFINITIONS: Final = 50_000
"""How many definitions of one kind an upstream may list."""
MAX_PAGES: Final = 10_000
MAX_LIST_BYTES: Final = 128 * 1024 * 1024
"""How large the definitions of one kind may be together."""


class _Page(Struct, gc=False, rename="camel"):
    next_cursor: Raw | UnsetType = UNSET
    ttl_ms: Raw | UnsetType = UNSET
    cache_scope: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    resources: Raw | UnsetType = UNSET
    resource_templates: Raw | UnsetType = UNSET
    prompts: Raw | UnsetType = UNSET


class _Terms(Struct):
    """How long, and for whom, the pages seen so far may be kept."""

    ttl_ms: int | None = None
    pages: int = 0
    public_pages: int = 0

    def note(self, page: _Page) -> None:
        self.pages += 1
        if isinstance(page.cache_scope, Raw) and bytes(page.cache_scope) == b'"public"':
            self.public_pages += 1
        ttl_ms = _ttl_of(page.ttl_ms)
        if ttl_ms is not None and (self.ttl_ms is None or ttl_ms < self.ttl_ms):
            self.ttl_ms = ttl_ms


_page: Final = msgspec.json.Decoder(_Page)
_items: Final = msgspec.json.Decoder(list[Raw])
_number: Final = msgspec.json.Decoder(float)


async def fetch_listing(request: RequestResult, protocol_capabilities: Raw) -> Listing:
    """All pages of every kind that ``protocol_capabilities`` declares.

    A list method that an upstream declares and does not know reads as an empty list. Raises
    ConnectorError as ``request`` does, and ProtocolViolation for pages that cannot be read.
    """
    declared = {
        feature
        for feature, value in members_of(protocol_capabilities).items()
        if bytes(value) not in {b"null", b"false"}
    }
    terms = _Terms()
    tools: tuple[Raw, ...] = ()
    resources: tuple[Raw, ...] = ()
    templates: tuple[Raw, ...] = ()
    prompts: tuple[Raw, ...] = ()
    if "tools" in declared:
        tools = await _fetch_all(request, "tools/list", "tools", terms)
    if "resources" in declared:
        resources = await _fetch_all(request, "resources/list", "resources", terms)
        method = "resources/templates/list"
        templates = await _fetch_all(request, method, "resource_templates", terms)
    if "prompts" in declared:
        prompts = await _fetch_all(request, "prompts/list", "prompts", terms)
    return Listing(
        tools=tools,
        resources=resources,
        templates=templates,
        prompts=prompts,
        ttl_ms=terms.ttl_ms,
        public=0 < terms.pages == terms.public_pages,
    )


async def find_tool(request: RequestResult, name: str) -> Raw:
    """The definition of one tool as it is listed now. Raises ConnectorError, also when it is gone."""
    for tool in await _fetch_all(request, "tools/list", "tools", _Terms()):
        try:
            found = string_of(members_of(tool).get("name"))
        except msgspec.DecodeError:
            continue
        if found == name:
            return tool
    raise ProtocolViolation(f"the tool {name!r} is not listed any more")


async def _fetch_all(
    request: RequestResult, method: str, member: str, terms: _Terms
) -> tuple[Raw, ...]:
    """Definitions in listing order; repetitions, byte for byte, are dropped.

    A cursor is opaque and may be empty; one that comes a second time ends the list, as some servers
    say "no more" by repeating themselves.
    """
    found: dict[bytes, Raw] = {}
    size = 0
    seen: set[bytes] = set()
    params: dict[str, Raw] = {}
    for _ in range(MAX_PAGES):
        try:
            result = await request(method, params)
        except ErrorAnswer as error:
            if error.code == METHOD_NOT_FOUND and not found:
                return ()
            raise
        page, items = _read(method, member, result)
        terms.note(page)
        for item in items:
            text = bytes(item)
            if text not in found:
                found[text] = item.copy()
                size += len(text)
        if len(found) > MAX_DEFINITIONS or size > MAX_LIST_BYTES:
            raise ProtocolViolation(f"{method} has more definitions than can be kept")
        cursor = page.next_cursor
        if not isinstance(cursor, Raw) or bytes(cursor) == b"null" or bytes(cursor) in seen:
            return tuple(found.values())
        seen.add(bytes(cursor))
        params = {"cursor": cursor}
    raise ProtocolViolation(f"{method} does not come to an end")


def _read(method: str, member: str, result: Raw) -> tuple[_Page, list[Raw]]:
    try:
        page = _page.decode(result)
        items = getattr(page, member)
        return page, _items.decode(items) if isinstance(items, Raw) else []
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"{method} was answered with something else than a list") from error


def _ttl_of(raw: Raw | UnsetType) -> int | None:
    """Milliseconds; a negative number reads as 0 (mcp.md C7), anything else but a number as absent."""
    if not isinstance(raw, Raw):
        return None
    try:
        return max(0, int(_number.decode(raw)))
    except (msgspec.DecodeError, OverflowError, ValueError):
        return None
