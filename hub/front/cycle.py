"""One request over ASGI, and its answer as few writes as it can be."""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Head(Struct, frozen=True, gc=False):
    """The head of a request, kept while another one may be read."""

    method: str
    http_version: str
    url: bytes
    headers: list[tuple[bytes, bytes]]


class Corked:
    """A transport that sends the head of an answer together with what follows it at once."""

    __slots__ = ("_hang_up", "_head", "_transport", "holds")

    def __init__(self, transport: asyncio.Transport, hang_up: Callable[[], None]) -> None:
        """``hang_up`` closes the transport."""
        self._transport = transport
        self._hang_up = hang_up
        self._head = b""
        self.holds = False
        """Whether the next piece waits for the one after it."""

    def write(self, data: bytes) -> None:
        """Send ``data``, or keep it for the next piece."""
        if self.holds:
            self.holds = False
            self._head = data
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what was kept, and close."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._hang_up()

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self._transport.is_closing()


class Cycle(RequestResponseCycle):
    """One request and its answer; a body of announced length goes out with its head."""

    async def send(self, message: Any) -> None:
        """See ASGI 3.0, HTTP Connection Scope."""
        if not self.response_started and self.scope["method"] != "HEAD":
            is_sized = any(name == b"content-length" for name, _ in message.get("headers", ()))
            self.transport.holds = is_sized  # type: ignore[attr-defined]  # it is corked
        await super().send(message)
