"""Start the quickstart: its upstreams, then Portico in front of them.

Without arguments it asserts that tools can be listed and called by clients of both protocol eras,
and stops. With ``--serve`` it stays until Ctrl-C.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
from mcp import Client

HERE = Path(__file__).parent
TOP = HERE.parent.parent
sys.path.insert(0, str(TOP))

from examples.starting import free_port, wait_until_listening  # noqa: E402 -- found from here on

PORTICO = Path(sys.executable).with_name("portico")
PORTS = {"orders": 9101, "library": 9102}
"""Upstream -> the port that portico.yaml names."""
START_S = 30.0


def main() -> int:
    """Run the example; the exit status of Portico, or 0 when all assertions held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="stay until Ctrl-C")
    parser.add_argument("--port", type=int, default=8080, help="where --serve listens")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = {name: free_port(port) for name, port in PORTS.items()}
        for name, port in ports.items():
            stack.enter_context(upstream(name, port))
        config = written(scratch, ports)
        if arguments.serve:
            return serve(config, free_port(arguments.port))
        with portico(config, scratch / "data") as url:
            anyio.run(check, url)
    return 0


async def check(url: str) -> None:
    """List and call through Portico as a client of each era would."""
    shop = url.removesuffix("/mcp") + "/v/acme/mcp"
    for mode in ("legacy", "2026-07-28"):
        async with Client(url, mode=mode) as client:
            everything = {tool.name for tool in (await client.list_tools()).tools}
            assert {"write_note", "cancel_order", "find_book"} <= everything, everything
            note = await client.call_tool("read_note", {"title": "welcome"})
            assert "child process" in str(note.content), note
        async with Client(shop, mode=mode) as client:
            chosen = {tool.name for tool in (await client.list_tools()).tools}
            assert chosen == {"read_note", "find_book", "find_order"}, chosen
            order = await client.call_tool("find_order", {"number": 1002})
            assert order.structured_content is not None, order
            assert order.structured_content["item"] == "rope", order
            book = await client.call_tool("find_book", {"title": "Emma"})
            assert "Austen" in str(book.content), book
        sys.stdout.write(f"{mode}: {len(everything)} tools at /mcp, {len(chosen)} at /v/acme/mcp\n")


def serve(config: Path, port: int) -> int:
    """Portico in the foreground. Ctrl-C reaches it directly; this only waits for it to end."""
    data = TOP / ".portico" / "quickstart"
    words = [str(PORTICO), "up", "--config", str(config), "--data", str(data), "--port", str(port)]
    with subprocess.Popen(words, cwd=TOP) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)


@contextmanager
def portico(config: Path, data: Path) -> Iterator[str]:
    """Portico on a free port; its MCP URL."""
    words = [
        str(PORTICO),
        "up",
        "--config",
        str(config),
        "--data",
        str(data),
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(words, cwd=TOP, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "Portico did not start"
            yield json.loads(line)["url"]
        finally:
            process.terminate()


@contextmanager
def upstream(name: str, port: int) -> Iterator[None]:
    """One of the HTTP servers of upstreams.py, listening; out of Ctrl-C's way."""
    words = [sys.executable, str(HERE / "upstreams.py"), name, "--port", str(port)]
    with subprocess.Popen(words, start_new_session=True) as process:
        try:
            wait_until_listening(process, name, port)
            yield
        finally:
            process.terminate()


def written(scratch: Path, ports: dict[str, int]) -> Path:
    """portico.yaml itself, or a copy where an upstream had to move to another port."""
    config = HERE / "portico.yaml"
    if ports == PORTS and Path(sys.executable) == TOP / ".venv/bin/python":
        return config
    text = config.read_text(encoding="utf-8").replace(".venv/bin/python", sys.executable)
    for name, port in ports.items():
        text = text.replace(f"127.0.0.1:{PORTS[name]}", f"127.0.0.1:{port}")
    copy = scratch / "portico.yaml"
    copy.write_text(text, encoding="utf-8")
    return copy


if __name__ == "__main__":
    sys.exit(main())
