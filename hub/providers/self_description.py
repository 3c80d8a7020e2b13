"""Answers Portico's own tools: finding tools, and what the hub may tell a caller about itself.

A caller learns about its own view and nothing else: a name beyond it reads exactly like one that
does not exist. Why something is denied is for administrators (``hub.policy.explain``).
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

import anyio.lowlevel
import msgspec
from msgspec import Struct

from hub.admission import Admitted
from hub.catalog.search import ToolSearch
from hub.catalog.system_tools import DESCRIBE_ACCESS, DESCRIBE_CAPABILITY, SEARCH_TOOLS
from hub.catalog.views import states_for
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import (
    KINDS,
    SYSTEM_BIT,
    SYSTEM_VIRTUAL_SERVER,
    Exposure,
    Kind,
    UpstreamStatus,
    VirtualServer,
)
from hub.domain.grant import View
from hub.domain.outcome import Outcome, Refusal, Result
from hub.policy.authorize import find_exposure, may_enter
from hub.providers.immediate import Immediate
from hub.providers.searching import find_tools
from hub.providers.tool_results import arguments_of, failed, structured
from mcp_wire.jsonrpc import decode_members
from mcp_wire.revisions import at_least

_STRUCTURED_SINCE: Final = "2025-06-18"
"""The first revision with ``outputSchema`` and ``structuredContent``."""


class Finding(Struct, frozen=True):
    """One reason why a capability is not all that it could be."""

    what: Literal["stale", "shadowed", "missing_in_revision"]
    text: str


class _Asked(Struct):
    name: str
    kind: Kind = "tool"
    virtual_server: str | None = None


class SelfDescription:
    """See ``hub.pipeline.Provider``."""

    def __init__(self, search: ToolSearch) -> None:
        self._search = search

    def invoke(self, admitted: Admitted) -> Outcome:
        """The answer of one of Portico's own tools, worked out when it is awaited."""
        return Immediate(lambda: self._answer(admitted))

    async def _answer(self, admitted: Admitted) -> Result:
        exposure, server, view = admitted.exposure, admitted.virtual_server, admitted.view
        if exposure is None or server is None or view is None:
            raise ValueError("only a tool of Portico's own is answered here")
        if admitted.call.operation != "tools/call":
            raise Refusal("invalid", "This can only be called.", cause="operation")
        name, arguments = exposure.capability.name, arguments_of(admitted.params)
        if name == SEARCH_TOOLS:
            return await find_tools(self._search, server, view, arguments)
        if name == DESCRIBE_ACCESS:
            return structured(await _access(admitted, view))
        if name == DESCRIBE_CAPABILITY:
            return _capability(admitted, view, arguments)
        # What 'call_tool' could understand was unwrapped before it came here.
        return failed("'name' must be the name of a tool, and 'arguments' an object.")


async def _access(admitted: Admitted, view: View) -> dict[str, Any]:
    principal, tenant = admitted.principal, admitted.tenant
    servers: list[dict[str, Any]] = []
    for name, server in sorted(tenant.virtual_servers.items()):
        await anyio.lowlevel.checkpoint()
        if name != SYSTEM_VIRTUAL_SERVER and may_enter(principal, view, server):
            servers.append({
                "name": name,
                "title": server.title,
                "path": "/mcp" if name == DEFAULT_VIRTUAL_SERVER else f"/v/{name}/mcp",
                "presentation": server.presentation,
                **{f"{kind}s": _count(server, view, kind) for kind in KINDS},
                "upstreams": states_for(server, view, tenant.statuses),
            })
    return {
        "principal": {"name": principal.name, "kind": principal.kind, "tenant": tenant.name},
        "virtual_servers": servers,
    }


def _count(server: VirtualServer, view: View, kind: Kind) -> int:
    return sum(view.allows(exposure.bit) for exposure in server.of_kind(kind).values())


def _capability(admitted: Admitted, view: View, arguments: dict[str, Any] | None) -> Result:
    try:
        asked = msgspec.convert(arguments, _Asked)
    except msgspec.ValidationError as error:
        return failed(f"The arguments do not fit: {error}.")
    here = admitted.call.virtual_server
    fallback = DEFAULT_VIRTUAL_SERVER if here == SYSTEM_VIRTUAL_SERVER else here
    name = asked.virtual_server or fallback
    server = admitted.tenant.virtual_servers.get(name)
    exposure, hidden = None, list[Finding]()
    if server is not None and may_enter(admitted.principal, view, server):
        exposure = find_exposure(server, asked.kind, asked.name, view)
        hidden = [
            Finding("shadowed", f"That of {other.capability.upstream} is hidden by its name.")
            for other in server.shadowed
            if (other.kind, other.name) == (asked.kind, asked.name) and view.allows(other.bit)
        ]
    if server is None or (exposure is None and not hidden):
        return failed(f"There is no {asked.kind} {asked.name!r} for you in {name!r}.")
    shown: dict[str, Any] = {"name": asked.name, "kind": asked.kind, "virtual_server": name}
    if exposure is not None:
        status = admitted.tenant.statuses.get(exposure.capability.upstream)
        shown["upstream"] = exposure.capability.upstream
        if exposure.bit != SYSTEM_BIT:
            shown["state"] = status.state if status is not None else "pending"
            hidden += _staleness(status)
            hidden += _missing(exposure, admitted.call.traits.revision)
    return structured({**shown, "findings": hidden})


def _staleness(status: UpstreamStatus | None) -> Iterator[Finding]:
    if status is not None and status.state != "live":
        since = f" since {status.since}" if status.since else ""
        yield Finding(
            "stale", f"Its upstream is not answering{since}; the definition is the last one known."
        )


def _missing(exposure: Exposure, revision: str) -> Iterator[Finding]:
    """What of a capability the caller's protocol revision leaves out."""
    if exposure.kind != "tool":
        return
    members = decode_members(exposure.fragment)
    if "outputSchema" in members and not at_least(revision, _STRUCTURED_SINCE):
        yield Finding(
            "missing_in_revision", f"Structured results are not part of revision {revision}."
        )
    if b'"required"' in bytes(members.get("execution", b"")):
        yield Finding(
            "missing_in_revision", "It runs as a task only, and tasks are not offered here."
        )
