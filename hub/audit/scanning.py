"""Looking for lines in a segment from its end, a block at a time.

Blocks that lack a wanted piece of text are not taken apart into lines, so that looking for what is rare
costs little more than reading the file.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hub.audit.log import LARGEST_LINE_BYTES
from hub.audit.segments import data_end, opened

_BLOCK_BYTES: Final = 256 * 1024
_NUMBER: Final = re.compile(rb'\n\{"n":([1-9][0-9]{0,18}),"')


def matching_backwards(
    path: Path, needles: Sequence[bytes], before: int | None = None
) -> Iterator[bytes]:
    """Whole lines (without newlines) that hold all ``needles``, last one first.

    ``before``: lines with this number and higher ones are not wanted; some of them may be given all the
    same. An unfinished tail is left out. Raises OSError.
    """
    with opened(path, os.O_RDONLY) as descriptor:
        position = data_end(descriptor)
        if before is not None:
            position = _start_of(descriptor, position, before)
        held: bytes | None = None  # None: nothing seen yet but, perhaps, an unfinished tail
        while position:
            start = max(0, position - _BLOCK_BYTES)
            block = os.pread(descriptor, position - start, start)
            position = start
            if held is None:
                cut = block.rfind(b"\n")
                if cut < 0:
                    continue
                block, held = block[:cut], b""
            text = block + held
            if all(needle in text for needle in needles):
                held, *lines = text.split(b"\n")
                for line in reversed(lines):
                    if all(needle in line for needle in needles):
                        yield line
            else:
                held = text.partition(b"\n")[0]
        if held is not None and all(needle in held for needle in needles):
            yield held


def _start_of(descriptor: int, end: int, sequence: int) -> int:
    """Where lines begin that have this number or a higher one; found by halving, ``end`` if in doubt."""
    low, high = 0, end
    while high - low > _BLOCK_BYTES:
        middle = (low + high) // 2
        found = _NUMBER.search(os.pread(descriptor, 2 * LARGEST_LINE_BYTES, middle))
        if found is None:
            return high
        begin = middle + found.start() + 1
        if int(found[1]) >= sequence:
            high = begin
        else:
            low = begin
    return high
