"""One request over ASGI, and its answer in as few writes as it can be."""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from hub.front.door import Door
from hub.surfaces.asgi import Scope
from hub.surfaces.connection import Client, Head

MAX_GATHERED_BYTES: Final = 64 * 1024
"""How much of an answer waits for the end of a turn."""
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


class Gathered:
    """A transport that sends all that is written in one turn of the event loop at once.

    A write to a socket costs as much as making what is written, and wakes whoever reads it.
    """

    __slots__ = ("_hang_up", "_is_planned", "_loop", "_pieces", "_size_bytes", "_transport")

    def __init__(self, transport: asyncio.Transport, hang_up: Callable[[], None]) -> None:
        """``hang_up`` closes the transport."""
        self._transport = transport
        self._hang_up = hang_up
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._is_planned = False

    def write(self, data: bytes) -> None:
        """Send ``data`` in this turn of the loop; much of it now, so that a slow reader shows."""
        self._pieces.append(data)
        self._size_bytes += len(data)
        if self._size_bytes >= MAX_GATHERED_BYTES:
            self.flush()
        elif not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._flush_in_turn)

    def flush(self) -> None:
        """Send what was written, now."""
        if self._pieces:
            pieces, self._pieces, self._size_bytes = self._pieces, [], 0
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def close(self) -> None:
        """Send what was written, and close."""
        self.flush()
        self._hang_up()

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self._transport.is_closing()

    def _flush_in_turn(self) -> None:
        self._is_planned = False
        if not self._transport.is_closing():
            self.flush()


class Cycle(RequestResponseCycle):
    """One request and its answer, which goes out in as few writes as it can."""

    def __init__(self, door: Door, transport: Gathered, **given: Any) -> None:
        """``given`` is what else uvicorn's class takes."""
        super().__init__(transport=transport, **given)  # type: ignore[arg-type]  # the part that is used
        self._door = door
        self._gathered = transport

    async def send(self, message: Any) -> None:
        """See ASGI 3.0, HTTP Connection Scope."""
        if self._door.closing and not self.response_started:
            self.keep_alive = False  # also where that was decided after the request had come
        await super().send(message)
        if self.response_complete:
            self._gathered.flush()
