"""Finding out what an MCP upstream is: ``server/discover`` (2026-07-28), ``initialize`` (before).

Codecs only: what is sent, and what the answers say of the upstream.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from connectors.envelope import modern_meta, own_identity
from connectors.errors import ProtocolViolation
from connectors.protocol import ServerIdentity
from mcp_wire.codes import META_SERVER_INFO
from mcp_wire.jsonrpc import EMPTY_OBJECT, decode_members, members_of, raw, string_of
from mcp_wire.revisions import LATEST_LEGACY, LATEST_MODERN, LEGACY_REVISIONS, MODERN_REVISIONS

MAX_INSTRUCTIONS: Final = 100_000
"""Characters of an upstream's instructions that are kept."""

LISTING_CAPABILITIES: Final = raw({
    "roots": {},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
})
"""Declared for listing: servers hide tools from clients that could not answer their questions."""

_strings: Final = msgspec.json.Decoder(list[str])


def discover_params(client_capabilities: Raw = EMPTY_OBJECT) -> Mapping[str, Raw]:
    """Parameters of the ``server/discover`` probe (2026-07-28 server/discover)."""
    return {"_meta": raw(modern_meta(LATEST_MODERN, client_capabilities))}


def initialize_params(
    client_capabilities: Raw = EMPTY_OBJECT, client_info: Raw | None = None
) -> Mapping[str, Raw]:
    """Parameters of ``initialize`` (2025-11-25 lifecycle, Initialization)."""
    return {
        "protocolVersion": raw(LATEST_LEGACY),
        "capabilities": client_capabilities,
        "clientInfo": client_info or own_identity(),
    }


def identity_of_discovery(result: Raw, transport: str) -> ServerIdentity:
    """What a ``server/discover`` result says. Raises ProtocolViolation unless it proves our era.

    A server that answers and does not list a modern revision of ours is a legacy one (mcp.md C2).
    """
    try:
        members = decode_members(result)
        listed = _strings.decode(members.get("supportedVersions", b"[]"))
        meta = members_of(members.get("_meta"))
    except msgspec.DecodeError as error:
        raise ProtocolViolation("server/discover was answered with something else") from error
    revisions = tuple(reversed([known for known in MODERN_REVISIONS if known in listed]))
    if not revisions:
        raise ProtocolViolation("server/discover lists no revision that Portico speaks")
    return _identity(members, meta.get(META_SERVER_INFO), revisions[:1], transport)


def identity_of_initialization(result: Raw, transport: str) -> ServerIdentity:
    """What an ``initialize`` result says. Raises ProtocolViolation for an unknown revision."""
    try:
        members = decode_members(result)
    except msgspec.DecodeError as error:
        raise ProtocolViolation("initialize was answered with something else") from error
    revision = string_of(members.get("protocolVersion"))
    if revision not in LEGACY_REVISIONS:
        raise ProtocolViolation(f"initialize was answered with unknown revision {revision!r}")
    return _identity(members, members.get("serverInfo"), (revision,), transport)


def _identity(
    members: Mapping[str, Raw], server_info: Raw | None, revisions: tuple[str, ...], transport: str
) -> ServerIdentity:
    """Names are for people: what is malformed there reads as absent."""
    try:
        about = members_of(server_info)
        capabilities = members.get("capabilities", EMPTY_OBJECT)
        decode_members(capabilities)
    except msgspec.DecodeError as error:
        raise ProtocolViolation("the upstream describes itself in an unreadable way") from error
    return ServerIdentity(
        revisions=revisions,
        name=string_of(about.get("name")) or "",
        version=string_of(about.get("version")) or "",
        instructions=(string_of(members.get("instructions")) or "")[:MAX_INSTRUCTIONS],
        protocol_capabilities=capabilities.copy(),
        transport=transport,
    )
