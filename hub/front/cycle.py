"""One request over ASGI, and its answer as few writes as it can be."""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from hub.front.door import Door
from hub.surfaces.asgi import Scope
from hub.surfaces.connection import Client, Head

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


def scope_of(head: Head, client: Client, server: tuple[str, int | None] | None) -> Scope:
    """What ASGI says of a request but for the server's own members.

    Raises HttpParserInvalidURLError or UnicodeDecodeError for a target that nobody can read.
    """
    target = httptools.parse_url(head.url)
    path: bytes = target.path or b"/"
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": head.http_version,
        "server": server,
        "client": client,
        "root_path": "",
        "headers": head.headers,
        "method": head.method,
        "path": unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii"),
        "raw_path": path,
        "query_string": target.query or b"",
    }


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

    def __init__(self, door: Door, **given: Any) -> None:
        """``given`` is what uvicorn's class takes."""
        super().__init__(**given)
        self._door = door

    async def send(self, message: Any) -> None:
        """See ASGI 3.0, HTTP Connection Scope."""
        if not self.response_started:
            if self._door.closing:
                self.keep_alive = False  # also where that was decided after the request had come
            if self.scope["method"] != "HEAD":
                is_sized = any(name == b"content-length" for name, _ in message.get("headers", ()))
                self.transport.holds = is_sized  # type: ignore[attr-defined]  # it is corked
        await super().send(message)
