"""What every transport of the MCP surface shares: made once of what the surface is given."""

from msgspec import Raw, Struct

from hub.domain.outcome import Refusal
from hub.domain.principal import Principal
from hub.surfaces.mcp.answering import Answer, Answering
from hub.surfaces.mcp.arrival import Turned
from hub.surfaces.mcp.calls import Caller, Calls
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.inbound import Malformed
from hub.surfaces.mcp.legacy_requests import LegacyRequests
from hub.surfaces.mcp.modern_requests import ModernRequests
from hub.surfaces.mcp.parking import Parking
from hub.wire_errors import refused
from mcp_wire.jsonrpc import raw
from mcp_wire.revisions import Era


class Machinery(Struct, frozen=True):
    """How requests of both eras become calls, and calls become answers."""

    given: Collaborators
    calls: Calls
    answering: Answering
    modern: ModernRequests
    legacy: LegacyRequests
    server_info: Raw


def machinery_of(given: Collaborators) -> Machinery:
    """The machinery that works with these collaborators."""
    server_info = raw({"name": "portico", "version": given.version})
    calls = Calls(given.new_call_id)
    answering = Answering(given.pipeline, server_info, Parking(given), given.answer_within_s)
    legacy = LegacyRequests(answering, calls, server_info, given)
    return Machinery(given, calls, answering, ModernRequests(calls), legacy, server_info)


def malformed(machinery: Machinery, error: Malformed, era: Era, caller: Caller) -> Answer:
    """The answer of a message that became no call; such are counted."""
    machinery.given.refused_before_identify(caller.evidence.peer, "malformed")
    return machinery.answering.malformed(error, era)


def identified(machinery: Machinery, caller: Caller) -> Principal:
    """Who sends what passes no pipeline: pings, notifications, streams. Raises Turned."""
    try:
        return machinery.given.views.principal(machinery.calls.standing(caller, "identify"))
    except Refusal as refusal:
        machinery.given.refused_before_identify(caller.evidence.peer, refusal.reason)
        words = refused(refusal, "", "legacy")
        raise Turned(words.status, words) from refusal
