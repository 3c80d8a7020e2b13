"""One client and one upstream with Portico between them, as the features of the matrix use them."""

from collections.abc import Sequence
from itertools import count

from tests.matrix.programs import Connected, Programs
from tests.matrix.table import ClientKind, Era, UpstreamKind, era_of_client, era_of_upstream

EVERYTHING = ("elicitation", "sampling", "roots")


class Pair:
    """Connections of one kind of client to one upstream; each is opened when it is first needed."""

    def __init__(
        self, programs: Programs, origin: str, client: ClientKind, upstream: UpstreamKind
    ) -> None:
        self.client_kind = client
        self.upstream_kind = upstream
        self.caller: Era = era_of_client(client)
        self.upstream = era_of_upstream(upstream, self.caller)
        self._programs = programs
        self._origin = origin
        self._numbers = count(1)
        self._connections: dict[str, Connected] = {}
        self._is_watching = False

    async def full(self) -> Connected:
        """A client that can be asked anything."""
        return await self._connection("full", EVERYTHING)

    async def other(self) -> Connected:
        """One more like it, of the same principal."""
        return await self._connection("other", EVERYTHING)

    async def form_only(self) -> Connected:
        """A client that shows forms, and opens no addresses."""
        return await self._connection("form only", ("form",))

    async def mute(self) -> Connected:
        """A client that can be asked nothing: those of a stdio upstream share its first child."""
        return await self._connection("mute", ())

    async def hasty(self) -> Connected:
        """A client of the same server where Portico does not wait long for it."""
        return await self._connection("hasty", (), "_hasty")

    async def watching(self) -> Connected:
        """The mute client, once it hears of changes."""
        client = await self.mute()
        if not self._is_watching:
            await client.watch("memo://watched")
            self._is_watching = True
        client.forget()
        return client

    def new_name(self) -> str:
        """A name that nobody else uses with this upstream."""
        return f"{self.client_kind}-{next(self._numbers)}"

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()
        self._connections.clear()

    async def _connection(self, name: str, declares: Sequence[str], more: str = "") -> Connected:
        if name not in self._connections:
            ending = "sse" if self.client_kind == "sse" else "mcp"
            url = f"{self._origin}/v/{self.upstream_kind}{more}/{ending}"
            opened = await self._programs.connect(self.client_kind, url, declares)
            self._connections[name] = opened
        self._connections[name].forget()
        return self._connections[name]
