"""``make conformance``: the protocol's own conformance kit against Portico, with exact counts.

A count below the expected one fails the run as a failed check does, and so does one above: a kit
that looks at more is to be written down in ``expected.py``.
"""

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec

from mcp_wire.revisions import Era, era_of
from tests.conformance import kit
from tests.conformance.expected import (
    CLIENT,
    CROSSED_CLIENT,
    CROSSED_SERVER,
    NAMED_CHECKS,
    NAMELESS,
    REVISIONS,
    SERVER,
    Counts,
    at,
)
from tests.conformance.kit import Found
from tests.conformance.report import Row, Tell, judged, show
from tests.peers.eras import only_legacy, only_modern
from tests.peers.everything import HTTP, application
from tests.peers.portico import running_portico
from tests.peers.serving import serving, spawned

PLAIN_CONFIG: Final = """
version: 1
upstreams:
  everything: {{url: "{everything}"}}
virtual_servers:
  conformance: {{anonymous: true, include: [{{upstream: everything}}], prefix: never}}
"""

PREFIXED_CONFIG: Final = """
version: 1
upstreams:
  everything: {{url: "{everything}"}}
  other: {{url: "{other}"}}
virtual_servers:
  conformance:
    anonymous: true
    include: [{{upstream: everything}}, {{upstream: other}}]
    prefix: always
"""

AT_A_TIME: Final = 2
"""Client scenarios; each has a Portico of its own."""

OTHER: Final[Mapping[Era, Era]] = {"legacy": "modern", "modern": "legacy"}


@asynccontextmanager
async def hub(config: str) -> AsyncIterator[str]:
    """The MCP address of the virtual server ``conformance`` of a running Portico."""
    with tempfile.TemporaryDirectory(prefix="portico-") as folder:
        async with running_portico(Path(folder) / "data", config=config) as running:
            yield f"{running.origin}/v/conformance/mcp"


async def suite(url: str, revision: str) -> Found:
    """What all server scenarios of a revision find at ``url``."""
    with tempfile.TemporaryDirectory() as folder:
        return await kit.server_suite(url, revision, Path(folder))


async def upstream(tell: Tell) -> None:
    """The upstream of the kit by itself: what can be found at all."""
    with spawned("everything") as peer:
        for revision in REVISIONS:
            found = await suite(peer.url, revision)
            tell(judged("upstream", revision, "all scenarios", found, at(SERVER, revision)))


async def server(tell: Tell) -> None:
    """The same through Portico, on a virtual server that changes no name."""
    with spawned("everything") as peer:
        async with hub(PLAIN_CONFIG.format(everything=peer.url)) as url:
            for revision in REVISIONS:
                found = await suite(url, revision)
                tell(judged("server", revision, "all scenarios", found, at(SERVER, revision)))


async def prefixed(tell: Tell) -> None:
    """What does not depend on names, on a virtual server with two upstreams and prefixes.

    The other scenarios of a suite fail there for want of the names they know.
    """
    with spawned("everything") as peer, spawned("legacy_server") as other:
        config = PREFIXED_CONFIG.format(everything=peer.url, other=other.url)
        async with hub(config) as url:
            for revision in REVISIONS:
                found = await suite(url, revision)
                found = found.only(NAMELESS, without=NAMED_CHECKS)
                expected = at(NAMELESS, revision)
                tell(judged("prefixed", revision, "scenarios without names", found, expected))


async def crossed(tell: Tell) -> None:
    """Clients of one era and servers of the other, from both sides."""
    for revision, gate in (("2025-11-25", only_modern), ("2026-07-28", only_legacy)):
        with serving(gate(application(bilingual=True)), http=HTTP) as peer:
            async with hub(PLAIN_CONFIG.format(everything=peer.url)) as url:
                found = (await suite(url, revision)).only(CROSSED_SERVER)
        expected = at(CROSSED_SERVER, revision)
        tell(judged("crossed", revision, "server of the other era", found, expected))
    for revision in REVISIONS[1:]:
        await _scenarios("crossed", revision, OTHER[era_of(revision)], CROSSED_CLIENT, tell)


async def client(tell: Tell) -> None:
    """The client scenarios: Portico between a client on the official SDK and the kit's server."""
    for revision in REVISIONS:
        there_are = await kit.client_scenarios(revision)
        await _scenarios("client", revision, era_of(revision), CLIENT, tell, there_are)


async def _scenarios(
    part: str,
    revision: str,
    era: Era,
    counts: Counts,
    tell: Tell,
    there_are: frozenset[str] = frozenset(),
) -> None:
    limiter = anyio.CapacityLimiter(AT_A_TIME)
    expected = at(counts, revision)

    async def one(scenario: str) -> None:
        async with limiter:
            with tempfile.TemporaryDirectory() as folder:
                found = await kit.client_scenario(scenario, revision, era, Path(folder))
        tell(judged(part, revision, scenario, found, {scenario: expected.get(scenario, 0)}))

    async with anyio.create_task_group() as scenarios:
        for scenario in sorted(there_are | expected.keys()):
            scenarios.start_soon(one, scenario)


PARTS: Final[Mapping[str, Callable[[Tell], Awaitable[None]]]] = {
    "upstream": upstream,
    "server": server,
    "prefixed": prefixed,
    "client": client,
    "crossed": crossed,
}


async def conform(parts: Sequence[str], *, as_json: bool) -> int:
    """Run some parts; the exit status."""
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        if not as_json:
            show(row)

    for part in parts:
        await PARTS[part](tell)
    if as_json:
        sys.stdout.write(msgspec.json.encode(rows).decode() + "\n")
    return 1 if any(row.wrong for row in rows) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - PARTS.keys()
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    work = partial(conform, arguments.parts or [*PARTS], as_json=arguments.json)
    return anyio.run(work)


if __name__ == "__main__":
    sys.exit(main())
