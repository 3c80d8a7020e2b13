"""``subscriptions/listen``: what of a request is honoured, and whom changes are told (mcp.md S12)."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from hub.domain.announcement import ListKind
from hub.domain.call import Call
from hub.surfaces.mcp import wire
from hub.surfaces.mcp.collaborators import Views
from hub.surfaces.mcp.feed import Feed
from hub.surfaces.mcp.inbound import Inbound, Malformed, members_param
from mcp_wire import codes
from mcp_wire.jsonrpc import raw

MAX_URIS: Final = 1000
"""Resources that one stream may be told of."""

_KINDS: Final[Mapping[str, ListKind]] = {
    "toolsListChanged": "tools",
    "promptsListChanged": "prompts",
    "resourcesListChanged": "resources",
}
_texts: Final = msgspec.json.Decoder(list[str])


class Wanted(Struct, frozen=True):
    """What a listen request asks to be told of."""

    kinds: tuple[str, ...]
    """The wire's words for lists."""
    uris: tuple[str, ...]

    @property
    def list_kinds(self) -> tuple[ListKind, ...]:
        """The same in ours."""
        return tuple(_KINDS[kind] for kind in self.kinds)


def wanted_by(message: Inbound) -> Wanted:
    """The filter of a listen request; what is not known is not honoured. Raises Malformed."""
    if "notifications" not in message.params:
        raise Malformed(codes.INVALID_PARAMS, "'notifications' is required.", request_id=message.id)
    members = members_param(message, "notifications")
    uris: list[str] = []
    try:
        if "resourceSubscriptions" in members:
            uris = _texts.decode(members["resourceSubscriptions"])
    except (msgspec.DecodeError, RecursionError):
        raise Malformed(
            codes.INVALID_PARAMS, "'resourceSubscriptions' must be URIs.", request_id=message.id
        ) from None
    if len(uris) > MAX_URIS:
        raise Malformed(
            codes.INVALID_PARAMS,
            f"'resourceSubscriptions' may hold {MAX_URIS} URIs.",
            request_id=message.id,
        )
    kinds = tuple(kind for kind in _KINDS if bytes(members.get(kind, b"")) == b"true")
    return Wanted(kinds, tuple(dict.fromkeys(uris)))


class Subscriber:
    """Puts what a feed tells into notifications; ``subscription`` stamps those of the modern era."""

    def __init__(
        self,
        offer: Callable[[bytes], None],
        dismiss: Callable[[], None],
        subscription: Raw | None = None,
    ) -> None:
        self._offer = offer
        self._dismiss = dismiss
        self._subscription = subscription

    def list_changed(self, kind: ListKind) -> None:
        """The caller's exposed list is another one now."""
        self._offer(wire.list_changed(wire.CHANGED_METHODS[kind], self._subscription))

    def resource_updated(self, uri: str) -> None:
        """A resource that the caller asked for has new content."""
        self._offer(wire.resource_updated(uri, self._subscription))

    def elicitation_completed(self, elicitation: str) -> None:
        """What the caller was asked by URL is settled."""
        self._offer(wire.elicitation_completed(elicitation))

    def dismissed(self) -> None:
        """The caller may not be here any longer."""
        self._dismiss()


async def subscribe(
    feed: Feed, wanted: Wanted, views: Views, call: Call, subscription: Raw
) -> bytes:
    """Start telling; what is returned acknowledges the honoured part and must be sent first.

    Upstreams are asked for resources before, which takes them 2 s at the most.
    """
    honoured: dict[str, Raw] = {kind: raw(True) for kind in wanted.kinds}
    feed.tell_lists(wanted.list_kinds)
    feed.tell_resources(uri for uri in wanted.uris if views.may_read(call, uri))
    uris = await feed.confirm()
    if uris:
        honoured["resourceSubscriptions"] = raw(uris)
    return wire.acknowledged(honoured, subscription)
