"""One HTTP/1.1 connection: a request goes out in one write, its answer comes back in callbacks."""

import asyncio
import re
import select
import socket
from collections.abc import Callable, Hashable
from typing import Any, Final, Literal, Protocol, cast

import httptools
from msgspec import Struct

from connectors.http_message import Headers
from mcp_wire.known_heads import KnownHeads

Breakage = Literal["disconnected", "violation"]

KnownHead = tuple[int, list[tuple[bytes, bytes]]]
"""Status and header fields of an answer."""

DRAIN_S: Final = 1.0
"""How long the rest of an answer that nobody wants any more may take before it is cut off."""
KEEP_ALIVE_MARGIN_S: Final = 1.0
TOO_LARGE_A_HEAD: Final = "The upstream's answer has too large a head."

_PROBES: Final = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
)
"""A long silent stream to a host that is gone ends within a minute."""
_KEEP_ALIVE: Final = re.compile(rb"timeout=([0-9]{1,6})")


class Limits(Struct, frozen=True, kw_only=True):
    """What one pool of connections allows itself and its upstream."""

    max_in_flight: int = 64
    keep_alive_s: float = 4.0
    """How long an idle connection is kept; below the upstream's own keep-alive."""
    connect_timeout_s: float = 10.0
    max_head_bytes: int = 64 * 1024
    max_body_bytes: int = 32 * 1024 * 1024


class Receiver(Protocol):
    """Takes one answer, on the event loop. One of the last three is called once, as the last."""

    def head(self, status: int, headers: Headers) -> None:
        """The status and header fields."""
        ...

    def body(self, chunk: bytes) -> None:
        """A piece of the body, as it came."""
        ...

    def complete(self) -> None:
        """The answer is whole; the connection is back in its pool."""
        ...

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """All of an answer that is no event stream; nothing follows."""
        self.head(status, headers)
        self.body(body)
        self.complete()

    def broken(self, breakage: Breakage, reason: str) -> None:
        """The connection is gone, and the rest of the answer with it."""
        ...


class _Nobody(Receiver):
    """Receives an answer that nobody wants any more."""

    def head(self, status: int, headers: Headers) -> None: ...
    def body(self, chunk: bytes) -> None: ...
    def complete(self) -> None: ...
    def broken(self, breakage: Breakage, reason: str) -> None: ...


NOBODY: Final = _Nobody()


class Owner(Protocol):
    """The pool, as its connections see it."""

    limits: Limits
    sent_count: int
    heads: KnownHeads[KnownHead]
    """Of answers that came in one piece and left the connection open."""

    def opened(self, connection: "HttpConnection") -> None:
        """The connection stands."""
        ...

    def freed(self, connection: "HttpConnection", *, reusable: bool) -> None:
        """Its answer is whole."""
        ...

    def drained(self, connection: "HttpConnection") -> None:
        """Nobody waits for the rest of its answer."""
        ...

    def lost(self, connection: "HttpConnection") -> None:
        """It is closed."""
        ...


