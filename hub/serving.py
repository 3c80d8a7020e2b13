"""Serving the application over HTTP until a signal says to stop."""

import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Final

import anyio
import uvicorn
from starlette.types import ASGIApp

from hub.front.door import Count, Door, FrontLimits, Lane
from hub.front.protocol import FrontProtocol

DRAIN_S: Final = 30
"""How long calls under way may go on after the signal to stop."""

DEFAULT_LIMITS: Final = FrontLimits()
_BACKLOG: Final = 2048
_DRAIN_STEP_S: Final = 0.05


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would end the process before the record closes."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], limits: FrontLimits
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._limits = limits
        self._swept_at = 0.0

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to :func:`serve`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Look after connections now and then."""
        now = anyio.current_time()
        if now - self._swept_at >= self._limits.sweep_s:
            self._swept_at = now
            for connection in self._connections():
                connection.sweep(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way with the door still open, so that ``/readyz`` says 503 meanwhile."""
        give_up_at = anyio.current_time() + DRAIN_S
        while not self.force_exit and anyio.current_time() < give_up_at:
            busy = [connection for connection in self._connections() if connection.is_busy]
            for connection in busy:
                connection.wind_down()
            if not busy:
                break
            await anyio.sleep(_DRAIN_STEP_S)
        self.config.timeout_graceful_shutdown = 1
        await super().shutdown(sockets)

    def stop_listening(self) -> None:
        """Let the event loop forget the socket, which is about to be closed, however serving ended.

        Else whatever gets its number next would never be told that something came.
        """
        for listening in getattr(self, "servers", ()):
            listening.close()

    def _connections(self) -> list[FrontProtocol]:
        return [one for one in self.server_state.connections if isinstance(one, FrontProtocol)]


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off on what is accepted here.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.set_inheritable(True)
    return bound


async def serve(
    app: ASGIApp,
    bound: socket.socket,
    *,
    lane: Lane | None,
    count: Count,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
    limits: FrontLimits = DEFAULT_LIMITS,
) -> None:
    """Serve ``app`` on ``bound`` until SIGINT or SIGTERM; a second signal ends it at once.

    ``lane`` takes what needs no ASGI, ``count`` hears of what became no request. ``on_stop`` is
    called at the first signal: streams that would never end are ended there.
    """
    door = Door(lane, count, limits)

    def stop() -> None:
        door.closing = True
        on_stop()

    config = uvicorn.Config(
        app,
        http=partial(FrontProtocol, door=door),  # type: ignore[arg-type]  # makes one
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # whom to believe is decided by 'trusted_proxies' alone
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config, on_ready, limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, server, stop)
        try:
            await server.serve(sockets=[bound])
        finally:
            server.stop_listening()
        tasks.cancel_scope.cancel()


async def _stop_on_signal(server: uvicorn.Server, on_stop: Callable[[], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            server.force_exit = server.should_exit
            if not server.should_exit:
                server.should_exit = True
                on_stop()
