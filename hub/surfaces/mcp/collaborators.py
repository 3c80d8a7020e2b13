"""What the MCP surface works with and does not make: passed in by the application, typed here."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from anyio.abc import TaskGroup
from msgspec import Raw, Struct

from hub.domain.announcement import Announcement, ListKind
from hub.domain.call import Call
from hub.domain.principal import Principal
from hub.pipeline import Pipeline
from hub.surfaces.credentials import Proxies
from hub.surfaces.front_door import FrontDoor
from mcp_wire.jsonrpc import Message

Unregister = Callable[[], None]


class Seal(Protocol):
    """Makes and reads tokens that only this installation can make (``hub.vault.sealed.Sealer``)."""

    def seal(self, content: bytes, *, purpose: str) -> str:
        """A token of visible ASCII."""
        ...

    def unseal(self, token: str, *, purpose: str) -> bytes | None:
        """What was sealed; None for whatever was not, or for another purpose."""
        ...


class LiveSession(Protocol):
    """What changes in the course of a legacy session (``hub.live.sessions.LiveSession``)."""

    log_level: str | None
    client_info: Raw | None
    subscribed: set[str]
    calls: dict[bytes, Callable[[], None]]
    asks: dict[str, Callable[[Message], Coroutine[Any, Any, None]]]
    hang_up: Callable[[], None] | None
    restored: bool


class LiveSessions(Protocol):
    """Live sessions by nonce (``hub.live.sessions.Sessions``)."""

    def begin(self, nonce: str) -> LiveSession:
        """The state of a session that was just initialised."""
        ...

    def resume(self, nonce: str) -> LiveSession | None:
        """The state of a session that a valid id names; None once it was ended."""
        ...

    def end(self, nonce: str) -> None:
        """End a session for good."""
        ...


class Bus(Protocol):
    """Announcements inside the process (``hub.live.bus.Bus``)."""

    def on_lists(
        self, tenant: str, virtual_server: str, listener: Callable[[Announcement], None]
    ) -> Unregister:
        """Hear of list changes of one virtual server."""
        ...

    def on_resource(
        self, tenant: str, virtual_server: str, uri: str, listener: Callable[[Announcement], None]
    ) -> Unregister:
        """Hear of updates of one exposed resource."""
        ...


class Subscriptions(Protocol):
    """Counts who wants updates of which resource (``hub.live.subscriptions.Subscriptions``)."""

    def add(self, tenant: str, virtual_server: str, uri: str) -> None:
        """One more stream wants updates of ``uri``."""
        ...

    def remove(self, tenant: str, virtual_server: str, uri: str) -> None:
        """One stream less does."""
        ...


class Revocations(Protocol):
    """Tells when something was withdrawn (``hub.live.revocation.Revocations``)."""

    def on_change(self, listener: Callable[[], None]) -> Unregister:
        """Have ``listener`` called after each change."""
        ...


class Views(Protocol):
    """What the caller of an open stream may see by now (``hub.surfaces.mcp.views.CallerViews``).

    Everything is decided anew from the stream's own call, with the snapshot in force.
    """

    def principal(self, call: Call) -> Principal:
        """Who calls. Raises Refusal; being known is no right to any virtual server."""
        ...

    def admits(self, call: Call) -> bool:
        """Whether the caller is still known and may still use its virtual server."""
        ...

    def digest(self, call: Call, kind: ListKind) -> object | None:
        """Equal for equal exposed lists of the caller; None once it is not admitted any more."""
        ...

    def may_read(self, call: Call, uri: str) -> bool:
        """Whether the caller may read an exposed resource."""
        ...


class Collaborators(Struct, frozen=True, kw_only=True):
    """Everything the MCP surface is given."""

    pipeline: Pipeline
    views: Views
    sessions: LiveSessions
    bus: Bus
    subscriptions: Subscriptions
    revocations: Revocations
    seal: Seal
    tasks: TaskGroup
    """The application's: calls whose caller has gone run on in it, and nothing in it raises."""
    new_call_id: Callable[[], str]
    refused_before_identify: Callable[[str, str], None]
    """Counts what became no call: takes the source (an address) and the reason."""
    front_door: FrontDoor
    proxies: Proxies
    version: str
    """Portico's own, for ``serverInfo``."""
    heartbeat_s: float = 15.0
    """How long a stream may be silent before a comment is sent, and an answer before it becomes one."""
