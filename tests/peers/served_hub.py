"""A hub composed in this process, behind its own server on this event loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from hub.app import Hub
from hub.front.door import Count, FrontLimits
from hub.serving import DEFAULT_LIMITS, listening_socket, serve


@asynccontextmanager
async def served(
    hub: Hub, limits: FrontLimits = DEFAULT_LIMITS, count: Count | None = None
) -> AsyncIterator[int]:
    """The port it listens on."""
    ready = anyio.Event()
    with listening_socket("127.0.0.1", 0) as bound:
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await serve(
                    hub.asgi,
                    bound,
                    lane=hub.fast_lane,
                    count=count or hub.given.refused_before_identify,
                    on_ready=ready.set,
                    on_stop=hub.drain,
                    limits=limits,
                )

            tasks.start_soon(run)
            await ready.wait()
            yield bound.getsockname()[1]
            tasks.cancel_scope.cancel()
