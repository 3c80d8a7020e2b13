"""What most tests of behaviour share."""

from collections.abc import AsyncIterator

import httpx2
import pytest


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """Knows nothing of MCP, nor of proxies that are around."""
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
        yield client