class HttpConnection(asyncio.Protocol):
    """A connection in the hands of a pool; see :class:`connectors.http_pool.HttpPool`.

    Methods whose names begin with ``on_`` belong to the parser, the other public ones of
    :class:`asyncio.Protocol` to the event loop.
    """

    __slots__ = (
        "_complete",
        "_excess",
        "_head_bytes",
        "_headers",
        "_is_first",
        "_keep",
        "_max_head_bytes",
        "_owner",
        "_parser",
        "_paused",
        "_piece",
        "_poll",
        "_receiver",
        "_status",
        "_transport",
        "counted",
        "drain_until",
        "idle_until",
        "key",
        "offered_idle_s",
    )

    def __init__(self, owner: Owner, key: Hashable) -> None:
        self.key = key
        """Which requests may share it: those of one credential."""
        self.counted = False
        """Whether its request takes one of ``max_in_flight`` places; the pool's to change."""
        self.idle_until = 0.0
        self.drain_until = 0.0
        self.offered_idle_s = float("inf")
        self._owner = owner
        self._max_head_bytes = owner.limits.max_head_bytes
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until it stands
        self._poll: Callable[[int], list[Any]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._piece = b""
        """What came, where it may be the whole answer."""
        self._complete = False
        self._keep = False
        self._excess = False
        self._paused = False
        self._is_first = True

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent: open, and nothing came that nobody asked for."""
        return not self._transport.is_closing() and not (self._poll is not None and self._poll(0))

    @property
    def is_busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._receiver is not None

    def send(self, message: bytes, receiver: Receiver) -> None:
        """Put a whole request on the wire. The connection must be idle."""
        self._receiver = receiver
        self._forget_answer()
        self._owner.sent_count += 1
        self._transport.write(message)

    def pause(self) -> None:
        """Read no more of the answer for now; the upstream will have to wait."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def drain(self) -> None:
        """Nobody wants the rest of the answer; when it ends soon the connection is kept."""
        if self._receiver is not None:
            self._receiver = NOBODY
            self.drain_until = asyncio.get_running_loop().time() + DRAIN_S
            self.resume()
            self._owner.drained(self)

    def abandon(self) -> None:
        """Close at once, the answer unread: how a modern upstream is told that it was given up."""
        self._receiver = None
        self._transport.abort()

    def cut(self) -> None:
        """Close at once; whoever waits for the answer is told."""
        self._transport.abort()

    def close(self) -> None:
        """Close in an orderly way."""
        self._receiver = None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop: it stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._watch()
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """The event loop: something came."""
        if self._receiver is None:
            self._transport.abort()
            return
        if self._status == 0:
            if self._head_bytes == 0 and self._is_taken_whole(self._receiver, data):
                return
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ or error) from error
        except httptools.HttpParserUpgrade:
            self._break("The upstream switched to another protocol.")
        except httptools.HttpParserError as error:
            if not self._complete:
                self._break(f"The upstream's answer is no HTTP: {error}")
            self._excess = True
        if self._complete:
            self._finish()
            return
        self._piece = b""
        if self._status == 0 and self._head_bytes > self._max_head_bytes:
            self._break(TOO_LARGE_A_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        """The event loop: it is closed."""
        receiver, self._receiver = self._receiver, None
        self._owner.lost(self)
        if receiver is None:
            return
        if exc is None and self._status and not self._is_sized():
            receiver.complete()  # the end of the connection is the end of the body
        else:
            receiver.broken("disconnected", "The upstream closed the connection.")

    def on_message_begin(self) -> None:
        """The parser: an answer begins, which must not be a second one."""
        if self._complete:
            self._excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser: a header field, or a trailer, which is dropped."""
        if self._status == 0:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The parser: the head is whole; interim answers (1xx) are passed over."""
        status = self._parser.get_status_code()
        if self._complete or self._receiver is None:
            return
        if 100 <= status < 200:
            self._headers = []
            return
        self._status = status
        if self._head_bytes > self._max_head_bytes and self._is_head_too_large():
            self._break(TOO_LARGE_A_HEAD)
        else:
            self._receiver.head(status, self._headers)

    def on_body(self, chunk: bytes) -> None:
        """The parser: a piece of the body."""
        if self._receiver is not None and not self._complete:
            self._receiver.body(chunk)

    def on_message_complete(self) -> None:
        """The parser: the answer is whole."""
        if self._status and not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    def _is_taken_whole(self, receiver: Receiver, data: bytes) -> bool:
        """Whether ``data`` was one answer whose head is known: it has been taken then."""
        found = self._owner.heads.find(data)
        if found is None:
            self._piece = data
            return False
        (status, self._headers), body = found
        self._receiver = None
        self._keep = True
        self._free()
        receiver.whole(status, self._headers, body)
        return True

    def _remember(self) -> None:
        """Know the head again, where the answer came in one piece and says how long it is."""
        piece, self._piece = self._piece, b""
        headers = dict(self._headers)
        length = int(headers.get(b"content-length", b"-1"))
        is_stream = b"event-stream" in headers.get(b"content-type", b"").lower()
        if 0 <= length <= min(len(piece), self._owner.limits.max_body_bytes) and not is_stream:
            body = piece[len(piece) - length :]
            self._owner.heads.keep(piece, body, (self._status, self._headers))

    def _is_sized(self) -> bool:
        """Whether the answer says itself where it ends."""
        return any(name in {b"content-length", b"transfer-encoding"} for name, _ in self._headers)

    def _is_head_too_large(self) -> bool:
        """What was counted may be body: it came in the same piece as the end of the head."""
        sizes = sum(len(name) + len(value) + 4 for name, value in self._headers)
        return sizes > self._max_head_bytes

    def _note_offer(self) -> None:
        """``Keep-Alive: timeout=5``: what the upstream itself says of its patience, less a margin."""
        for name, value in self._headers:
            if name == b"keep-alive":
                found = _KEEP_ALIVE.search(value)
                if found is not None:
                    self.offered_idle_s = max(0.0, float(found.group(1)) - KEEP_ALIVE_MARGIN_S)

    def _forget_answer(self) -> None:
        self._status = 0
        self._headers = []
        self._head_bytes = 0
        self._complete = False
        self._keep = False
        self._excess = False
        self._paused = False
        self.drain_until = 0.0

    def _finish(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None and self._piece and self._keep and not self._excess:
            self._remember()
        self._free()
        if receiver is not None:
            receiver.complete()

    def _free(self) -> None:
        """Give the connection back."""
        transport = self._transport
        if self._paused:
            self.resume()
        if self._is_first:
            self._is_first = False
            self._note_offer()
        reusable = (
            self._keep
            and not self._excess
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )
        self._owner.freed(self, reusable=reusable)

    def _break(self, reason: str) -> None:
        receiver, self._receiver = self._receiver, None
        self._transport.abort()
        if receiver is not None:
            receiver.broken("violation", reason)

    def _watch(self) -> None:
        """Notice an upstream that hung up, without the event loop's help, or vanished silently."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _PROBES:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
            self._poll = poll.poll
