"""The pool of HTTP connections: kept, bounded, and never certain of more than it knows."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.errors import Misconfigured, Unreachable
from connectors.http_connection import Limits
from connectors.http_exchange import fetch
from connectors.http_message import Response, endpoint_of, header_lines, retry_after_s
from connectors.http_pool import HttpPool, default_tls
from connectors.outcome import Failure
from tests.peers.raw_server import RawServer, Received, Wire, raw_server

GET = b"GET /mcp HTTP/1.1\r\nHost: here\r\n\r\n"


async def resolve(host: str, port: int) -> Sequence[str]:
    return [host]


@asynccontextmanager
async def pooled(
    raw: RawServer, *, tls: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[HttpPool]:
    pool = HttpPool(endpoint_of(raw.url), Limits(**limits), resolve, tls)
    try:
        yield pool
    finally:
        await pool.close()


async def get(pool: HttpPool, *, key: str = "", timeout_s: float = 5.0) -> Response | Failure:
    return await fetch(pool, GET, key=key, timeout_s=timeout_s)


async def body(pool: HttpPool, **options: Any) -> bytes:
    answer = await get(pool, **options)
    assert isinstance(answer, Response), answer
    return answer.body


async def failure(pool: HttpPool, **options: Any) -> Failure:
    answer = await get(pool, **options)
    assert isinstance(answer, Failure), answer
    return answer


async def greet(received: Received, wire: Wire) -> None:
    await wire.reply(200, b"hello")


async def test_requests_in_turn_share_one_connection() -> None:
    async with raw_server(greet) as raw, pooled(raw) as pool:
        assert [await body(pool) for _ in range(5)] == [b"hello"] * 5
        assert (raw.connections, pool.opened_count, pool.sent_count) == (1, 1, 5)


async def test_credentials_do_not_share_connections() -> None:
    async with raw_server(greet) as raw, pooled(raw) as pool:
        for key in ("a", "b", "a", "b"):
            await body(pool, key=key)
        assert [request.connection for request in raw.requests] == [1, 2, 1, 2]


async def test_the_connection_used_last_is_used_next() -> None:
    gate = anyio.Event()

    async def two_at_once(received: Received, wire: Wire) -> None:
        if received.connection == 1 and len(raw.requests) < 3:
            await gate.wait()
        await wire.reply(200, b"hello")

    async with raw_server(two_at_once) as raw, pooled(raw) as pool:
        async with anyio.create_task_group() as group:
            group.start_soon(get, pool)
            await raw.until(lambda: len(raw.requests) == 1)
            await body(pool)
            gate.set()
        for _ in range(3):
            await body(pool)
        assert [request.connection for request in raw.requests] == [1, 2, 1, 1, 1]


async def test_an_idle_connection_is_closed_before_the_upstream_would() -> None:
    async with raw_server(greet) as raw, pooled(raw, keep_alive_s=0.1) as pool:
        await body(pool)
        with anyio.fail_after(5):
            await raw.until(lambda: raw.open_connections == 0)
        assert pool.open_connections == 0


async def test_the_upstreams_own_word_on_its_patience_counts() -> None:
    async def impatient(received: Received, wire: Wire) -> None:
        await wire.reply(200, b"hello", {"Keep-Alive": "timeout=1, max=5"})

    async with raw_server(impatient) as raw, pooled(raw) as pool:
        await body(pool)
        await body(pool)
        assert raw.connections == 2


async def test_a_connection_the_upstream_closed_is_not_used_again() -> None:
    async def closing(received: Received, wire: Wire) -> None:
        await wire.reply(200, b"hello")
        await wire.hang_up()

    async with raw_server(closing) as raw, pooled(raw) as pool:
        for _ in range(3):
            assert await body(pool) == b"hello"
            await raw.until(lambda: raw.open_connections == 0)
        assert (raw.connections, pool.sent_count) == (3, 3)


async def test_answers_with_a_head_that_is_known_are_read_like_the_first() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n"

    async def same_head(received: Received, wire: Wire) -> None:
        number = len(raw.requests)
        if number == 4:
            await wire.send(head + b"ab")
            await wire.send(b"cde")
        elif number == 5:
            await wire.send(head + b"abcdefg")
        elif number == 7:
            await wire.send(head + b"ab")
            await wire.hang_up()
        else:
            await wire.send(head + b"%05d" % number)

    async with raw_server(same_head) as raw, pooled(raw) as pool:
        first = await get(pool)
        assert isinstance(first, Response)
        assert first.headers == [(b"content-length", b"5"), (b"x", b"y")]
        assert await get(pool) == Response(200, first.headers, b"00002")
        assert [await body(pool) for _ in range(3)] == [b"00003", b"abcde", b"abcde"]
        assert await body(pool) == b"00006"
        assert raw.connections == 2, "nobody asked for what came behind the fifth answer"
        assert (await failure(pool)).kind == "disconnected"


@pytest.mark.parametrize("limits", [{"max_body_bytes": 4}, {"max_head_bytes": 30}])
async def test_an_answer_that_was_too_large_is_not_known_when_it_comes_again(
    limits: dict[str, Any],
) -> None:
    async with raw_server(greet) as raw, pooled(raw, **limits) as pool:
        for _ in range(3):
            assert (await failure(pool)).kind == "violation"


async def test_a_connection_lost_after_sending_is_not_tried_again() -> None:
    async def leaves_on_the_second(received: Received, wire: Wire) -> None:
        if len(raw.requests) == 2:
            await wire.abort()
        else:
            await wire.reply(200, b"hello")

    async with raw_server(leaves_on_the_second) as raw, pooled(raw) as pool:
        await body(pool)
        assert (await failure(pool)).kind == "disconnected"
        assert len(raw.requests) == 2


async def test_close_and_http_1_0_answers_end_with_their_connection() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ]

    async def script(received: Received, wire: Wire) -> None:
        await wire.send(answers[len(raw.requests) - 1])
        await wire.hang_up()

    async with raw_server(script) as raw, pooled(raw) as pool:
        assert [await body(pool) for _ in answers] == [b"hi"] * 3
        assert raw.connections == 3


async def test_chunks_trailers_and_interim_answers_are_read() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n")
        await wire.send(
            b"Transfer-Encoding: chunked\r\nX-A:  b \r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n"
        )
        await wire.send(b"0\r\nX-Trailer: t\r\n\r\n")

    async with raw_server(script) as raw, pooled(raw) as pool:
        for _ in range(2):
            answer = await get(pool)
            assert isinstance(answer, Response)
            assert (answer.status, answer.body) == (200, b"hello")
            names = [name for name, _ in answer.headers]
            assert names == [b"transfer-encoding", b"x-a"]
        assert raw.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
    ],
)
async def test_an_answer_that_breaks_the_rules_is_a_violation(answer: bytes) -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.send(answer)

    async with raw_server(script) as raw, pooled(raw, max_body_bytes=1000) as pool:
        assert (await failure(pool)).kind == "violation"
        with anyio.fail_after(5):
            await raw.until(lambda: raw.open_connections == 0)


async def test_an_answer_nobody_asked_for_ends_the_connection() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.reply(200, b"mine")
        await wire.reply(200, b"forged")

    async with raw_server(script) as raw, pooled(raw) as pool:
        assert [await body(pool) for _ in range(3)] == [b"mine"] * 3
        assert raw.connections == 3


async def test_a_cut_off_answer_is_no_answer() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await wire.hang_up()

    async with raw_server(script) as raw, pooled(raw) as pool:
        assert (await failure(pool)).kind == "disconnected"


async def test_silence_ends_in_a_timeout_and_closes_the_connection() -> None:
    async def silent(received: Received, wire: Wire) -> None:
        await wire.client_left()

    async with raw_server(silent) as raw, pooled(raw) as pool:
        assert (await failure(pool, timeout_s=0.1)).kind == "timeout"
        with anyio.fail_after(5):
            await raw.until(lambda: raw.open_connections == 0)


async def test_more_requests_than_places_wait_in_line() -> None:
    gate = anyio.Event()

    async def gated(received: Received, wire: Wire) -> None:
        await gate.wait()
        await wire.reply(200, b"hello")

    async with raw_server(gated) as raw, pooled(raw, max_in_flight=2) as pool:
        bodies: list[bytes] = []

        async def one() -> None:
            bodies.append(await body(pool))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for _ in range(7):
                    group.start_soon(one)
                await raw.until(lambda: len(raw.requests) == 2)
                late = await failure(pool, timeout_s=0.1)
                assert late.kind == "unreachable"
                assert len(raw.requests) == 2
                gate.set()
        assert bodies == [b"hello"] * 7
        assert (raw.connections, pool.in_flight) == (2, 0)


async def test_who_stops_waiting_takes_no_place_along() -> None:
    gate = anyio.Event()

    async def gated(received: Received, wire: Wire) -> None:
        await gate.wait()
        await wire.reply(200, b"hello")

    async with raw_server(gated) as raw, pooled(raw, max_in_flight=1) as pool:
        async with anyio.create_task_group() as group:
            group.start_soon(get, pool)
            await raw.until(lambda: len(raw.requests) == 1)
            for _ in range(3):
                with anyio.move_on_after(0.01):
                    await get(pool)
            gate.set()
        assert await body(pool) == b"hello"
        assert pool.in_flight == 0


async def test_nothing_listening_is_unreachable() -> None:
    async with raw_server(greet) as raw:
        pass
    async with pooled(raw) as pool:
        end = await failure(pool)
        assert end.kind == "unreachable"
        assert f"127.0.0.1:{raw.port}" in end.message


async def test_connecting_is_bounded_in_time() -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await anyio.sleep_forever()
        return []

    pool = HttpPool(endpoint_of("http://slow.example/"), Limits(connect_timeout_s=0.1), never)
    with anyio.fail_after(5):
        assert (await failure(pool)).kind == "unreachable"
    await pool.close()


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with raw_server(greet) as raw:
        pool = HttpPool(endpoint_of(raw.url), Limits(), both)
        assert await body(pool) == b"hello"
        await pool.close()


async def test_closing_fails_what_is_under_way_and_what_waits() -> None:
    async def silent(received: Received, wire: Wire) -> None:
        await wire.client_left()

    ends: list[Failure] = []
    async with raw_server(silent) as raw, pooled(raw, max_in_flight=1) as pool:

        async def one() -> None:
            ends.append(await failure(pool))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(one)
                await raw.until(lambda: len(raw.requests) == 1)
                group.start_soon(one)
                await anyio.wait_all_tasks_blocked()
                await pool.close()
        assert sorted(end.kind for end in ends) == ["disconnected", "unreachable"]
        assert (await failure(pool)).kind == "unreachable"
        with pytest.raises(Unreachable):
            await pool.acquire("", deadline=asyncio.get_running_loop().time() + 1)
        assert pool.open_connections == 0


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509
        .CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "peer.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_tls_is_spoken_and_certificates_are_checked(certificate: Path) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with raw_server(greet, tls=server_side) as raw:
        async with pooled(raw, tls=trusting) as pool:
            assert [await body(pool) for _ in range(3)] == [b"hello"] * 3
            assert raw.connections == 1
        async with pooled(raw) as pool:
            end = await failure(pool)
            assert end.kind == "unreachable"
            assert "certificate" in end.message
    assert default_tls() is default_tls()


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"X-A": "a\r\nX-B: b"}, "X-A"),
        ({"X-A": "a\0"}, "X-A"),
        ({"X A": "a"}, "X A"),
        ({"": "a"}, ""),
        ({"Content-Length": "1"}, "Content-Length"),
        ({"mcp-session-id": "x"}, "mcp-session-id"),
    ],
)
def test_headers_that_would_break_the_message_are_refused(
    headers: dict[str, str], names: str
) -> None:
    with pytest.raises(Misconfigured) as raised:
        header_lines(headers)
    assert repr(names) in str(raised.value)
    assert "X-B" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://a.example", "a.example", "/"),
        ("https://A.Example:443/mcp?x=1#frag", "a.example", "/mcp?x=1"),
        ("http://a.example:8080/a/b", "a.example:8080", "/a/b"),
        ("http://[::1]:80/", "[::1]", "/"),
        ("http://bücher.example/ä?ö=ü", "xn--bcher-kva.example", "/%C3%A4?%C3%B6=%C3%BC"),
        ("http://a.example/%2F%20x", "a.example", "/%2F%20x"),
    ],
)
def test_addresses_are_read_as_they_go_on_the_wire(url: str, authority: str, target: str) -> None:
    endpoint = endpoint_of(url)
    assert (endpoint.authority, endpoint.target) == (authority, target)


@pytest.mark.parametrize(
    "url",
    ["", "a.example", "ftp://a.example", "http://", "http://a b/", "http://a\r\nX: y/",
     "http://u:p@a/", "http://a:99999/", "http://[::1/"],
)  # fmt: skip
def test_addresses_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        endpoint_of(url)


def test_retry_after_is_read_in_both_forms() -> None:
    date = (b"date", b"Sat, 21 Nov 2026 10:00:00 GMT")
    assert retry_after_s([(b"retry-after", b"7")]) == 7.0
    later = (b"retry-after", b"Sat, 21 Nov 2026 10:01:00 GMT")
    assert retry_after_s([date, later]) == 60.0
    assert retry_after_s([later]) is None
    assert retry_after_s([(b"retry-after", b"soon")]) is None
    assert retry_after_s([]) is None
