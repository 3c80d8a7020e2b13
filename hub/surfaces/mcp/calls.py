"""Which methods are served in which era, and the call that a request stands for."""

from collections.abc import Callable, Mapping
from typing import Final, get_args

from msgspec import Raw, Struct

from hub.domain.call import Action, Call, CallerTraits, Target, TargetKind
from hub.domain.principal import Evidence
from hub.surfaces.mcp.inbound import Inbound, Malformed, members_param, text_of, text_param
from mcp_wire import codes
from mcp_wire.revisions import Era

_OWN_PREFIXES: Final = (codes.META_RESERVED_PREFIX, "io.portico/")
_OWN_KEYS: Final = frozenset((codes.META_PROGRESS, "traceparent", "tracestate", "baggage"))
_ALL_OWN: Final = _OWN_KEYS | {
    codes.META_REVISION,
    codes.META_CLIENT_CAPABILITIES,
    codes.META_CLIENT_INFO,
    codes.META_LOG_LEVEL,
}
"""What most requests have and nothing else."""
_MAX_TRACEPARENT: Final = 64
_NO_META: Final[Mapping[str, Raw]] = {}
WHOLE: Final[Mapping[TargetKind, Target]] = {kind: Target(kind) for kind in get_args(TargetKind)}
"""What requests without a name are about."""


class Served(Struct, frozen=True):
    """What one method is, in the words of the hub."""

    action: Action
    kind: TargetKind
    name_param: str | None = None
    """The parameter that names the target; None: a whole list, or the virtual server."""


_SHARED: Final = {
    "tools/list": Served("list", "tool"),
    "resources/list": Served("list", "resource"),
    "resources/templates/list": Served("list", "template"),
    "prompts/list": Served("list", "prompt"),
    "tools/call": Served("call", "tool", "name"),
    "resources/read": Served("call", "resource", "uri"),
    "prompts/get": Served("call", "prompt", "name"),
    "completion/complete": Served("call", "prompt", "ref"),
}

MODERN_METHODS: Final[Mapping[str, Served]] = {
    **_SHARED,
    "server/discover": Served("discover", "virtual_server"),
    "subscriptions/listen": Served("subscribe", "virtual_server"),
}

LEGACY_METHODS: Final[Mapping[str, Served]] = {
    **_SHARED,
    "initialize": Served("discover", "virtual_server"),
    "logging/setLevel": Served("subscribe", "virtual_server"),
    "resources/subscribe": Served("subscribe", "resource", "uri"),
    "resources/unsubscribe": Served("subscribe", "resource", "uri"),
}
"""``ping`` is no call (DESIGN.md section 2) and is answered before there would be one."""

CACHEABLE: Final = frozenset((
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "resources/read",
))
"""Methods whose modern results say how long and for whom they hold (mcp.md S9)."""


class Caller(Struct, frozen=True, gc=False):
    """Where requests of one connection come from and go to."""

    evidence: Evidence
    virtual_server: str
    traceparent: str | None = None


class Calls:
    """Makes calls of requests."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id

    def of(self, message: Inbound, era: Era, caller: Caller, traits: CallerTraits) -> Call:
        """The call that a request stands for. Raises Malformed for unknown methods and bad names."""
        served = (MODERN_METHODS if era == "modern" else LEGACY_METHODS).get(message.method)
        if served is None:
            raise Malformed(
                codes.METHOD_NOT_FOUND,
                f"Unknown method: {message.method[:100]}",
                request_id=message.id,
            )
        if served.action == "list" and "cursor" in message.params:
            text_param(message, "cursor")
        return Call(
            id=self._new_id(),
            surface="mcp",
            operation=message.method,
            action=served.action,
            target=WHOLE[served.kind] if served.name_param is None else _target_of(served, message),
            evidence=caller.evidence,
            virtual_server=caller.virtual_server,
            params=message.params,
            meta=_NO_META if message.meta.keys() <= _ALL_OWN else _vendor_keys(message.meta),
            traits=traits,
            traceparent=(
                _traceparent(message.meta["traceparent"], caller)
                if "traceparent" in message.meta
                else caller.traceparent
            ),
        )

    def standing(self, caller: Caller, operation: str) -> Call:
        """A stand-in for what is no call: who pings, streams, or ends a session."""
        return Call(
            id=self._new_id(),
            surface="mcp",
            operation=operation,
            action="subscribe",
            target=Target("virtual_server"),
            evidence=caller.evidence,
            virtual_server=caller.virtual_server,
        )


def _target_of(served: Served, message: Inbound) -> Target:
    name = served.name_param
    if name == "ref" or name is None:
        return _referenced(message)
    return Target(served.kind, text_param(message, name))


def _referenced(message: Inbound) -> Target:
    """What a completion is for: a prompt, or a resource template."""
    ref = members_param(message, "ref")
    kind, name, uri = (text_of(ref.get(key)) for key in ("type", "name", "uri"))
    if kind == "ref/prompt" and name is not None:
        return Target("prompt", name)
    if kind == "ref/resource" and uri is not None:
        return Target("template", uri)
    raise Malformed(
        codes.INVALID_PARAMS, "'ref' must name a prompt or a resource.", request_id=message.id
    )


def _vendor_keys(meta: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """The keys that pass: what the specification reserves and what is ours is said anew on each hop."""
    return {
        key: value
        for key, value in meta.items()
        if key not in _OWN_KEYS and not key.startswith(_OWN_PREFIXES)
    }


def _traceparent(value: Raw, caller: Caller) -> str | None:
    if len(value) > _MAX_TRACEPARENT:
        return caller.traceparent
    return text_of(value) or caller.traceparent
