"""What connections are given: limits, and the fast lane that simple requests may take."""

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from hub.surfaces.connection import Client, Connection, Head
from mcp_wire.known_heads import KnownHeads

Count = Callable[[str, str], None]
"""Takes the source (an address) and the reason of a request that became no call."""


MAX_HEADS: Final = 1024
"""Heads of requests that are known again, of all clients together."""


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
        self.heads: KnownHeads[tuple[Head, object]] = KnownHeads(MAX_HEADS)
        """Of requests that the fast lane took: each with what the lane read in it."""
        self.closing = False
        """Whether connections end with the answer under way."""


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

    def read(self, head: Head, client: Client, before: object) -> object:
        """What such a head says to the lane; ``before`` is what the one before it said."""
        ...

    def take(self, connection: Connection, reading: object, body: bytes) -> LaneCall | None:
        """Take a whole POST; None leaves it to ASGI, as if it had never been offered.

        It may be answered before this returns.
        """
        ...
