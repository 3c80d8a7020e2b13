"""Is it alive, is it ready, what does it count: ``/healthz``, ``/readyz``, ``/metrics``."""

from collections.abc import Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router


class Readiness(Struct, frozen=True):
    """Whether new calls are welcome, and if not, why."""

    ready: bool
    reason: str = ""


class HealthSurface(Struct, frozen=True, kw_only=True):
    """What the operations paths work with."""

    readiness: Callable[[], Readiness]
    metrics: Callable[[], tuple[bytes, str]]
    """The exposition and its content type."""


def health_app(surface: HealthSurface) -> Router:
    """The ASGI application of the operations paths; it tells no details of upstreams or callers."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        state = surface.readiness()
        if state.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse(
            {"status": "unavailable", "reason": state.reason},
            status_code=503,
            headers={"Retry-After": "1"},
        )

    async def metrics(_: Request) -> Response:
        content, media_type = surface.metrics()
        return Response(content, media_type=media_type)

    return Router([
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ])
