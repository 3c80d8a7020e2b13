"""docs/ERAS.md, made of the table that the matrix runs by."""

from collections.abc import Iterator
from typing import Final

from tests.matrix.table import (
    CLIENTS,
    CROSSINGS,
    LIMITS,
    ROWS,
    UPSTREAMS,
    ClientKind,
    Crossing,
    Limit,
    UpstreamKind,
    era_of_client,
    era_of_upstream,
    limit_of,
)

_CELL: Final = "matrix/test_matrix.py::test_a_feature_crosses"
_INTRODUCTION: Final = """\
# Between eras

MCP has two eras. The legacy one (2024-11-05 to 2025-11-25) begins with a handshake, has sessions, and
servers that ask their clients while a request runs. The modern one (2026-07-28) has requests that
stand alone, and results that ask for input. Portico serves clients of both in front of upstreams of
both; an upstream that speaks both is spoken to in its caller's era.

`make matrix` tries every feature below with every client and every upstream.
"""


def eras_document() -> str:
    """The document, without the note that it is generated."""
    parts = [
        _INTRODUCTION,
        "## What crosses",
        "The number is that of the line in the next table.",
        "\n".join(_summary()),
        "## What does not",
        "\n".join(_lines()),
        "## What is tried",
        "\n".join(_tried()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _summary() -> Iterator[str]:
    yield "| Caller → upstream | " + " | ".join(map(_named, CROSSINGS)) + " |"
    yield "|---|" + "---|" * len(CROSSINGS)
    for feature, what in ROWS.items():
        yield f"| {what} | " + " | ".join(_crosses(feature, one) for one in CROSSINGS) + " |"


def _crosses(feature: str, crossing: Crossing) -> str:
    for number, limit in enumerate(LIMITS, 1):
        if limit.feature == feature and crossing in limit.crossings:
            return f"{limit.loss} ({number})"
    return "✓"


def _lines() -> Iterator[str]:
    yield "| | Caller → upstream | | What is seen | Because | Shown by |"
    yield "|---|---|---|---|---|---|"
    for number, limit in enumerate(LIMITS, 1):
        crossings = "<br>".join(map(_named, limit.crossings))
        shown = "<br>".join(_shown(limit))
        yield f"| {number} | {crossings} | {limit.loss} | {limit.what} | {limit.why} | {shown} |"


def _shown(limit: Limit) -> Iterator[str]:
    for test in limit.tests:
        yield f"`tests/{test}`"
    cells = [
        (client, upstream)
        for client in CLIENTS
        for upstream in UPSTREAMS
        if limit_of(limit.feature, client, upstream) == limit
    ]
    seen: set[Crossing] = set()
    for client, upstream in cells:
        if (crossing := _crossing(client, upstream)) not in seen:
            seen.add(crossing)
            yield f"`tests/{_CELL}[{client}-{upstream}-{limit.feature}]`"
    if len(cells) > len(seen):
        yield f"and {len(cells) - len(seen)} other cells"


def _crossing(client: ClientKind, upstream: UpstreamKind) -> Crossing:
    caller = era_of_client(client)
    return caller, era_of_upstream(upstream, caller)


def _named(crossing: Crossing) -> str:
    return " → ".join(crossing)


def _tried() -> Iterator[str]:
    yield f"{len(CLIENTS)} clients, each with {len(UPSTREAMS)} upstreams:"
    yield ""
    yield from (f"- `{name}`: {what}" for name, what in CLIENTS.items())
    yield ""
    yield "Upstreams:"
    yield ""
    yield from (f"- `{name}`: {what}" for name, what in UPSTREAMS.items())
