"""Who may knock: ``Host`` against DNS rebinding, ``Origin`` against foreign pages, CORS for known ones.

Source: 2026-07-28 Streamable HTTP, Security & Endpoint; Fetch Standard, CORS protocol.
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from hub.surfaces.asgi import Fields, Headers
from hub.surfaces.credentials import LOOPBACK_NAMES, host_name, is_address

ANY: Final = "*"
_MAX_KNOWN: Final = 64
_EXPOSED: Final = b"mcp-session-id, www-authenticate, retry-after, x-portico-call"
_METHODS: Final = b"GET, POST, DELETE, OPTIONS"
_PREFLIGHT_AGE_S: Final = b"600"


class Turned(Struct, frozen=True):
    """Why a request is not let in."""

    status: Literal[403, 421]
    reason: Literal["host", "origin"]
    message: str


_FOREIGN_HOST: Final = Turned(
    421, "host", "This host name is not served here; add it to 'server.allowed_hosts'."
)
_FOREIGN_ORIGIN: Final = Turned(
    403, "origin", "This origin may not call; add it to 'server.allowed_origins'."
)


class FrontDoor:
    """Checks every HTTP request before anything of it is believed.

    Loopback names and addresses are always served: DNS rebinding needs a name. ``allowed_hosts``
    holds names, with a port where only that one is meant, or ``*``; ``allowed_origins`` holds
    origins as browsers send them, or ``*``.
    """

    def __init__(
        self, *, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()
    ) -> None:
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self._known: set[str | None] = set()
        """``Host`` values that were found to be served."""
        self._origins = frozenset(origin.lower() for origin in allowed_origins)

    def turned_away(self, fields: Fields) -> Turned | None:
        """Why this request may not come in, or None."""
        host = fields.get(b"host")
        if (host not in self._known and not self._serves(host)) or b"host" in fields.repeated:
            return _FOREIGN_HOST
        if b"origin" not in fields:
            return None
        origin = fields.get(b"origin")
        if origin is not None and not self._admits(origin.lower(), (host or "").lower()):
            return _FOREIGN_ORIGIN
        return None

    def cors(self, fields: Fields) -> Headers:
        """What a browser has to see on the answer to a page of a configured origin."""
        origin = fields.get(b"origin") if b"origin" in fields else None
        if origin is None or not self._is_configured(origin.lower()):
            return ()
        return (
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
        )

    def preflight(self, fields: Fields) -> Headers:
        """The answer to ``OPTIONS``; without CORS fields a browser takes it for a no."""
        cors = self.cors(fields)
        if not cors:
            return ((b"allow", _METHODS),)
        wanted = fields.get(b"access-control-request-headers") or ""
        return (
            *cors,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", wanted.encode("latin-1")),
            (b"access-control-max-age", _PREFLIGHT_AGE_S),
        )

    def _serves(self, host: str | None) -> bool:
        if host is None:
            return ANY in self._hosts
        name = host_name(host)
        serves = (
            name in LOOPBACK_NAMES
            or is_address(name.strip("[]"))  # a page cannot make a name of its own lead to this one
            or name in self._hosts
            or host.lower() in self._hosts
            or ANY in self._hosts
        )
        if serves and len(self._known) < _MAX_KNOWN:
            self._known.add(host)
        return serves

    def _admits(self, origin: str, host: str) -> bool:
        if self._is_configured(origin):
            return True
        scheme, separator, authority = origin.partition("://")
        if not separator or scheme not in {"http", "https"}:
            return False
        if authority == host:
            return True
        return host_name(authority) in LOOPBACK_NAMES and host_name(host) in LOOPBACK_NAMES

    def _is_configured(self, origin: str) -> bool:
        return origin in self._origins or (ANY in self._origins and origin != "null")
