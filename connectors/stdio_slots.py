"""The places of a stdio upstream's children: what they are kept by, how they are used, when they rest."""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

import anyio
from msgspec import Struct

from connectors.errors import ConnectorError, Unreachable
from connectors.stdio_session import StdioSession
from mcp_wire.revisions import Era

HEALTHY_LIFE_S: Final = 30.0
"""A child that ends later than that is started again at once."""
RESTS_S: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""How long starting rests after that many failures in a row."""
MAX_RESTS: Final = 256


class SessionKey(Struct, frozen=True):
    """What two requests must have in common to meet in one child."""

    credential: tuple[str, int]
    """Id and version."""
    era: Era | Literal[""]
    """Empty: whatever the server turns out to speak."""
    affinity: str = ""
    capabilities: bytes = b"{}"
    """Client capabilities declared in the handshake; the modern era declares them per request."""

    def settled(self, era: Era) -> "SessionKey":
        """The key once the era is known."""
        capabilities = self.capabilities if era == "legacy" else b"{}"
        return SessionKey(self.credential, era, self.affinity, capabilities)


class Wanted(Struct, frozen=True, kw_only=True):
    """A session that somebody needs."""

    key: SessionKey
    environment: Mapping[str, str] = {}
    exclusive: bool = False
    """Nobody else is in the session while it is held."""
    primary: bool = False
    """The one that lists and announces changes."""
    tentative: bool = False
    """Whether it starts at all is the question: failing says nothing against the upstream."""


class Slot:
    """A place among the children of an upstream, and how it is used."""

    __slots__ = (
        "born",
        "environment",
        "error",
        "exclusive",
        "idle_since",
        "kept",
        "key",
        "primary",
        "ready",
        "session",
        "tentative",
        "uses",
    )

    def __init__(self, wanted: Wanted) -> None:
        self.key = wanted.key
        self.environment = wanted.environment
        self.tentative = wanted.tentative
        self.primary = False
        """It lists, and what it announces is heard."""
        self.kept = False
        """Not stopped for being idle: somebody listens to it."""
        self.session: StdioSession | None = None
        self.error: ConnectorError | None = None
        self.ready = asyncio.Event()
        self.uses = 0
        self.exclusive = False
        self.born = self.idle_since = anyio.current_time()

    @property
    def live(self) -> StdioSession:
        """The open session. Raises Unreachable when it could not be opened or has ended."""
        if self.error is not None:
            raise self.error
        if self.session is None or self.session.ended:
            raise Unreachable("The child has ended.")
        return self.session


class Resting(Unreachable):
    """Starting failed too often lately."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rests:
    """When children may be started again, by credential: failures in a row make the rest longer."""

    def __init__(self) -> None:
        self._rests: dict[tuple[str, int], _Rest] = {}

    def note(self, credential: tuple[str, int], reason: str, *, lived_s: float = 0.0) -> None:
        """A child ended ``lived_s`` after its start."""
        now = anyio.current_time()
        if len(self._rests) >= MAX_RESTS:
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > now}
        before = self._rests.get(credential)
        failures = 1 if before is None or lived_s >= HEALTHY_LIFE_S else before.failures + 1
        rest_s = RESTS_S[min(failures, len(RESTS_S)) - 1]
        self._rests[credential] = _Rest(failures, now + rest_s, reason)

    def check(self, credential: tuple[str, int]) -> None:
        """Raises Resting while no child is to be started."""
        rest = self._rests.get(credential)
        left_s = rest.until - anyio.current_time() if rest is not None else 0.0
        if rest is not None and left_s > 0:
            raise Resting(f"{rest.reason}\nThe next start is in {left_s:.0f} s.", left_s)


class _Rest(Struct, frozen=True):
    failures: int
    until: float
    reason: str
