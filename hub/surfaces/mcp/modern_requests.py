"""What every transport of the modern era does with a request whose envelope was checked."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from hub.domain.call import CallerTraits
from hub.pipeline import Admitted
from hub.surfaces.mcp.asked import Asked, Exchange
from hub.surfaces.mcp.calls import Caller, Calls
from hub.surfaces.mcp.inbound import Inbound, log_level_of
from mcp_wire import codes
from mcp_wire.jsonrpc import EMPTY_OBJECT, decode_members, members_of, raw
from mcp_wire.revisions import REVISIONS

_DISCOVERED: Final = {"supportedVersions": raw(list(reversed(REVISIONS)))}
"""Newest first, and the same as in -32022: this address serves the handshake too."""

_TASKS: Final = "io.modelcontextprotocol/tasks"
"""An extension that is not relayed: its results name tasks that nobody here could fetch."""


class ModernRequests:
    """Makes calls of modern requests, whatever transport carries them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def asked(
        self,
        message: Inbound,
        revision: str,
        caller: Caller,
        exchange: Exchange,
        check: Callable[[Admitted], None] | None = None,
    ) -> Asked:
        """The call of a request whose envelope was checked. Raises Malformed."""
        if message.id is None:
            raise ValueError("a notification is not answered")
        meta = message.meta
        token, declared = meta.get(codes.META_PROGRESS), meta[codes.META_CLIENT_CAPABILITIES]
        traits = CallerTraits(
            revision,
            EMPTY_OBJECT if declared == EMPTY_OBJECT else _relayed(declared),
            meta.get(codes.META_CLIENT_INFO),
            token is not None,
            log_level_of(message) if codes.META_LOG_LEVEL in meta else None,
        )
        return Asked(
            call=self._calls.of(message, "modern", caller, traits),
            id=message.id,
            era="modern",
            exchange=exchange,
            progress_token=token,
            extra=_DISCOVERED if message.method == "server/discover" else {},
            check=check,
        )


def _relayed(declared: Raw) -> Raw:
    """A caller's protocol capabilities without what cannot be relayed to it."""
    try:
        members = decode_members(declared)
        extensions = members_of(members.get("extensions"))
    except (msgspec.DecodeError, RecursionError):
        return declared
    if _TASKS not in extensions:
        return declared
    del extensions[_TASKS]
    members["extensions"] = raw(extensions)
    return raw(members)
