"""Reading a chain forwards while it is written: for followers, and for projections that catch up."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from hub.audit.lines import parse
from hub.audit.segments import segments
from hub.domain.record import ChainLine

_BLOCK_BYTES = 1024 * 1024


class ChainReader:
    """Gives the lines of one chain from a place on, as far as they are written. Close it."""

    def __init__(self, record: Path, writer: str, after: int = 0) -> None:
        """``after``: the last sequence that is known already."""
        self._record = record
        self._writer = writer
        self._after = after
        self._number = 0
        self._descriptor: int | None = None
        self._offset = 0
        self._sealed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the open file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read(self) -> list[ChainLine]:
        """The next lines, at most about 1 MiB; none: that is all so far."""
        while self._descriptor is not None or self._open():
            lines = self._read_block()
            if lines is None:
                if not self._sealed:
                    return []
                self.close()
                continue
            fresh = [line for line in lines if line.sequence > self._after]
            if fresh:
                self._after = fresh[-1].sequence
                return fresh
        return []

    def _open(self) -> bool:
        following = [
            each for each in segments(self._record, self._writer) if each[0] > self._number
        ]
        if self._number == 0:  # skip segments that hold only what is known
            while len(following) > 1 and _first_sequence(following[1][1]) <= self._after:
                following.pop(0)
        if not following:
            return False
        self._number, path = following[0]
        self._descriptor = os.open(path, os.O_RDONLY)
        self._offset = 0
        self._sealed = False
        return True

    def _read_block(self) -> list[ChainLine] | None:
        """Whole lines of the next block, None when there are none."""
        if self._descriptor is None:
            return None
        block = os.pread(self._descriptor, _BLOCK_BYTES, self._offset)
        unused = block.find(b"\0")
        end = block.rfind(b"\n", 0, unused if unused >= 0 else len(block)) + 1
        if end == 0:
            return None
        self._offset += end
        lines = []
        for text in block[: end - 1].split(b"\n"):
            line = parse(text)
            if line is not None:  # what cannot be read is the verifier's to tell
                lines.append(ChainLine(self._writer, line.sequence, line.kind, text))
                self._sealed = line.kind == "seal"
        return lines


def _first_sequence(path: Path) -> int:
    with path.open("rb") as file:
        line = parse(file.readline().rstrip(b"\n"))
    return line.sequence if line is not None else 2**63
