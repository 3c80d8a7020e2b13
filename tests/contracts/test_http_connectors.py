"""Upstreams over HTTP, of every era and transport: the contract of all connectors."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from connectors.outcome import Result
from tests.contracts.connector_suite import AskingSuite, Harness, McpSuite, Verbatim
from tests.contracts.http_harness import LEGACY, MODERN, connected
from tests.peers.raw_server import LegacyScript, ModernScript, Received, Wire, raw_server
from tests.peers.running import Peer, dual_server, legacy_server, modern_server, sse_server


@pytest.fixture(scope="module")
def modern_peer() -> Iterator[Peer]:
    with modern_server() as peer:
        yield peer


@pytest.fixture(scope="module")
def legacy_peer() -> Iterator[Peer]:
    with legacy_server() as peer:
        yield peer


@pytest.fixture(scope="module")
def dual_peer() -> Iterator[Peer]:
    with dual_server() as peer:
        yield peer


@pytest.fixture(scope="module")
def sse_peer() -> Iterator[Peer]:
    with sse_server() as peer:
        yield peer


@asynccontextmanager
async def answering_modern(result: bytes) -> AsyncIterator[Harness]:
    async def answer(received: Received, wire: Wire) -> None:
        await wire.result(result)

    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        yield harness


@asynccontextmanager
async def streaming_modern(result: bytes) -> AsyncIterator[Harness]:
    async def answer(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.frame(wire.envelope(b"result", result))
        await wire.end_stream()

    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        yield harness


@asynccontextmanager
async def answering_legacy(result: bytes) -> AsyncIterator[Harness]:
    async def answer(received: Received, wire: Wire) -> None:
        await wire.result(result)

    async with (
        raw_server(LegacyScript({"tools/call": answer})) as raw,
        connected(raw.url, LEGACY) as harness,
    ):
        yield harness


class TestModern(McpSuite):
    @pytest.fixture
    async def harness(self, modern_peer: Peer) -> AsyncIterator[Harness]:
        async with connected(modern_peer.url, MODERN) as harness:
            yield harness

    @pytest.fixture
    def verbatim(self) -> Verbatim:
        return answering_modern

    @pytest.fixture
    def closing(self, modern_peer: Peer) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(modern_peer.url, MODERN)

    async def test_input_is_asked_for_in_the_result(self, harness: Harness) -> None:
        end = await harness.end(harness.tool("elicit"))
        assert isinstance(end, Result)
        assert end.input_required


class TestModernForLegacyCallers(McpSuite):
    """Also: answers in event streams."""

    @pytest.fixture
    async def harness(self, modern_peer: Peer) -> AsyncIterator[Harness]:
        async with connected(modern_peer.url, LEGACY) as harness:
            yield harness

    @pytest.fixture
    def verbatim(self) -> Verbatim:
        return streaming_modern

    @pytest.fixture
    def closing(self, modern_peer: Peer) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(modern_peer.url, LEGACY)


class TestLegacy(AskingSuite):
    @pytest.fixture
    async def harness(self, legacy_peer: Peer) -> AsyncIterator[Harness]:
        async with connected(legacy_peer.url, LEGACY) as harness:
            yield harness

    @pytest.fixture
    def verbatim(self) -> Verbatim:
        return answering_legacy

    @pytest.fixture
    def closing(self, legacy_peer: Peer) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(legacy_peer.url, LEGACY)


class TestDualInTheLegacyEra(AskingSuite):
    @pytest.fixture
    async def harness(self, dual_peer: Peer) -> AsyncIterator[Harness]:
        async with connected(dual_peer.url, LEGACY) as harness:
            yield harness

    @pytest.fixture
    def verbatim(self) -> Verbatim:
        return answering_legacy

    @pytest.fixture
    def closing(self, dual_peer: Peer) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(dual_peer.url, LEGACY)

    async def test_both_eras_are_found_and_each_caller_gets_its_own(self, harness: Harness) -> None:
        await harness.end(harness.tool("echo", {"text": "hello"}))
        assert (await harness.connector.open()).revisions == (MODERN, LEGACY)
        harness.revision = MODERN
        end = await harness.end(harness.tool("elicit"))
        assert isinstance(end, Result)
        assert end.input_required


class TestSse(AskingSuite):
    @pytest.fixture
    async def harness(self, sse_peer: Peer) -> AsyncIterator[Harness]:
        async with connected(sse_peer.url, LEGACY) as harness:
            yield harness

    @pytest.fixture
    def verbatim(self) -> Verbatim:
        return answering_legacy

    @pytest.fixture
    def closing(self, sse_peer: Peer) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(sse_peer.url, LEGACY)
