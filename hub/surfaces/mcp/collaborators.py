"""What the MCP surface works with and does not make: passed in by the application, typed here."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from anyio.abc import TaskGroup
from msgspec import Raw, Struct, field

from hub.domain.announcement import Announcement, ListKind
from hub.domain.call import Call
from hub.domain.parked import AbandonReason, ParkedCall
from hub.domain.principal import Principal
from hub.pipeline import Pipeline
from hub.surfaces.credentials import Proxies
from hub.surfaces.front_door import FrontDoor
from hub.surfaces.mcp.open_streams import OpenStreams
from mcp_wire.jsonrpc import Message

Unregister = Callable[[], None]


class Seal(Protocol):
    """Makes and reads tokens that only this installation can make (``hub.vault.sealed.Sealer``)."""

    def seal(
        self,
        content: bytes,
        *,
        purpose: str,
        associated: bytes = b"",
        lifetime_s: float | None = None,
    ) -> str:
        """A token of visible ASCII."""
        ...

    def unseal(self, token: str, *, purpose: str, associated: bytes = b"") -> bytes | None:
        """What was sealed; None for whatever was not, or for another purpose, or for something else."""
        ...


class Reader(Protocol):
    """Whoever follows the stream of an answer that was begun elsewhere."""

    def end(self) -> None:
        """Send what was offered, and nothing more."""
        ...


class Replay(Protocol):
    """The stream of one answer, kept for whoever lost it (``hub.live.replays.Replay``)."""

    reader: Any
    """Who has taken it up and is still there; what :meth:`take_up` was given."""
    ended: bool
    """Whether the answer was said."""

    @property
    def is_whole(self) -> bool:
        """Whether the answer will come, or is kept."""
        ...

    @property
    def beginning(self) -> str:
        """The id of an event before all others."""
        ...

    def mark(self) -> str:
        """The id of an event that says nothing."""
        ...

    def keep(self, message: bytes, *, last: bool = False) -> str:
        """Keep a message as well as possible; the id of its event. ``last``: it is the answer."""
        ...

    def after(self, event_id: str) -> list[tuple[str, bytes]]:
        """Ids and messages of what was said after an event and is still kept."""
        ...

    def forget(self) -> None:
        """There will be no answer."""
        ...

    def on_taken_up(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called when a reader comes, and when the last one has left."""
        ...

    def take_up(self, reader: Reader) -> None:
        """Follow the stream from now on; whoever did so before is sent away."""
        ...

    def leave(self, reader: Reader) -> None:
        """Follow it no longer."""
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
    told: dict[ListKind, object | None] | None

    def begin_stream(self, request_id: bytes) -> Replay:
        """The stream of the answer to a request, whose id is given as JSON text."""
        ...

    def stream_of(self, event_id: str) -> Replay | None:
        """The stream that an event belongs to; None when it is no longer known."""
        ...

    def request_of(self, event_id: str) -> bytes | None:
        """The id of the request that an event's stream answered, known or not; None for others."""
        ...


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

    def on_session(self, session: str, listener: Callable[[Announcement], None]) -> Unregister:
        """Hear of what concerns one legacy session, by its nonce."""
        ...


class Subscriptions(Protocol):
    """Counts who wants updates of which resource (``hub.live.subscriptions.Subscriptions``)."""

    def add(self, tenant: str, virtual_server: str, uris: Iterable[str]) -> None:
        """One more stream wants updates of these."""
        ...

    def remove(self, tenant: str, virtual_server: str, uris: Iterable[str]) -> None:
        """One stream less does."""
        ...

    async def honoured(
        self, tenant: str, virtual_server: str, uris: frozenset[str]
    ) -> frozenset[str]:
        """Those of the wanted ones that upstreams will tell of, as far as that shows within 2 s."""
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


class ParkedCalls(Protocol):
    """Upstream requests that wait for their callers to come back (``hub.live.parked.ParkedCalls``)."""

    def make_room(self, owner: tuple[str, str]) -> None:
        """Make sure that a principal, named with its tenant, can park one more. Raises Refusal."""
        ...

    def park(self, call: ParkedCall) -> None:
        """Keep a call for which room was made."""
        ...

    def take(self, handle: str) -> ParkedCall | None:
        """The call of a handle, which is the taker's from now on; None for an unknown one."""
        ...

    def abandon(self, handle: str, reason: AbandonReason) -> None:
        """Give a call up; nothing for an unknown handle."""
        ...


def _nobody_is_told(*_: str) -> None:
    """Where no upstream keeps conversations with clients."""


class Collaborators(Struct, frozen=True, kw_only=True):
    """Everything the MCP surface is given."""

    pipeline: Pipeline
    views: Views
    sessions: LiveSessions
    bus: Bus
    subscriptions: Subscriptions
    revocations: Revocations
    seal: Seal
    parked: ParkedCalls
    tasks: TaskGroup
    """The application's: calls whose caller has gone run on in it, and nothing in it raises."""
    new_call_id: Callable[[], str]
    refused_before_identify: Callable[[str, str], None]
    """Counts what became no call: takes the source (an address) and the reason."""
    front_door: FrontDoor
    proxies: Proxies
    version: str
    """Portico's own, for ``serverInfo``."""
    roots_changed: Callable[[str, str, str], None] = _nobody_is_told
    """Told of tenant, principal and session whose client has other roots now."""
    session_left: Callable[[str, str], None] = _nobody_is_told
    """Told of tenant and session whose client will not come back."""
    streams: OpenStreams = field(default_factory=OpenStreams)
    heartbeat_s: float = 15.0
    """How long a stream may be silent before a comment is sent, and an answer before it becomes one."""
    answer_within_s: float = 600.0
    """How long legacy callers may take to answer the questions of a modern upstream."""
