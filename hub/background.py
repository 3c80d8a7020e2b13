"""What a serving process does beside answering calls."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

Part = Callable[[], AbstractAsyncContextManager[Any]]
"""Something that runs until its block is left."""
Loop = Callable[[], Coroutine[Any, Any, None]]
"""Something that runs until it is cancelled."""


@asynccontextmanager
async def background(parts: Sequence[Part], loops: Sequence[Loop]) -> AsyncIterator[None]:
    """Run all of it until the end of the block; ``parts`` are entered in order and left in reverse."""
    async with AsyncExitStack() as stack:
        for part in parts:
            await stack.enter_async_context(part())
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for loop in loops:
            tasks.start_soon(loop)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
