"""Which surface a path belongs to: MCP is asked first, as it is asked most."""

from typing import Final

from starlette.types import ASGIApp

from hub.surfaces.asgi import Fields, Receive, Scope, Send, respond
from hub.surfaces.front_door import FrontDoor

_ADMIN: Final = ("/api/", "/healthz", "/readyz", "/metrics")


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
        if not path.startswith(_ADMIN):
            await self._mcp(scope, receive, send)
            return
        turned = self._front_door.turned_away(Fields(scope["headers"]))
        if turned is not None:
            await respond(send, turned.status, turned.message.encode())
        elif path.startswith("/api/"):
            await self._admin(scope, receive, send)
        else:
            await self._health(scope, receive, send)
