"""What a caller's view shows of a virtual server beside definitions: states, features, instructions."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from hub.domain.catalog import Exposure, Kind, UpstreamStatus, VirtualServer
from hub.domain.grant import View

MAX_INSTRUCTIONS: Final = 2000
"""Characters; Claude Code cuts at 2,048 (mcp.md §5)."""

_features: Final = msgspec.json.Decoder(dict[str, Any])


def listed(
    server: VirtualServer, view: View, kind: Kind, after: str | None = None
) -> Iterator[Exposure]:
    """What a list shows, in its order, behind the name ``after``.

    Portico's own tools come first. A virtual server that is searched shows only those.
    """
    if kind == "tool" and after is None:
        yield from server.system_tools.values()
    if kind == "tool" and server.presentation == "search":
        return
    exposures = server.of_kind(kind)
    # Templates are kept by how specific they are; every other kind by name already.
    for name in sorted(exposures) if kind == "template" else exposures:
        exposure = exposures[name]
        if view.allows(exposure.bit) and (after is None or name > after):
            yield exposure


def visible_upstreams(server: VirtualServer, view: View) -> list[str]:
    """Upstreams of a virtual server that a caller may know of, sorted."""
    return [name for name in server.upstreams if view.allows(server.upstream_bits[name])]


def states_for(
    server: VirtualServer, view: View, statuses: Mapping[str, UpstreamStatus]
) -> dict[str, dict[str, str]]:
    """How each upstream of the caller's own view is doing: state, and since when."""
    states: dict[str, dict[str, str]] = {}
    for name in visible_upstreams(server, view):
        status = statuses.get(name)
        if status is None:
            states[name] = {"state": "pending"}
        elif status.since:
            states[name] = {"state": status.state, "since": status.since}
        else:
            states[name] = {"state": status.state}
    return states


def instructions_for(server: VirtualServer, view: View) -> str:
    """The virtual server's text, then those of the caller's upstreams, cut at the limit."""
    texts = [server.instructions] if server.instructions else []
    texts += [
        f"{name}: {text}"
        for name in visible_upstreams(server, view)
        if (text := server.upstream_instructions.get(name, "").strip())
    ]
    merged = "\n\n".join(texts)
    if len(merged) <= MAX_INSTRUCTIONS:
        return merged
    return merged[: MAX_INSTRUCTIONS - 1].rstrip() + "…"


def protocol_capabilities_for(
    server: VirtualServer, view: View, statuses: Mapping[str, UpstreamStatus]
) -> dict[str, dict[str, bool]]:
    """What is really served here (mcp.md S7): features of the caller's upstreams that pass through.

    An upstream that is yet to be listed may bring any kind of capability; a legacy client would not
    ask for one that its handshake did not have.
    """
    upstreams = visible_upstreams(server, view)
    features = [_declared(server.upstream_features.get(name)) for name in upstreams]
    unknown = any(
        name not in server.upstream_features
        and (name not in statuses or statuses[name].state != "disabled")
        for name in upstreams
    )
    served: dict[str, dict[str, bool]] = {"tools": {"listChanged": True} if upstreams else {}}
    if unknown or any("prompts" in declared for declared in features):
        served["prompts"] = {"listChanged": True}
    if unknown or any("resources" in declared for declared in features):
        subscribe = any(_subscribes(declared) for declared in features)
        served["resources"] = {"listChanged": True, "subscribe": subscribe or unknown}
    for feature in ("completions", "logging"):
        if any(feature in declared for declared in features):
            served[feature] = {}
    return served


def _declared(features: Raw | None) -> dict[str, Any]:
    """Protocol capabilities that are declared; null and false are not."""
    try:
        members = _features.decode(features) if features is not None else {}
    except msgspec.DecodeError:
        return {}
    return {name: value for name, value in members.items() if value not in (None, False)}


def _subscribes(declared: Mapping[str, Any]) -> bool:
    resources = declared.get("resources")
    return isinstance(resources, dict) and resources.get("subscribe") is True
