"""One request as the caller sent it, in the words of the hub."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw, Struct

from hub.domain.principal import Evidence
from mcp_wire.jsonrpc import EMPTY_OBJECT

Surface = Literal["mcp", "admin", "llm", "a2a", "skills"]

Action = Literal["discover", "list", "search", "call", "subscribe", "inspect", "administer"]
"""``call`` uses a capability: runs a tool, reads a resource, fetches a prompt, completes an argument.

``inspect`` reads what administrators see, ``administer`` changes it.
"""

TargetKind = Literal[
    "virtual_server", "tool", "resource", "template", "prompt", "self", "administration"
]

DEFAULT_VIRTUAL_SERVER = "default"
DEFAULT_TENANT = "default"


class Target(Struct, frozen=True, gc=False):
    """What a call is about, as the caller names it; a whole list has an empty name."""

    kind: TargetKind
    name: str = ""


class CallerTraits(Struct, frozen=True, gc=False):
    """What the caller's side of the wire can do: kept out of decisions, used to answer and relay."""

    revision: str = ""
    client_capabilities: Raw = EMPTY_OBJECT
    client_info: Raw | None = None
    wants_progress: bool = False
    log_level: str | None = None
    session: str = ""
    """Nonce of the legacy session; empty on the modern wire."""


class Call(Struct, frozen=True, kw_only=True):
    """One pass through the pipeline, ended by exactly one record."""

    id: str
    """Unique, sortable by time; every answer carries it as ``io.portico/call``."""
    surface: Surface
    operation: str
    """The wire's own word: ``tools/call``, ``POST /api/upstreams``."""
    action: Action
    target: Target
    evidence: Evidence
    virtual_server: str = DEFAULT_VIRTUAL_SERVER
    params: Mapping[str, Raw] = {}
    """Parameters without ``_meta``, one level deep; what guards and rules may rewrite."""
    meta: Mapping[str, Raw] = {}
    """The caller's vendor ``_meta`` keys."""
    traits: CallerTraits = CallerTraits()
    interaction_id: str = ""
    """Shared by the legs of one interaction; empty: this call's own id."""
    traceparent: str | None = None
