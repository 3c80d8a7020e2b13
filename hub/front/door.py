"""What connections are given: limits, and the fast lane that simple requests may take."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from hub.surfaces.asgi import Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]

Count = Callable[[str, str], None]
"""Takes the source (an address) and the reason of a request that became no call."""


class FrontLimits(Struct, frozen=True, kw_only=True):
    """What a connection may cost. Times are kept to within one sweep."""

    head_bytes: int = 64 * 1024
    head_s: float = 10.0
    """How long a request's header fields may take, from their first byte."""
    body_idle_s: float = 30.0
    """How long a body may be silent while it is read."""
    unread_s: float = 60.0
    """How long a client may take nothing of an answer."""
    idle_s: float = 75.0
    """How long a connection may wait for its next request."""
    sweep_s: float = 1.0
    """How often connections are looked at."""


class Door:
    """What all connections of a server share."""

    def __init__(self, lane: "Lane | None", count: Count, limits: FrontLimits) -> None:
        """``lane`` takes what needs no ASGI; ``count`` hears of what became no request."""
        self.lane = lane
        self.count = count
        self.limits = limits
        self.closing = False
        """Whether connections end with the answer under way."""


class Arrived(Protocol):
    """A request that was read (:class:`hub.front.protocol.FrontProtocol`)."""

    memo: object
    url: bytes
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None

    @property
    def closing(self) -> bool:
        """Whether the connection ends with this answer."""
        ...

    def answered(self, message: bytes) -> None:
        """Send the whole answer."""
        ...

    def continued(self, app: App) -> None:
        """Have ``app`` answer the request over ASGI."""
        ...


class LaneCall(Protocol):
    """A request that the fast lane has taken."""

    def hung_up(self) -> None:
        """Its client has gone."""
        ...

    def lasts(self) -> None:
        """It is under way for a second or more: nobody gains by waiting for it in the fast lane."""
        ...


class Lane(Protocol):
    """Takes requests that need no ASGI (``hub.surfaces.mcp.fast_lane.lane.FastLane``)."""

    def admits(self, target: bytes) -> bool:
        """Whether POSTs to this request target can be taken at all."""
        ...

    def take(self, arrived: Arrived, body: bytes) -> LaneCall | None:
        """Take a whole POST; None leaves it to ASGI, as if it had never been offered.

        It may be answered before this returns.
        """
        ...
