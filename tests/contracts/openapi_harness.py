"""A connector in front of a service that an OpenAPI document describes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from msgspec import Raw

from connectors.address_guard import AddressGuard
from connectors.http_client import HttpClient
from connectors.openapi import OpenApiConnector, OpenApiSettings
from tests.contracts.connector_suite import Changes, Harness, text_of
from tests.peers.serving import Peer

Members = dict[str, Any]


@asynccontextmanager
async def connected(
    source: str, *, port: int | None = None, revision: str = "2025-11-25", **settings: Any
) -> AsyncIterator[Harness]:
    written = frozenset({("127.0.0.1", port or int(source.split(":")[2].split("/")[0]))})
    async with HttpClient() as client:
        connector = OpenApiConnector(
            OpenApiSettings(source=source, **settings),
            client=client,
            resolve=AddressGuard(written),
        )
        try:
            yield Harness(connector, Changes(), revision)
        finally:
            await connector.close()


@asynccontextmanager
async def described_by(
    document: Members, service: Peer, directory: Path, **settings: Any
) -> AsyncIterator[Harness]:
    """In front of the service as another document describes it."""
    file = anyio.Path(directory / "openapi.json")
    await file.write_text(json.dumps(document), encoding="utf-8")
    base_url = f"http://127.0.0.1:{service.port}"
    defaults = {"base_url": base_url, **settings}
    async with connected(str(file), port=service.port, **defaults) as harness:
        yield harness


def document_of(method: str, at: str, described_operation: Members, **more: Any) -> Members:
    """A document with one operation, called ``it``."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "One", "version": "1"},
        "paths": {at: {method: {"operationId": "it", "responses": {}, **described_operation}}},
        **more,
    }


async def tools_of(harness: Harness) -> dict[str, Members]:
    listing = await harness.connector.list()
    tools = [msgspec.json.decode(tool) for tool in listing.tools]
    return {tool["name"]: tool for tool in tools}


class Mirror:
    """Calls an operation of a service that answers with the request as it came."""

    def __init__(self, service: Peer, directory: Path) -> None:
        self._service = service
        self._directory = directory

    async def __call__(
        self,
        arguments: Members | Raw,
        *parameters: Members,
        method: str = "get",
        at: str = "/mirror",
        **more: Any,
    ) -> Members:
        described_operation = {"parameters": list(parameters), **more}
        document = document_of(method, at, described_operation)
        async with described_by(document, self._service, self._directory) as harness:
            end = await harness.end(harness.tool("it", arguments))
            seen = msgspec.json.decode(text_of(end))
            assert isinstance(seen, dict)
            return seen
