"""What a child writes, cut into lines; and the last of them, kept for whoever looks for a reason."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mcp_wire.pieces import keep

MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
MAX_LOG_LINE_BYTES: Final = 4 * 1024


class Tail:
    """The last lines that were written somewhere, bounded in bytes."""

    def __init__(self, limit_bytes: int = 64 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._lines: deque[str] = deque()
        self._size_bytes = 0

    def add(self, line: bytes) -> None:
        """Keep a line, cut to a bearable length; the oldest ones make room."""
        text = line[:MAX_LOG_LINE_BYTES].decode(errors="replace").rstrip()
        self._lines.append(text)
        self._size_bytes += len(text) + 1
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= len(self._lines.popleft()) + 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What is left, oldest first."""
        return tuple(self._lines)


class Lines(asyncio.Protocol):
    """Cuts what a pipe brings into lines; one that is too long is the end, or is cut."""

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_overlong: Callable[[], None] | None = None,
    ) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._on_overlong = on_overlong
        self._limit = MAX_FRAME_BYTES if on_overlong is not None else MAX_LOG_LINE_BYTES
        self._parts: list[bytes] = []
        self._size = 0
        self._broken = False

    def data_received(self, data: bytes) -> None:
        """Pass on what is complete; see :class:`asyncio.Protocol`."""
        start = 0
        while not self._broken and (cut := data.find(b"\n", start)) >= 0:
            self._add(data[start:cut])
            self._flush()
            start = cut + 1
        if not self._broken and start < len(data):
            self._add(data[start:])

    def connection_lost(self, _exc: Exception | None) -> None:
        """Nothing more comes; an unfinished frame is none, an unfinished log line is one."""
        if self._on_overlong is None and self._parts:
            self._flush()
        self._on_end()

    def _add(self, part: bytes) -> None:
        keep(self._parts, part)
        self._size += len(part)
        if self._size <= self._limit:
            return
        if self._on_overlong is None:
            self._flush()
        else:
            self._broken = True
            self._parts.clear()
            self._on_overlong()

    def _flush(self) -> None:
        if self._broken:
            return
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if line:
            self._on_line(line)
