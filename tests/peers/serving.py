"""Serving an application in a thread of this process, or a peer as a process of its own."""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import uvicorn

ROOT: Final = Path(__file__).parents[2]
START_S: Final = 20.0
STOP_S: Final = 10.0

PeerName = Literal["modern_server", "legacy_server", "dual_server", "sse_server", "everything"]


@dataclass(frozen=True)
class Peer:
    """A running server: its MCP address, and its process when it has one."""

    url: str
    process: subprocess.Popen[str] | None = None
    stop: Callable[[], None] = lambda: None
    """Stop serving before the block is left."""

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])


class _PeerServer(uvicorn.Server):
    """Says when it is up; on the way out it hangs up on whoever is still connected."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # no signals here
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _configured(app: Any, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_level="error", access_log=False, ws="none", lifespan="auto", loop="none", **options
    )


def _free_socket(port: int = 0) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening


@contextmanager
def serving(app: Any, *, path: str = "/mcp", port: int = 0, **options: Any) -> Iterator[Peer]:
    """Serve any ASGI application in a thread; ``options`` are uvicorn's (certificates, timeouts)."""
    listening = _free_socket(port)
    server = _PeerServer(_configured(app, timeout_graceful_shutdown=1, **options))
    scheme = "https" if options.get("ssl_certfile") else "http"

    def run() -> None:
        asyncio.run(server.serve([listening]))

    def stop() -> None:
        server.should_exit = True
        thread.join(STOP_S)
        listening.close()
        if thread.is_alive():
            raise RuntimeError("the peer did not stop")

    thread = threading.Thread(target=run, name="peer", daemon=True)
    thread.start()
    try:
        if not server.up.wait(START_S):
            raise RuntimeError("the peer did not start")
        yield Peer(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}{path}", stop=stop)
    finally:
        stop()


@contextmanager
def spawned(name: PeerName, *arguments: str) -> Iterator[Peer]:
    """Run a peer as a process of its own, which the test may kill."""
    command = [sys.executable, "-m", f"tests.peers.{name}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as process:
        killer = threading.Timer(START_S, process.kill)
        killer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            killer.cancel()
            if not line:
                raise RuntimeError(f"{name} did not start")
            yield Peer(json.loads(line)["url"], process)
        finally:
            killer.cancel()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main(application: Callable[[], Any], path: str = "/mcp", **options: Any) -> None:
    """What a peer does as a program: say its address in one line of JSON, then serve until told.

    ``options`` are uvicorn's.
    """
    parser = argparse.ArgumentParser(description="A peer for tests and examples.")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    arguments = parser.parse_args()
    listening = _free_socket(arguments.port)
    server = uvicorn.Server(_configured(application(), timeout_graceful_shutdown=1, **options))
    listening.listen()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{path}"
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()
    asyncio.run(server.serve([listening]))
