"""Answers a search over the tools of a virtual server."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from hub.catalog.search import Detail, ToolSearch
from hub.catalog.system_tools import DEFAULT_FOUND, MAX_FOUND
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Result
from hub.providers.tool_results import failed, structured
from mcp_wire.jsonrpc import decode_members

_MAX_QUERY: Final = 2000
_BRIEF: Final = ("name", "title", "description")


class _Wanted(Struct):
    query: str
    limit: int | float = DEFAULT_FOUND
    detail: Detail = "full"


async def find_tools(
    search: ToolSearch, server: VirtualServer, view: View, arguments: Mapping[str, Any] | None
) -> Result:
    """The matching tools that ``view`` allows, best first, as listed or in brief."""
    try:
        wanted = msgspec.convert(arguments, _Wanted)
    except msgspec.ValidationError as error:
        return failed(f"The arguments do not fit: {error}.")
    limit = min(max(int(wanted.limit), 1), MAX_FOUND)
    found = await search.find(server, view, wanted.query[:_MAX_QUERY], limit)
    return structured({"tools": [_shown(exposure, wanted.detail) for exposure in found]})


def _shown(exposure: Exposure, detail: Detail) -> Raw | dict[str, Raw]:
    if detail == "full":
        return Raw(exposure.fragment)
    members = decode_members(exposure.fragment)
    return {name: members[name] for name in _BRIEF if name in members}
