"""Serving the application over HTTP until a signal says to stop."""

import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import anyio
import uvicorn
from starlette.types import ASGIApp

DRAIN_S: Final = 30
"""How long calls under way may go on after the signal to stop."""

_BACKLOG: Final = 2048


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would end the process before the record closes."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to :func:`serve`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        self._on_ready()


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
    app: ASGIApp, bound: socket.socket, *, on_ready: Callable[[], None], on_stop: Callable[[], None]
) -> None:
    """Serve ``app`` on ``bound`` until SIGINT or SIGTERM; a second signal ends it at once.

    ``on_stop`` is called at the first signal: streams that would never end are ended there.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # whom to believe is decided by 'trusted_proxies' alone
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config, on_ready)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, server, on_stop)
        await server.serve(sockets=[bound])
        tasks.cancel_scope.cancel()


async def _stop_on_signal(server: uvicorn.Server, on_stop: Callable[[], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            server.force_exit = server.should_exit
            if not server.should_exit:
                server.should_exit = True
                on_stop()
