"""The upstreams of the matrix, and the Portico in front of them."""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
from anyio.from_thread import start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.matrix.offerings import build_matrix
from tests.matrix.table import Era
from tests.peers.eras import only_legacy, only_modern
from tests.peers.running import serving
from tests.peers.stdio_server import serve

CHILD: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")))
LINE_BYTES: Final = 2**24

IMPATIENCE_S: Final = 0.4
"""How long Portico waits for the same servers where they are configured a second time."""


class Lines:
    """A connection's incoming half, read like a text file."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._received = BufferedByteReceiveStream(stream)

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            try:
                line = await self._received.receive_until(b"\n", LINE_BYTES)
            except (anyio.IncompleteRead, anyio.EndOfStream):
                return
            yield line.decode()


class Written:
    """A connection's outgoing half, written like a text file."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream

    async def write(self, text: str) -> None:
        await self._stream.send(text.encode())

    async def flush(self) -> None:
        """Nothing is held back."""


async def serve_child(era: Era, stream: anyio.abc.SocketStream) -> None:
    """What one child answers."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with stream:
            await serve(build_matrix("stdio"), era, Lines(stream), Written(stream))


@asynccontextmanager
async def serving_children() -> AsyncIterator[Mapping[Era, int]]:
    """The ports that children connect to."""
    eras: tuple[Era, ...] = ("legacy", "modern")
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        ports: dict[Era, int] = {}
        for era in eras:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            await stack.enter_async_context(listener)
            local_port = anyio.abc.SocketAttribute.local_port
            ports[era] = listener.extra(local_port)  # noqa: S610  # no database is near
            tasks.start_soon(listener.serve, partial(serve_child, era))
        yield ports
        tasks.cancel_scope.cancel()


@contextmanager
def upstreams() -> Iterator[Mapping[str, str]]:
    """How Portico reaches each upstream: lines of its configuration. All are served from this process.

    Those over stdio have children that pass everything on: the SDK takes a second to be imported.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving_children()) as ports,
        http_upstreams() as urls,
    ):
        yield {
            **{name: f'url: "{url}"' for name, url in urls.items()},
            **{
                f"stdio_{era}": f"command: {[*CHILD, str(port)]!r}, max_children: 8"
                for era, port in ports.items()
            },
        }


@contextmanager
def http_upstreams() -> Iterator[Mapping[str, str]]:
    """The URLs of those over HTTP, by kind."""

    def app(name: str) -> Any:
        return build_matrix(name).streamable_http_app()

    with ExitStack() as stack:
        apps = {
            "http_legacy": only_legacy(app("legacy")),
            "http_modern": only_modern(app("modern")),
            "http_dual": app("dual"),
        }
        urls = {name: stack.enter_context(serving(one)).url for name, one in apps.items()}
        sse = build_matrix("sse").sse_app()
        urls["sse"] = stack.enter_context(serving(sse, path="/sse")).url
        yield urls


def configuration(reached: Mapping[str, str]) -> str:
    """Each upstream is a virtual server of its own, and one more that does not wait long."""
    lines = ["version: 1", "upstreams:"]
    for name, how in reached.items():
        lines += [f"  {name}: {{{how}}}", f"  {name}_hasty: {{{how}, timeout_s: {IMPATIENCE_S}}}"]
    lines += ["principals: {matrix: {kind: service}}", "virtual_servers:"]
    names = [each for name in reached for each in (name, f"{name}_hasty")]
    lines += [f"  {name}: {{prefix: never, include: [{{upstream: {name}}}]}}" for name in names]
    lines += ["grants:"]
    lines += [f"  - {{principal: matrix, virtual_server: {name}}}" for name in names]
    return "\n".join(lines)
