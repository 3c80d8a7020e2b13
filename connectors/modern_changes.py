"""Hearing of a modern upstream's changes: one ``subscriptions/listen`` stream (2026-07-28)."""

from collections.abc import Callable
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw

from connectors.http_changes import (
    LIST_FLAGS,
    SETTLE_S,
    Patience,
    change_of,
    changed_lists,
    is_refusal,
    offers,
)
from connectors.mcp_modern import ModernCall, ModernUpstream
from connectors.protocol import Change, Request
from mcp_wire.jsonrpc import Message, members_of, raw

ACKNOWLEDGED_WITHIN_S: Final = 10.0

_FOREVER: Final = float("inf")
_TRUE: Final = Raw(b"true")
_uris: Final = msgspec.json.Decoder(list[str])


class ModernChanges:
    """What one modern upstream is listened to for.

    After a gap everything listened to counts as changed, as nobody repeats what was missed.
    """

    def __init__(
        self, upstream: ModernUpstream, tasks: TaskGroup, protocol_capabilities: Raw
    ) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._protocol_capabilities = protocol_capabilities
        self._wanted: frozenset[str] = frozenset()
        self._current: _Subscription | None = None

    async def start(self) -> None:
        """Begin to listen; waits a little for the upstream to grant it."""
        if self._current is None:
            await self._replace(SETTLE_S)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Hear of updates of exactly these resources; those the upstream agreed to."""
        if not offers(self._protocol_capabilities, "resources", "subscribe"):
            return frozenset()
        if uris != self._wanted or self._current is None:
            self._wanted = uris
            await self._replace(ACKNOWLEDGED_WITHIN_S)
        current = self._current
        return current.honoured & uris if current is not None else frozenset()

    def close(self) -> None:
        """Listen no more."""
        current, self._current = self._current, None
        if current is not None:
            current.end()

    async def _replace(self, wait_s: float) -> None:
        """Open a stream for all that is wanted now, then end the one before."""
        before, self._current = self._current, None
        asked: dict[str, Raw] = {
            flag: _TRUE
            for feature, flag in LIST_FLAGS.items()
            if offers(self._protocol_capabilities, feature, "listChanged")
        }
        if self._wanted:
            asked["resourceSubscriptions"] = raw(sorted(self._wanted))
        if asked:
            self._current = current = _Subscription(raw(asked))
            self._tasks.start_soon(self._keep, current)
            with anyio.move_on_after(wait_s):
                await current.settled.wait()
        if before is not None:
            before.end()

    async def _keep(self, subscription: "_Subscription") -> None:
        """Open the stream again as long as the upstream grants it."""
        patience = Patience()
        was_granted = told_closed = False
        while self._current is subscription:
            patience.opened()
            subscription.granted = False
            call = _Listening(self._upstream, subscription, self._catch_up if was_granted else None)
            subscription.call = call
            end = await call.last()
            subscription.settled.set()
            if is_refusal(end) or self._current is not subscription:
                return
            if subscription.granted:
                was_granted, told_closed = True, False
            elif was_granted and not told_closed:
                told_closed = True
                self._upstream.on_change(Change("closed"))
            await anyio.sleep(patience.pause_s())

    def _catch_up(self) -> None:
        for change in changed_lists(self._protocol_capabilities):
            self._upstream.on_change(change)
        for uri in self._wanted:
            self._upstream.on_change(Change("resource", uri))


class _Subscription:
    """One filter, listened for by one stream after another."""

    def __init__(self, asked: Raw) -> None:
        self.asked = asked
        self.settled = anyio.Event()
        """The upstream granted or refused it, or cannot be reached."""
        self.granted = False
        self.honoured: frozenset[str] = frozenset()
        self.call: _Listening | None = None

    def end(self) -> None:
        """Close the stream."""
        if self.call is not None:
            self.call.give_up("Nobody listens any more.")


class _Listening(ModernCall):
    """A ``subscriptions/listen`` request, which lasts until one side ends it."""

    __slots__ = ("_catch_up", "_on_change", "_subscription")

    def __init__(
        self,
        upstream: ModernUpstream,
        subscription: _Subscription,
        catch_up: Callable[[], None] | None,
    ) -> None:
        request = Request(
            method="subscriptions/listen",
            params={"notifications": subscription.asked},
            revision=upstream.revision,
            timeout_s=_FOREVER,
        )
        super().__init__(upstream, request, upstream.own, counted=False, cap_s=_FOREVER)
        self._subscription = subscription
        self._catch_up = catch_up
        self._on_change = upstream.on_change

    def take_other(self, message: Message) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.take_other`."""
        if message.method == "notifications/subscriptions/acknowledged":
            self._acknowledge(message)
            return
        change = change_of(message)
        if change is not None:
            self._on_change(change)

    def _acknowledge(self, message: Message) -> None:
        try:
            granted = members_of(members_of(message.params).get("notifications"))
            uris = frozenset(_uris.decode(granted.get("resourceSubscriptions", b"[]")))
        except msgspec.DecodeError:
            uris = frozenset()
        subscription = self._subscription
        subscription.honoured = uris
        subscription.granted = True
        subscription.settled.set()
        if self._catch_up is not None:
            self._catch_up()
