"""Server-sent events: an incremental decoder and an encoder, bytes on both sides.

Source: WHATWG HTML, "Server-sent events" (parsing an event stream, interpreting an event stream).
The decoder keeps data as bytes; UTF-8 is checked by whoever parses what it carries.
"""

from functools import lru_cache
from typing import Final

from msgspec import Struct

from mcp_wire.pieces import keep

MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
"""How large one event may be, field names and line ends included."""

_BOM: Final = b"\xef\xbb\xbf"


class SseError(ValueError):
    """The stream cannot be read on: one event is larger than allowed."""


class Frame(Struct, frozen=True, gc=False):
    """One dispatched event."""

    data: bytes
    """Data lines, joined by LF; never empty, as events without data are not dispatched."""
    event: str = "message"
    id: str = ""
    """The last event id in force when it was dispatched."""


class SseDecoder:
    """Takes chunks as they come and gives the events they complete.

    A line may end in LF, CR or CRLF, and a chunk may be cut anywhere. ``last_id`` and ``retry_ms``
    are what a reconnecting reader needs; an event without data sets them and is not dispatched.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_event",
        "_frame_bytes",
        "_limit",
        "_partial",
        "_partial_bytes",
        "_started",
        "last_id",
        "retry_ms",
    )

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self._limit = max_frame_bytes
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._data: list[bytes] = []
        self._frame_bytes = 0
        self._event = ""
        self._after_cr = False
        self._started = False

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events completed by ``chunk``. Raises SseError when one grows beyond the limit."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        cut = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not cut:
            self._keep(chunk)
            return []
        complete = chunk[:cut]
        if self._partial:
            complete = b"".join((*self._partial, complete))
            self._partial.clear()
            self._partial_bytes = 0
        self._after_cr = cut == len(chunk) and complete[-1:] == b"\r"
        if not self._started:
            self._started = True
            complete = complete.removeprefix(_BOM)
        frames = self._interpret(complete.splitlines())
        if cut < len(chunk):
            self._keep(chunk[cut:])
        return frames

    def _keep(self, tail: bytes) -> None:
        if tail:
            keep(self._partial, tail)
            self._partial_bytes += len(tail)
            if self._frame_bytes + self._partial_bytes > self._limit:
                raise SseError(f"an event is larger than {self._limit} bytes")

    def _interpret(self, lines: list[bytes]) -> list[Frame]:
        frames: list[Frame] = []
        for line in lines:
            if not line:
                if self._data:
                    data = b"\n".join(self._data)
                    if data:
                        frames.append(Frame(data, self._event or "message", self.last_id))
                    self._data.clear()
                self._event = ""
                self._frame_bytes = 0
                continue
            self._frame_bytes += len(line) + 1
            if self._frame_bytes > self._limit:
                raise SseError(f"an event is larger than {self._limit} bytes")
            if line.startswith(b"data: "):
                self._data.append(line[6:])
            elif line[0] != 0x3A:
                self._field(line)
        return frames

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self.last_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 9:
            self.retry_ms = int(value)


def encode_frame(
    data: bytes, *, event: str | None = None, id: str | None = None, retry_ms: int | None = None
) -> bytes:
    """One event as it goes on the wire; every line end inside ``data`` is read back as LF.

    Raises ValueError for an event name or id that a line cannot hold.
    """
    head = b""
    if event is not None:
        head = b"event: %b\n" % _one_line(event)
    if id is not None:
        head += b"id: %b\n" % _one_line(id)
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    if b"\n" not in data and b"\r" not in data:
        return b"%bdata: %b\n\n" % (head, data)
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"%b%b\n" % (head, b"".join(b"data: %b\n" % line for line in lines))


def encode_comment(text: str = "") -> bytes:
    """A line that readers skip: keeps idle streams alive. Raises ValueError for line breaks."""
    return b": %b\n\n" % _one_line(text)


@lru_cache(maxsize=64)
def _one_line(text: str) -> bytes:
    line = text.encode()
    if b"\n" in line or b"\r" in line or b"\0" in line:
        raise ValueError("a line break or NUL cannot be sent in an event field")
    return line
