"""A request as the server hands it over, and the connection its answer goes to."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from hub.surfaces.asgi import Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Client = tuple[str, int] | None
"""Address and port of the socket's peer, where it has them."""


class Head(Struct, frozen=True, gc=False):
    """The head of a request."""

    method: str
    http_version: str
    url: bytes
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""


class Connection(Protocol):
    """Where an answer goes that needs no ASGI (:class:`hub.front.protocol.FrontProtocol`)."""

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
