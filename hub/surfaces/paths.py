"""Which surface a path belongs to: MCP is asked first, as it is asked most."""

import re
from typing import Final

from starlette.types import ASGIApp

from hub.surfaces.asgi import Fields, Receive, Scope, Send, respond
from hub.surfaces.front_door import FrontDoor

_ADMIN: Final = ("/api/", "/healthz", "/readyz", "/metrics")
_OF_TENANT: Final = re.compile(r"/t/([^/]+)(/api/.*)", re.DOTALL)
TENANT_KEY: Final = "portico.tenant"
"""Where a scope holds the tenant that its path named."""


class Paths:
    """The application: MCP, the admin API, and the operations paths."""

    def __init__(
        self, front_door: FrontDoor, *, mcp: ASGIApp, admin: ASGIApp, health: ASGIApp
    ) -> None:
        self._front_door = front_door
        self._mcp = mcp
        self._admin = admin
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to its surface; the MCP surface minds the front door itself."""
        path: str = scope["path"]
        named = _OF_TENANT.fullmatch(path) if path.startswith("/t/") else None
        if named is not None:
            path = named[2]
            scope = {**scope, "path": path, "raw_path": path.encode(), TENANT_KEY: named[1]}
        if not path.startswith(_ADMIN):
            await self._mcp(scope, receive, send)
            return
        fields = Fields(scope["headers"])
        turned = self._front_door.turned_away(fields)
        if turned is not None:
            await respond(send, turned.status, turned.message.encode())
        elif named is not None and fields.get(b"x-tenant-id") not in (None, named[1]):
            await respond(send, 400, b"The path and X-Tenant-ID name different tenants.")
        elif path.startswith("/api/"):
            await self._admin(scope, receive, send)
        else:
            await self._health(scope, receive, send)
