"""A request on its way to an answer: the call it stands for, and where its messages go meanwhile."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from msgspec import Raw, Struct

from hub.domain.call import Call
from hub.pipeline import Admitted
from hub.surfaces.mcp.collaborators import LiveSession
from mcp_wire.revisions import Era


class Exchange(Protocol):
    """Where the messages of one call go before its answer."""

    @property
    def gone(self) -> bool:
        """Whether the caller can no longer be reached this way."""
        ...

    @property
    def can_show(self) -> bool:
        """Whether anything can be sent before the answer."""
        ...

    async def show(self, message: bytes) -> None:
        """Send a notification or a request; does nothing once the caller has gone."""
        ...

    async def pause(self, retry_ms: int | None) -> None:
        """Let a caller that can come back for the rest do so; nothing for one that cannot."""
        ...


class Silent:
    """An exchange that shows nothing: for requests that are answered with nothing before."""

    gone = False
    can_show = False

    async def show(self, message: bytes) -> None:
        """Nothing is shown."""

    async def pause(self, retry_ms: int | None) -> None:
        """There is nothing to come back to."""


SILENT: Final = Silent()


class Asked(Struct, frozen=True):
    """A request of the call's own and everything its answer depends on."""

    call: Call
    id: Raw
    era: Era
    exchange: Exchange
    progress_token: Raw | None = None
    extra: Mapping[str, Raw] = {}
    """Members of the result that the surface knows and no provider: ``supportedVersions`` and such."""
    check: Callable[[Admitted], None] | None = None
    """Looks at what was admitted; may raise Refusal."""
    session: LiveSession | None = None
    """Where a legacy client's answers to questions arrive."""
    questions: list[str] = []
    """Ids of the questions of this call that are open, in ``session.asks``."""
