"""One Portico in front of every kind of upstream, and one program for each client."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.matrix.pairs import Pair
from tests.matrix.programs import Programs, programs
from tests.matrix.table import ClientKind, UpstreamKind
from tests.matrix.upstreams import configuration, upstreams
from tests.peers.portico import Portico, portico, running_portico


class Pairs:
    """Pairs of client and upstream; one at a time has connections."""

    def __init__(self, programs: Programs, origin: str) -> None:
        self._programs = programs
        self._origin = origin
        self._current: Pair | None = None

    async def of(self, client: ClientKind, upstream: UpstreamKind) -> Pair:
        pair = self._current
        if pair is None or (pair.client_kind, pair.upstream_kind) != (client, upstream):
            if pair is not None:
                await pair.close()
            pair = self._current = Pair(self._programs, self._origin, client, upstream)
        return pair

    async def start_anew(self) -> None:
        """After a failure nothing is left of the connections, so that the next cell sees none of it."""
        self._current = None
        await self._programs.stop()


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portico]:
    data = tmp_path_factory.mktemp("matrix") / "data"
    with upstreams() as reached:
        async with running_portico(data, config=configuration(reached)) as hub:
            await until_listed(hub)
            yield hub


@pytest.fixture(scope="module")
async def pairs(hub: Portico) -> AsyncIterator[Pairs]:
    async with programs(await headers_of(hub)) as clients:
        yield Pairs(clients, hub.origin)


async def headers_of(hub: Portico) -> dict[str, str]:
    """What authenticates the principal of the matrix."""
    created = await portico("key", "create", "--principal", "matrix", data=hub.data)
    return {"Authorization": f"Bearer {created['key']}"}


async def until_listed(hub: Portico) -> None:
    """Each upstream has answered once."""
    async with httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http:
        status = (await http.get("/api/status")).json()
        for upstream in status["upstreams"]:
            listed = await http.post(f"/api/upstreams/{upstream['upstream']}/refresh", timeout=60)
            assert listed.json()["state"] == "live", listed.text
