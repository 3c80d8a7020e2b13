"""Long work in short steps, so that whoever drives it can do something else in between."""

from collections.abc import Generator
from time import perf_counter
from typing import Final, TypeVar

import anyio.lowlevel

Answer = TypeVar("Answer")

Steps = Generator[None, None, Answer]
"""Yields after each step, and returns the answer."""

SLICE_S: Final = 0.004
"""After this long in one go the event loop gets its turn; a step takes well below the rest of 10 ms."""


async def in_slices(steps: Steps[Answer]) -> Answer:
    """Drive ``steps`` to their end, giving way to the event loop after each slice."""
    until = perf_counter() + SLICE_S
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        if perf_counter() >= until:
            await anyio.lowlevel.checkpoint()
            until = perf_counter() + SLICE_S
