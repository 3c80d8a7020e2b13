"""The tools that Portico itself offers; they are constant, and open to whoever gets in."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hub.catalog.definitions import digest_of
from hub.catalog.selection import lists_of
from hub.domain.catalog import KINDS, SYSTEM_BIT, SYSTEM_UPSTREAM, CapabilityId, Exposure
from hub.domain.desired import Include, Presentation
from hub.policy.patterns import patterns_of
from mcp_wire.jsonrpc import encode, raw

SEARCH_TOOLS: Final = "search_tools"
CALL_TOOL: Final = "call_tool"
DESCRIBE_ACCESS: Final = "describe_access"
DESCRIBE_CAPABILITY: Final = "describe_capability"

MAX_FOUND: Final = 50
DEFAULT_FOUND: Final = 10

_READS: Final = {"readOnlyHint": True, "openWorldHint": False}

_DEFINITIONS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": SEARCH_TOOLS,
        "title": "Search tools",
        "description": (
            "Find tools by what they do. Say in a few words what is to be done; the best matches "
            "come first, each with its definition. Run one with call_tool."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "Words for what is to be done."},
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_FOUND,
                    "default": DEFAULT_FOUND,
                    "description": "How many tools to show at most.",
                },
                "detail": {
                    "type": "string",
                    "enum": ["full", "brief"],
                    "default": "full",
                    "description": "'brief' shows names and descriptions without schemas.",
                },
            },
            "required": ["query"],
        },
        "annotations": _READS,
    },
    {
        "name": CALL_TOOL,
        "title": "Call a tool",
        "description": "Run a tool that search_tools found, with arguments as its schema asks.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Name of the tool, as found."},
                "arguments": {"type": "object", "description": "Its arguments."},
            },
            "required": ["name"],
        },
    },
    {
        "name": DESCRIBE_ACCESS,
        "title": "Describe my access",
        "description": (
            "Which virtual servers you may use, how many tools, resources and prompts each has for "
            "you, and how the upstream servers behind them are doing."
        ),
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": _READS,
    },
    {
        "name": DESCRIBE_CAPABILITY,
        "title": "Describe a capability",
        "description": (
            "Where a tool, resource or prompt of yours comes from, and why it may be out of date, "
            "hidden behind another of its name, or not fully usable from this client."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Its name or URI, as listed."},
                "kind": {"type": "string", "enum": list(KINDS), "default": "tool"},
                "virtual_server": {
                    "type": "string",
                    "description": "Where it is listed; without it, here.",
                },
            },
            "required": ["name"],
        },
        "annotations": _READS,
    },
)


def _exposed(definition: dict[str, Any]) -> Exposure:
    return Exposure(
        name=definition["name"],
        kind="tool",
        capability=CapabilityId(SYSTEM_UPSTREAM, "tool", definition["name"]),
        digest=digest_of(definition),
        bit=SYSTEM_BIT,
        fragment=encode(definition),
        input_schema=raw(definition["inputSchema"]),
    )


_EXPOSURES: Final = {definition["name"]: _exposed(definition) for definition in _DEFINITIONS}
_SEARCHING: Final = (SEARCH_TOOLS, CALL_TOOL)
_DESCRIBING: Final = (DESCRIBE_ACCESS, DESCRIBE_CAPABILITY)

SELF_DESCRIPTION: Final[Mapping[str, Exposure]] = {name: _EXPOSURES[name] for name in _DESCRIBING}
"""What the virtual server ``portico`` offers."""


def system_tools_of(
    presentation: Presentation, includes: Iterable[Include]
) -> Mapping[str, Exposure]:
    """Portico's own tools of a virtual server: for searching, and those of ``portico`` it includes."""
    names = list(_SEARCHING) if presentation == "search" else []
    for include in includes:
        if include.upstream == SYSTEM_UPSTREAM:
            names += [name for name in _DESCRIBING if _takes(include, name)]
    return {name: _EXPOSURES[name] for name in dict.fromkeys(names)}


def _takes(include: Include, name: str) -> bool:
    if include.tools is None:
        return all(items is None for items in lists_of(include).values())
    return patterns_of(include.tools).match(name)
