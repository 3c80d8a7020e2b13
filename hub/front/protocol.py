"""The HTTP server's end of one connection: what it may cost, and the door of the fast lane.

A subclass of uvicorn's protocol, which is no stable interface: ``pyproject.toml`` pins its range, and
the contract tests of this module hold it to what is used here. Limits need no timer per request:
one sweep a second looks at all connections.
"""

import asyncio
import logging
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from hub.front.cycle import Cycle, Gathered, scope_of
from hub.front.door import Door, Lane, LaneCall
from hub.surfaces.connection import App, Head

_logger = logging.getLogger(__name__)

MAX_HELD_BYTES: Final = 1024 * 1024
"""Bodies up to this size are kept together for the fast lane."""

LINGER_S: Final = 1.0
"""How long what a client goes on sending is thrown away, so that it comes to read its answer."""
_LARGE_DIGITS: Final = 7
"""A body of a million bytes has a length of so many digits."""

_REFUSED: Final = b"%bcontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"


class FrontProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door = door
        self._lane = door.lane
        self._heads = door.heads
        self._peer = ""
        self._limits = door.limits
        self._seen_at: float | None = None
        """When a sweep first saw what is waited for: a head, a piece of body, the next request."""
        self._in_head = False
        self._in_body = False
        self._refused = False
        self._head_bytes = 0
        self._held: list[bytes] | None = None
        """Pieces of a body that may go to the fast lane; None: this request does not."""
        self._held_bytes = 0
        self._is_large = False
        """A body is announced that the application has to judge before it comes."""
        self._piece = b""
        """What came last, where a request began with it."""
        self._reading: object = None
        """What the last head said to the fast lane."""
        self._taken: LaneCall | None = None
        self._taken_head: Head | None = None
        """Of the request that the fast lane is answering; None: there is none."""
        self._serving: Cycle | None = None
        """The request that ASGI is answering; ``cycle`` is the last one that was read."""

    @property
    def closing(self) -> bool:
        """Whether the connection ends with the answer under way, which has to say so."""
        return self._door.closing

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self.is_answering or self._in_body or self._in_head

    @property
    def is_answering(self) -> bool:
        """Whether an answer has yet to be sent before another one."""
        serving = self._serving
        under_way = serving is not None and not serving.response_complete
        return under_way or self._taken_head is not None or bool(self.pipeline)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
        """The event loop: a client has connected."""
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""

    def data_received(self, data: bytes) -> None:
        """The event loop: something came."""
        if self._refused:
            return
        if self._in_body:
            self._seen_at = None
        else:
            if not self._in_head:
                if self._is_taken_whole(data):
                    return
                self._piece = data
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # it is answered as if it had not asked for another protocol (RFC 9110 7.8)
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__)
        except httptools.HttpParserError:
            self._refuse(400, "bad http")
        else:
            if self._in_head and self._head_bytes > self._limits.head_bytes:
                self._refuse(431, "header fields too large")
        self._piece = b""

    def on_message_begin(self) -> None:
        """The parser: a request begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = self._is_large = False
        self._in_head = True
        self._seen_at = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser: a header field; white space around its value is no part of it (RFC 9110 5.5)."""
        name = name.lower()
        if name == b"content-length":
            self._is_large = len(value) >= _LARGE_DIGITS
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The parser: the head is whole."""
        if self._refused:
            return
        self._in_head, self._in_body = False, True
        self._seen_at = None
        if self._head_bytes > self._limits.head_bytes and self._is_head_too_large():
            self._refuse(431, "header fields too large")
            return
        self._head_bytes = 0
        if self._lane is not None and self._may_be_taken(self._lane):
            self._held, self._held_bytes = [], 0
        else:
            self._held = None
            self._serve_asgi()

    def on_body(self, body: bytes) -> None:
        """The parser: a piece of the body."""
        if self._refused:
            return
        if self._held is None:
            super().on_body(body)
            return
        self._held.append(body)
        self._held_bytes += len(body)
        if self._held_bytes > MAX_HELD_BYTES:
            self._release()

    def on_message_complete(self) -> None:
        """The parser: the request is whole."""
        self._in_body = False
        if self._refused:
            return
        held = self._held
        if held is None or self._lane is None:
            super().on_message_complete()
            return
        head = Head("POST", "1.1", self.url, self.headers)
        body = held[0] if len(held) == 1 else b"".join(held)
        reading = self._reading = self._lane.read(head, self.client, self._reading)
        if self._is_taken(self._lane, head, reading, body):
            self._held = None
            self._heads.keep(self._piece, body, (head, reading), self._peer)
        else:
            self._release()
            super().on_message_complete()

    def answered(self, message: bytes) -> None:
        """The fast lane: the whole answer to the request it took."""
        self._taken = self._taken_head = None
        if not self.transport.is_closing():
            self.transport.write(message)
            if self._door.closing:
                self.transport.close()
        self.on_response_complete()

    def continued(self, app: App) -> None:
        """The fast lane: ``app`` goes on with the request it took, whose body was read."""
        head, self._taken, self._taken_head = self._taken_head, None, None
        if head is None:
            raise RuntimeError("there is no request to go on with")
        cycle = self._cycle(head, keep_alive=True, expects=False)
        cycle.more_body = False
        cycle.message_event.set()
        if not self.pipeline:
            self.cycle = cycle
        self._begin(cycle, app)

    def on_response_complete(self) -> None:
        """An answer was sent: the next request may come, or be served when it is here already."""
        self.server_state.total_requests += 1
        self._seen_at = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._begin(cycle, app)

    def pause_writing(self) -> None:
        """The event loop: the client is behind in reading."""
        super().pause_writing()
        self._seen_at = None

    def resume_writing(self) -> None:
        """The event loop: the client reads on."""
        super().resume_writing()
        self._seen_at = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The event loop: it is closed."""
        super().connection_lost(exc)
        serving, taken = self._serving, self._taken
        self._taken = self._taken_head = None
        self.pipeline.clear()
        if serving is not None and not serving.response_complete:
            serving.disconnected = True
            serving.message_event.set()
        if taken is not None:
            taken.hung_up()

    def wind_down(self) -> None:
        """Close with the next answer to end; a request that is on its way is answered as well."""
        if self._serving is not None:
            self._serving.keep_alive = False

    def shutdown(self) -> None:
        """The server: serve what is under way, and nothing after it."""
        self._door.closing = True
        self.wind_down()
        if not self.is_busy:
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Look whether the client has been waited for long enough; called at each sweep."""
        if self._seen_at is None:
            self._seen_at = now
            return
        waited_s = now - self._seen_at
        if self.flow.write_paused:
            if waited_s > self._limits.unread_s:
                self._door.count(self._peer, "answer not read")
                self.transport.abort()
        elif self._taken is not None:
            self._taken.lasts()
        elif self._in_head:
            if waited_s > self._limits.head_s:
                self._refuse(408, "header fields too slow")
        elif self._in_body:
            if waited_s > self._limits.body_idle_s and not self.flow.read_paused:
                self._refuse(408, "body too slow")
        elif waited_s > self._limits.idle_s and not self.is_busy:
            self.transport.close()

    def _serve_asgi(self) -> None:
        """Have the application answer the request whose head was read, in its turn."""
        keep_alive = self.parser.should_keep_alive() and not self.parser.should_upgrade()
        method, http_version = self.parser.get_method(), self.parser.get_http_version()
        head = Head(method.decode("ascii"), http_version, self.url, self.headers)
        cycle = self._cycle(head, keep_alive=keep_alive, expects=self.expect_100_continue)
        waits = self.is_answering
        self.cycle = cycle
        if waits:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._begin(cycle, self.app)

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if isinstance(cycle, Cycle):
            self._serving = cycle
        self._start_asgi_task(cycle, app)

    def _cycle(self, head: Head, *, keep_alive: bool, expects: bool) -> Cycle:
        scope = scope_of(head, self.client, self.server)
        scope["scheme"], scope["state"] = self.scheme, self.app_state.copy()
        return Cycle(
            self._door,
            Gathered(self.transport, self._hang_up),
            scope=scope,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _is_taken_whole(self, data: bytes) -> bool:
        """Whether ``data`` is one request whose head is known, and the fast lane has taken it."""
        lane = self._lane
        if lane is None or self.is_answering or self._door.closing:
            return False
        found = self._heads.find(data, self._peer)
        if found is None:
            return False
        self._seen_at = None
        (head, reading), body = found
        return self._is_taken(lane, head, reading, body)

    def _is_taken(self, lane: Lane, head: Head, reading: object, body: bytes) -> bool:
        """Whether the fast lane has taken a request; it may have answered it already."""
        self._taken_head = head
        taken = lane.take(self, reading, body)
        if taken is None:
            self._taken_head = None
            return False
        if self._taken_head is not None:
            self._taken = taken
        return True

    def _may_be_taken(self, lane: Lane) -> bool:
        """Whether the request is of the simple kind, alone on its connection."""
        parser = self.parser
        return (
            lane.admits(self.url)
            and parser.get_method() == b"POST"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.is_answering
            and not self.closing
            and not self.expect_100_continue
            and not self._is_large
            and parser.get_http_version() == "1.1"
        )

    def _release(self) -> None:
        """Give the request to ASGI after all, with what was kept of its body."""
        held, self._held = self._held or [], None
        self._serve_asgi()
        for piece in held:
            super().on_body(piece)

    def _is_head_too_large(self) -> bool:
        """What was counted may be body: it came in the same piece as the end of the head."""
        sizes = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.url) + sizes > self._limits.head_bytes

    def _fail(self, error: BaseException | None) -> None:
        """A callback of the parser raised: a target nobody can read, or a defect of ours."""
        if isinstance(error, httptools.HttpParserInvalidURLError | UnicodeDecodeError):
            self._refuse(400, "bad target")
        else:
            _logger.error("a request crashed while it was read", exc_info=error)
            self._refuse(500, "crashed")

    def _refuse(self, status: int, reason: str) -> None:
        """Turn the connection away: what it sends cannot be, or must not be, read on."""
        if self._refused:
            return
        self._door.count(self._peer, reason)
        if not self.is_answering:
            text = reason.encode("ascii")
            self.transport.write(_REFUSED % (STATUS_LINE[status], len(text), text))
        self._in_head, self._in_body = False, True
        self._hang_up()

    def _hang_up(self) -> None:
        """Close; a client that is still sending hears what was said to it first (RFC 9112 9.6)."""
        transport = self.transport
        if not self._in_body or transport.is_closing():
            transport.close()
            return
        self._refused, self._in_body = True, False
        self.flow.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self.loop.call_later(LINGER_S, transport.close)
