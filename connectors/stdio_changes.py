"""Hearing of changes from the primary session: list changes, and updates of watched resources."""

from collections.abc import Mapping
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw

from connectors.errors import ConnectorError
from connectors.exchange import Exchange
from connectors.protocol import Change, OnChange
from connectors.stdio_session import StdioSession
from mcp_wire.jsonrpc import decode_members, raw

TRUE: Final = Raw(b"true")

ACKNOWLEDGED_WITHIN_S: Final = 10.0
LISTEN_AGAIN_S: Final = 1.0
"""Pause after a server ended a subscription it had granted."""

_LISTS: Final[Mapping[str, str]] = {
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
        honoured = set(self._honoured & self._wanted)
        for uri in self._honoured - self._wanted:
            await self._told(session, "resources/unsubscribe", uri)
        for uri in self._wanted - self._honoured:
            if await self._told(session, "resources/subscribe", uri):
                honoured.add(uri)
        self._honoured = frozenset(honoured)

    async def _told(self, session: StdioSession, method: str, uri: str) -> bool:
        try:
            await session.ask(method, {"uri": raw(uri)})
        except ConnectorError:
            return False
        return True

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
            self._subscription = subscription = _Subscription(session, asked)
            self._tasks.start_soon(self._keep, subscription)
            with anyio.move_on_after(ACKNOWLEDGED_WITHIN_S):
                await subscription.settled.wait()
            self._honoured = subscription.honoured & self._wanted
        if before is not None:
            before.end()

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

    def __init__(self, session: StdioSession, asked: Mapping[str, Raw]) -> None:
        self.session = session
        self.settled = anyio.Event()
        """The server has granted or refused it."""
        self.honoured: frozenset[str] = frozenset()
        self._asked = asked
        self._granted = False
        self._exchange: Exchange | None = None

    async def run(self) -> bool:
        """Hold it open until it ends; whether the server had granted it."""
        self._granted = False
        params = self.session.stamped({"notifications": raw(self._asked)})
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
