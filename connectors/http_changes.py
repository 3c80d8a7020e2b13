"""What upstreams announce over HTTP without being asked, and how patiently their streams are held."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import msgspec
from msgspec import Raw

from connectors.errors import ConnectorError
from connectors.outcome import Failure, Result
from connectors.protocol import Change
from mcp_wire.jsonrpc import Message, decode_members, members_of, raw, string_of

MAX_ASKING: Final = 16
"""Subscriptions that one upstream is asked for at the same time."""
SETTLE_S: Final = 2.0
"""How long opening an upstream waits until its changes are heard of."""
LIST_FLAGS: Final[Mapping[str, str]] = {
    "tools": "toolsListChanged",
    "prompts": "promptsListChanged",
    "resources": "resourcesListChanged",
}
"""Protocol capability -> member of a 2026-07-28 subscription filter."""

_LISTS: Final[Mapping[str, Change]] = {
    "notifications/tools/list_changed": Change("tools"),
    "notifications/resources/list_changed": Change("resources"),
    "notifications/prompts/list_changed": Change("prompts"),
}
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_STANDING_S: Final = 1.0
_HEALTHY_S: Final = 30.0
"""A stream that stood this long has shown that it can."""


def change_of(message: Message) -> Change | None:
    """What a notification announces; None for every other message."""
    method = str(message.method)
    if method in _LISTS:
        return _LISTS[method]
    if method != "notifications/resources/updated":
        return None
    try:
        uri = string_of(members_of(message.params).get("uri"))
    except msgspec.DecodeError:
        return None
    return Change("resource", uri) if uri is not None else None


def offers(protocol_capabilities: Raw, feature: str, flag: str) -> bool:
    """Whether an upstream declared a flag of a protocol capability."""
    try:
        declared = decode_members(protocol_capabilities).get(feature)
        return bytes(members_of(declared).get(flag, b"")) == b"true"
    except msgspec.DecodeError:
        return False


def changed_lists(protocol_capabilities: Raw) -> list[Change]:
    """One change for every list whose changes the upstream announces: after a gap, all count."""
    return [
        change
        for change in _LISTS.values()
        if offers(protocol_capabilities, change.what, "listChanged")
    ]


async def subscribed(
    ask: Callable[[str, Mapping[str, Raw]], Awaitable[object]],
    honoured: frozenset[str],
    wanted: frozenset[str],
) -> frozenset[str]:
    """Have a legacy upstream tell of ``wanted`` instead of ``honoured``; what it agreed to by now.

    ``ask`` sends a request of our own and raises ConnectorError; several are under way at a time.
    """
    agreed = set(honoured & wanted)
    limiter = anyio.CapacityLimiter(MAX_ASKING)

    async def tell(method: str, uri: str) -> None:
        try:
            async with limiter:
                await ask(method, {"uri": raw(uri)})
        except ConnectorError:
            return
        if uri in wanted:
            agreed.add(uri)

    async with anyio.create_task_group() as asking:
        for uri in honoured - wanted:
            asking.start_soon(tell, "resources/unsubscribe", uri)
        for uri in wanted - honoured:
            asking.start_soon(tell, "resources/subscribe", uri)
    return frozenset(agreed)


def is_refusal(end: Result | Failure) -> bool:
    """Whether a stream ended because the upstream does not offer it, so that asking again is idle."""
    if isinstance(end, Result):
        return False
    if end.kind == "status":
        return end.status is not None and 300 <= end.status < 500 and end.status not in {408, 429}
    return end.kind in {"error", "violation"}


class Patience:
    """How long to pause before a stream is opened again: ever longer, until one stands for a while."""

    def __init__(self) -> None:
        self.asked_s: float | None = None
        """What the upstream itself asked for, if anything."""
        self._pause_s = _FIRST_PAUSE_S
        self._opened = 0.0

    def opened(self) -> None:
        """A stream is being opened."""
        self._opened = asyncio.get_running_loop().time()

    def pause_s(self) -> float:
        """Seconds until the next one; the upstream's own wish counts once its streams stand."""
        lived_s = asyncio.get_running_loop().time() - self._opened
        if lived_s >= _HEALTHY_S:
            self._pause_s = _FIRST_PAUSE_S
        pause_s = self._pause_s
        self._pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        if self.asked_s is None:
            return pause_s
        asked_s = min(self.asked_s, _LONGEST_PAUSE_S)
        return asked_s if lived_s >= _STANDING_S else max(asked_s, pause_s)
