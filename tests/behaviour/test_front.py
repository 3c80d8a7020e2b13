"""What a connection may cost: limits of the front, each with its refusal, and none of them lost."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from hub.app import Hub, Settings, composed
from hub.front.door import FrontLimits
from tests.peers.served_hub import served

pytestmark = pytest.mark.anyio

QUICK = FrontLimits(
    head_bytes=4096, head_s=0.2, body_idle_s=0.2, unread_s=0.2, idle_s=0.4, sweep_s=0.05
)
PING = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\n"
)


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    settings = Settings(data=tmp_path_factory.mktemp("front") / "data")
    async with composed(settings) as hub, hub.upstreams.running():
        yield hub


@pytest.fixture(scope="module")
def counted() -> list[str]:
    """Why requests became no calls."""
    return []


@pytest.fixture(scope="module")
async def port(hub: Hub, counted: list[str]) -> AsyncIterator[int]:
    async with served(hub, QUICK, lambda _source, reason: counted.append(reason)) as port:
        yield port


@asynccontextmanager
async def connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with anyio.fail_after(10):
            yield reader, writer
    finally:
        writer.close()


async def said(port: int, *pieces: bytes) -> bytes:
    """All that is said until the hub hangs up."""
    async with connection(port) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
        return await reader.read()


async def test_a_head_that_never_ends_is_given_up(port: int) -> None:
    assert (await said(port, b"POST /mcp HTTP/1.1\r\nHost: loc")).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_is_too_large_is_refused(port: int) -> None:
    endless = b"POST /mcp HTTP/1.1\r\nX-Long: " + b"a" * 8192
    assert (await said(port, endless)).startswith(b"HTTP/1.1 431 ")
    many = HEAD + b"X-Many: 1\r\n" * 1000 + b"\r\n"
    assert (await said(port, many)).startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_stands_still_is_given_up(port: int) -> None:
    for target in (b"/mcp", b"/api/upstreams"):
        head = HEAD.replace(b"/mcp", target)
        answer = await said(port, head + b"Content-Length: 50\r\n\r\n", PING[:10])
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


async def test_a_large_body_is_judged_before_it_comes(port: int) -> None:
    async with connection(port) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 5000000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_never_reads_is_hung_up_on(port: int, counted: list[str]) -> None:
    counted.clear()
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.setblocking(False)
        with anyio.fail_after(20):
            while not counted:
                await anyio.lowlevel.checkpoint()
                with suppress(BlockingIOError, ConnectionError):
                    deaf.send(request)
    assert counted == ["answer not read"]


async def test_an_idle_connection_is_closed_without_a_word(port: int) -> None:
    assert await said(port, b"") == b""


async def test_what_is_no_http_is_refused(port: int) -> None:
    assert (await said(port, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert (await said(port, b"GET \xff\xfe HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    double = HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
    assert (await said(port, double)).startswith(b"HTTP/1.1 400 ")


async def test_refusals_of_the_front_are_counted(port: int, counted: list[str]) -> None:
    counted.clear()
    await said(port, b"nonsense\r\n\r\n")
    await said(port, b"POST /mcp")
    assert counted == ["bad http", "header fields too slow"]


async def test_a_request_in_tiny_pieces_is_answered(port: int) -> None:
    request = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(PING), PING)
    async with connection(port) as (reader, writer):
        for place in range(0, len(request), 7):
            writer.write(request[place : place + 7])
            await anyio.lowlevel.checkpoint()
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")  # an answer of the surface: there is no session


async def test_white_space_around_header_values_is_no_part_of_them(port: int) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    body = json.dumps(message).encode()
    fields = b"MCP-Protocol-Version: \t2026-07-28 \t\r\nMcp-Method:tools/list  \r\n"
    async with connection(port) as (reader, writer):
        writer.write(HEAD + fields + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_wish_for_another_protocol_is_passed_over(port: int) -> None:
    request = (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
    )
    assert (await said(port, request)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_is_asked_for_when_its_client_waits_for_that(port: int) -> None:
    async with connection(port) as (reader, writer):
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(PING))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(PING)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_a_head_request_has_no_body(port: int) -> None:
    answer = await said(
        port, b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
