"""A large catalogue made up: upstreams inside the process, and who may use what of them."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from msgspec import Raw

from connectors.outcome import Event, Failure
from connectors.protocol import Credential, Listing, OnChange, Request, ServerIdentity
from hub.domain.catalog import UpstreamListing
from hub.domain.desired import (
    Desired,
    GrantSpec,
    GroupSpec,
    Include,
    PrincipalSpec,
    UpstreamSpec,
    VirtualServerSpec,
)
from mcp_wire.jsonrpc import raw

UPSTREAMS: Final = 50
TOOLS_EACH: Final = 200
PRINCIPALS: Final = 1000
GRANT_SETS: Final = 40
VIRTUAL_SERVERS: Final = 10
VERBS: Final = [
    "create",
    "list",
    "get",
    "update",
    "delete",
    "search",
    "export",
    "import",
    "archive",
    "approve",
]
NOUNS: Final = [
    "order",
    "invoice",
    "customer",
    "ticket",
    "report",
    "branch",
    "pod",
    "channel",
    "event",
    "document",
]


class Synthetic:
    """An upstream that lists what it is told to."""

    def __init__(self, name: str, definitions: Sequence[Raw]) -> None:
        self.name = name
        self.definitions = list(definitions)
        self.announce: OnChange = lambda _: None

    async def open(self) -> ServerIdentity:
        return ServerIdentity(
            revisions=("2026-07-28",), name=self.name, protocol_capabilities=Raw(b'{"tools":{}}')
        )

    async def list(self) -> Listing:
        return Listing(tools=tuple(self.definitions))

    async def invoke(self, request: Request, credential: Credential) -> AsyncGenerator[Event]:
        del request, credential
        yield Failure("unsupported", "only listed here")

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        return uris

    async def close(self) -> None:
        pass


class NoStore:
    """Keeps no listing: what the database costs is measured elsewhere."""

    async def load(self, tenant: str) -> tuple[UpstreamListing, ...]:
        del tenant
        return ()

    async def save(self, tenant: str, listing: UpstreamListing) -> bool:
        del tenant, listing
        return True

    async def forget(self, tenant: str, upstream: str) -> None:
        del tenant, upstream


def upstream_names() -> list[str]:
    return [f"up{index:02}" for index in range(UPSTREAMS)]


def definitions(upstream: str) -> list[Raw]:
    """Tools of ordinary size, about 700 bytes; every tenth name is found in all upstreams."""
    found = []
    for index in range(TOOLS_EACH):
        verb, noun = VERBS[index % 10], NOUNS[index // 10 % 10]
        name = f"{verb}_{noun}_{index}" if index % 10 == 0 else f"{verb}_{noun}_{upstream}_{index}"
        properties = {
            f"{word}_{noun}": {"type": "string", "description": f"The {word} of the {noun}."}
            for word in ("id", "name", "state", "owner", "since")
        }
        found.append(
            raw({
                "name": name,
                "title": f"{verb.title()} {noun}",
                "description": f"{verb.title()} one {noun} in {upstream}. " * 3,
                "inputSchema": {"type": "object", "properties": properties},
                "annotations": {"readOnlyHint": verb in ("list", "get", "search")},
            })
        )
    return found


def desired_state() -> Desired:
    """Ten virtual servers of five upstreams each; forty groups with grants of every shape."""
    names = upstream_names()
    share = UPSTREAMS // VIRTUAL_SERVERS
    servers = [
        VirtualServerSpec(
            name=f"vs{index}",
            include=tuple(
                Include(upstream=name) for name in names[index * share : (index + 1) * share]
            ),
        )
        for index in range(VIRTUAL_SERVERS)
    ]
    grants = [GrantSpec(virtual_server="default", group="g0")]
    for index in range(1, GRANT_SETS):
        lists = (None, ("list_*", "get_*", "search_*"), (f"*_{NOUNS[index % 10]}_*",))
        for server in range(index % 4 + 1):
            at = (index + server) % VIRTUAL_SERVERS
            grants.append(
                GrantSpec(virtual_server=f"vs{at}", group=f"g{index}", tools=lists[index % 3])
            )
    return Desired(
        upstreams=tuple(UpstreamSpec(name=name, url=f"http://{name}.example/") for name in names),
        virtual_servers=tuple(servers),
        principals=tuple(PrincipalSpec(name=f"p{index}") for index in range(PRINCIPALS)),
        groups=tuple(
            GroupSpec(
                name=f"g{index}",
                members=tuple(f"p{one}" for one in range(index, PRINCIPALS, GRANT_SETS)),
            )
            for index in range(GRANT_SETS)
        ),
        grants=tuple(grants),
    )
