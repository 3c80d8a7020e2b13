"""Hearing of changes from the primary session: list changes, and updates of watched resources."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw

from connectors.exchange import Exchange
from connectors.http_changes import subscribed
from connectors.protocol import Change, OnChange
from connectors.stdio_session import StdioSession
from mcp_wire.jsonrpc import decode_members, raw

TRUE: Final = Raw(b"true")

ACKNOWLEDGED_WITHIN_S: Final = 10.0
LISTEN_AGAIN_S: Final = 1.0
"""Pause after a server ended a subscription it had granted."""

_LISTS: Final[Mapping[Literal["tools", "prompts", "resources"], str]] = {
    "tools": "toolsListChanged",
    "prompts": "promptsListChanged",
    "resources": "resourcesListChanged",
}


_uris: Final = msgspec.json.Decoder(list[str])


class Changes:
    """What one upstream is listened to for. Legacy servers announce list changes unasked."""

    def __init__(self, tasks: TaskGroup, on_change: OnChange) -> None:
        self._tasks = tasks
        self._on_change = on_change
        self._session: StdioSession | None = None
        self._wanted: frozenset[str] = frozenset()
        self._honoured: frozenset[str] = frozenset()
        self._subscription: _Subscription | None = None

    def hears(self, session: StdioSession) -> bool:
        """Whether ``session`` is the one that is listened to."""
        return self._session is session

    async def attach(self, session: StdioSession) -> None:
        """Listen to ``session`` from now on, for what was wanted of the one before.

        Updates may have been missed in between, so that watched resources count as updated.
        """
        is_first = self._session is None
        self._session = session
        self._honoured = frozenset()
        self._subscription = None
        await self._follow(session)
        if not is_first:
            for uri in self._honoured:
                self._on_change(Change("resource", uri))

    @property
    def wants_updates(self) -> bool:
        """Whether resources are watched."""
        return bool(self._wanted)

    def want(self, uris: frozenset[str]) -> None:
        """Watch exactly these resources from the next :meth:`follow` or :meth:`attach` on."""
        self._wanted = uris

    async def follow(self) -> frozenset[str]:
        """Have the session follow what is wanted; the resources whose updates it agreed to send."""
        if self._session is not None:
            await self._follow(self._session)
        return self._honoured

    async def _follow(self, session: StdioSession) -> None:
        if session.peer.era == "modern":
            await self._listen(session)
        elif session.offers("resources", "subscribe"):
            await self._subscribe(session)

    async def _subscribe(self, session: StdioSession) -> None:
        self._honoured = await subscribed(session.ask, self._honoured, self._wanted)

    async def _listen(self, session: StdioSession) -> None:
        """Open a subscription with all that is wanted, then end the one before (2026-07-28)."""
        asked: dict[str, Raw] = {
            flag: TRUE for feature, flag in _LISTS.items() if session.offers(feature, "listChanged")
        }
        if self._wanted and session.offers("resources", "subscribe"):
            asked["resourceSubscriptions"] = raw(sorted(self._wanted))
        before, self._subscription = self._subscription, None
        self._honoured = frozenset()
        if asked:
            self._subscription = subscription = _Subscription(session, asked, self._catch_up)
            self._tasks.start_soon(self._keep, subscription)
            with anyio.move_on_after(ACKNOWLEDGED_WITHIN_S):
                await subscription.settled.wait()
            self._honoured = subscription.honoured & self._wanted
        if before is not None:
            before.end()

    def _catch_up(self, subscription: "_Subscription") -> None:
        """A subscription was granted again: what happened in between was told to nobody."""
        for kind, flag in _LISTS.items():
            if flag in subscription.asked:
                self._on_change(Change(kind))
        for uri in subscription.honoured:
            self._on_change(Change("resource", uri))

    async def _keep(self, subscription: "_Subscription") -> None:
        """Open a subscription again as long as the server is the one that ends it."""
        while True:
            granted = await subscription.run()
            if not granted or self._subscription is not subscription:
                return
            await anyio.sleep(LISTEN_AGAIN_S)
            if self._subscription is not subscription or subscription.session.ended:
                return


class _Subscription:
    """One ``subscriptions/listen``, opened anew by each :meth:`run`."""

    def __init__(
        self,
        session: StdioSession,
        asked: Mapping[str, Raw],
        granted_again: Callable[["_Subscription"], None],
    ) -> None:
        self.session = session
        self.asked = asked
        self.settled = anyio.Event()
        """The server has granted or refused it."""
        self.honoured: frozenset[str] = frozenset()
        self._granted_again = granted_again
        self._granted = False
        self._was_granted = False
        self._exchange: Exchange | None = None

    async def run(self) -> bool:
        """Hold it open until it ends; whether the server had granted it."""
        self._granted = False
        params = self.session.stamped({"notifications": raw(self.asked)})
        self._exchange = self.session.peer.listen(params, acknowledged=self._acknowledged)
        try:
            await self._exchange.last()
        finally:
            self.settled.set()
        return self._granted

    def end(self) -> None:
        """Tell the server that nobody listens any more."""
        if self._exchange is not None:
            self._exchange.give_up("Replaced by another subscription.")

    def _acknowledged(self, filter_: Raw) -> None:
        self._granted = True
        try:
            listed = decode_members(filter_).get("resourceSubscriptions")
            self.honoured = frozenset(_uris.decode(listed)) if listed is not None else frozenset()
        except msgspec.DecodeError:
            self.honoured = frozenset()
        self.settled.set()
        if self._was_granted:
            self._granted_again(self)
        self._was_granted = True
