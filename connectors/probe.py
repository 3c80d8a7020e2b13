"""Finding out which eras an HTTP upstream speaks (mcp.md C1, C2).

Modern first: ``server/discover``. Whatever proves that era ends the search, whatever speaks of
access, load or an outage is inconclusive and proves nothing; everything else leads to
``initialize``, and its refusal to HTTP+SSE.
"""

from typing import Final

from connectors.errors import (
    ConnectorError,
    Inconclusive,
    Misconfigured,
    ProtocolViolation,
    Unreachable,
)
from connectors.handshake import identity_of_discovery
from connectors.http_answer import is_of_http
from connectors.http_message import Endpoint, Headers, Heads, header_of, resolved
from connectors.legacy_sessions import LegacySession, RefusedError
from connectors.mcp_legacy import LegacyUpstream
from connectors.mcp_modern import ModernUpstream, supported_revisions
from connectors.outcome import Failure
from connectors.protocol import ServerIdentity
from mcp_wire.codes import (
    HEADER_MISMATCH,
    METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_REVISION,
)
from mcp_wire.jsonrpc import raw
from mcp_wire.revisions import LATEST_MODERN, LEGACY_REVISIONS, MODERN_REVISIONS

PROBE_S: Final = 20.0
"""How long the answer to a probe may take."""
MAX_REDIRECTS: Final = 3

_EVERYTHING: Final = raw({"tools": {}, "resources": {}, "prompts": {}})
_REDIRECTS: Final = frozenset((301, 302, 307, 308))
_NOT_HERE: Final = frozenset((400, 404, 405))
"""Answers to ``initialize`` after which HTTP+SSE is tried (2025-03-26 transports, Backwards Compatibility)."""


class Found:
    """What a probe found: an identity, and how sure it is of the era."""

    def __init__(self, identity: ServerIdentity, *, is_proven: bool) -> None:
        self.identity = identity
        self.is_proven = is_proven
        """False: it answers as modern servers do, and did not describe itself."""


async def probe_modern(upstream: ModernUpstream) -> Found | None:
    """What ``server/discover`` tells; None when the upstream does not speak the modern era.

    Redirects within the origin are followed, and kept for the requests to come. Raises
    ConnectorError: Inconclusive where nothing can be said.
    """
    for _ in range(MAX_REDIRECTS + 1):
        end, headers = await upstream.discover(PROBE_S)
        if not isinstance(end, Failure):
            try:
                return Found(identity_of_discovery(end.body, "http"), is_proven=True)
            except ProtocolViolation:
                return None
        if not follow_redirect(upstream.heads, end, headers):
            return _judge(end)
    raise Misconfigured("the upstream redirects in circles")


async def probe_legacy(upstream: LegacyUpstream, within_s: float = PROBE_S) -> LegacySession:
    """A session of the legacy era, if it is there ``within_s`` seconds, at most ``PROBE_S``.

    Raises ConnectorError; RefusedError for a clear no.
    """
    timeout_s = min(within_s, PROBE_S)
    try:
        return await upstream.sessions.get(upstream.own_key, upstream.own, timeout_s)
    except RefusedError as error:
        raise_unless_conclusive(error.failure)
        raise


def leads_to_sse(failure: Failure) -> bool:
    """Whether this refusal of ``initialize`` is how an HTTP+SSE server answers a POST."""
    return failure.status in _NOT_HERE


def raise_unless_conclusive(failure: Failure) -> None:
    """Raise Inconclusive or Unreachable for what says nothing about the era."""
    if failure.kind == "unreachable":
        raise Unreachable(failure.message)
    if failure.kind in {"timeout", "disconnected"}:
        raise Inconclusive(failure.message)
    if failure.kind == "status" and failure.status is not None and is_of_http(failure.status):
        raise Inconclusive(
            failure.message,
            status=failure.status,
            retry_after_s=failure.retry_after_s,
            challenge=failure.challenge,
        )


def follow_redirect(heads: Heads, failure: Failure, headers: Headers) -> bool:
    """Send further requests where this one was redirected to.

    Raises Misconfigured for another origin: credentials and address rules were meant for this one.
    """
    location = header_of(headers, b"location")
    if failure.status not in _REDIRECTS or location is None:
        return False
    moved: Endpoint = resolved(heads.endpoint, location)
    if moved.origin != heads.endpoint.origin:
        raise Misconfigured(f"the upstream has moved to {moved.url}; configure that address")
    heads.move(moved)
    return True


def no_revision_in_common(failure: Failure) -> ConnectorError:
    """The upstream refused every era that was tried."""
    status = f", status {failure.status}" if failure.status is not None else ""
    return ProtocolViolation(
        f"the address does not answer as an MCP server: {failure.message}{status}"
    )


def _judge(failure: Failure) -> Found | None:
    raise_unless_conclusive(failure)
    if failure.kind != "error":
        return None
    if failure.code == UNSUPPORTED_REVISION:
        supported = supported_revisions(failure.data)
        if any(revision in LEGACY_REVISIONS for revision in supported):
            return None
        if not any(revision in MODERN_REVISIONS for revision in supported):
            named = ", ".join(supported[:5]) or "none"
            raise ProtocolViolation(f"the upstream speaks no revision that Portico does: {named}")
    modern_words = failure.code in {
        UNSUPPORTED_REVISION,
        HEADER_MISMATCH,
        MISSING_CLIENT_CAPABILITY,
    }
    if modern_words or (failure.code == METHOD_NOT_FOUND and failure.status == 404):
        identity = ServerIdentity(
            revisions=(LATEST_MODERN,), protocol_capabilities=_EVERYTHING, transport="http"
        )
        return Found(identity, is_proven=False)
    return None
