"""Fetching documents: bounded, guarded at every hop, and discreet."""

from collections.abc import AsyncIterator

import anyio
import pytest

from connectors.address_guard import AddressGuard
from connectors.errors import AddressRefused, Misconfigured, ProtocolViolation, Unreachable
from connectors.http_client import HttpClient, UnexpectedStatusError
from tests.peers.raw_server import Received, Wire, raw_server


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with HttpClient() as client:
        yield client


def allowing(*ports: int) -> AddressGuard:
    return AddressGuard(frozenset(("127.0.0.1", port) for port in ports))


async def document(received: Received, wire: Wire) -> None:
    await wire.reply(200, b'{"openapi":"3.1.0"}')


async def test_a_document_is_fetched(client: HttpClient) -> None:
    async with raw_server(document) as raw:
        found = await client.fetch(
            raw.url, guard=allowing(raw.port), headers={"X-Key": "k"}, accept="application/json"
        )
    assert found.body == b'{"openapi":"3.1.0"}'
    assert (found.content_type, found.url) == ("application/json", raw.url)
    assert raw.requests[0].header("x-key") == "k"
    assert raw.requests[0].header("accept") == "application/json"
    assert raw.requests[0].header("host") == f"127.0.0.1:{raw.port}"


async def test_headers_do_not_follow_a_redirect_to_another_origin(client: HttpClient) -> None:
    async with raw_server(document) as other:

        async def moved(received: Received, wire: Wire) -> None:
            if received.path == "/mcp":
                await wire.reply(302, headers={"Location": "/here"})
            else:
                await wire.reply(302, headers={"Location": other.url})

        async with raw_server(moved) as raw:
            found = await client.fetch(
                raw.url, guard=allowing(raw.port, other.port), headers={"X-Key": "k"}
            )
    assert found.url == other.url
    assert [request.header("x-key") for request in raw.requests] == ["k", "k"]
    assert other.requests[0].header("x-key") is None


async def test_a_redirect_to_a_private_address_is_refused(client: HttpClient) -> None:
    async with raw_server(document) as other:

        async def moved(received: Received, wire: Wire) -> None:
            await wire.reply(302, headers={"Location": other.url})

        async with raw_server(moved) as raw:
            with pytest.raises(AddressRefused):
                await client.fetch(raw.url, guard=allowing(raw.port))
    assert other.connections == 0


async def test_circles_large_bodies_and_bad_statuses_end(client: HttpClient) -> None:
    async def script(received: Received, wire: Wire) -> None:
        if received.path == "/circle":
            await wire.reply(302, headers={"Location": "/circle"})
        elif received.path == "/large":
            await wire.reply(200, b"x" * 2000)
        else:
            await wire.reply(404)

    async with raw_server(script) as raw:
        guard = allowing(raw.port)
        address = raw.url.removesuffix("/mcp")
        with pytest.raises(ProtocolViolation, match="redirects too often"):
            await client.fetch(f"{address}/circle", guard=guard)
        with pytest.raises(ProtocolViolation, match="larger"):
            await client.fetch(f"{address}/large", guard=guard, max_bytes=1000)
        with pytest.raises(UnexpectedStatusError) as raised:
            await client.fetch(f"{address}/absent?token=secret", guard=guard)
    assert raised.value.status == 404
    assert "secret" not in str(raised.value)


async def test_what_cannot_be_reached_or_written_is_said(client: HttpClient) -> None:
    async with raw_server(document) as raw:
        pass
    with pytest.raises(Unreachable):
        await client.fetch(raw.url, guard=allowing(raw.port))
    for address in ("ftp://a/b", "http://user:pw@a/", "http:///x", "http://a b/"):
        with pytest.raises(Misconfigured):
            await client.fetch(address, guard=allowing())
    with pytest.raises(Misconfigured):
        await client.fetch("http://a/", guard=allowing(), headers={"X-A": "a\r\nX-B: b"})


async def test_giving_up_closes_the_connection(client: HttpClient) -> None:
    async def silent(received: Received, wire: Wire) -> None:
        await wire.client_left()

    async with raw_server(silent) as raw:
        with anyio.move_on_after(0.2):
            await client.fetch(raw.url, guard=allowing(raw.port))
    assert raw.open_connections == 0


async def test_what_is_posted_arrives_and_ends_where_it_was_sent(client: HttpClient) -> None:
    async def script(received: Received, wire: Wire) -> None:
        if received.path == "/moved":
            await wire.reply(307, headers={"Location": "/mcp"})
        elif received.path == "/mcp":
            await wire.reply(204)

    async with raw_server(script) as raw:
        guard = allowing(raw.port)

        async def post(path: str, guard: AddressGuard = guard) -> int:
            url = raw.url.replace("/mcp", path)
            return await client.post(
                url, b"{}", guard=guard, content_type="application/json", within_s=0.2
            )

        assert await post("/mcp") == 204
        (sent,) = raw.requests
        assert (sent.method, sent.body) == ("POST", b"{}")
        assert sent.header("content-type") == "application/json"
        assert await post("/moved") == 307
        with pytest.raises(Unreachable, match="in time"):
            await post("/silent")
        with pytest.raises(AddressRefused):
            await post("/mcp", AddressGuard())
        await raw.stop()
        with pytest.raises(Unreachable):
            await post("/mcp")
    assert len(raw.requests) == 3
