"""The admin API: REST paths -> calls with an administrative action, answers -> JSON.

Which paths there are is a table that the application passes in; what answers them is behind the
pipeline, like everything else.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from hub.domain.administration import Operation
from hub.domain.call import Call, Target
from hub.domain.outcome import Failure, Refusal, Result
from hub.domain.principal import Evidence
from hub.pipeline import Pipeline
from hub.wire_errors import CRASHED, problem_of_failure, problem_of_refusal
from mcp_wire.jsonrpc import raw
from mcp_wire.wellformed import UNREADABLE

_logger = logging.getLogger(__name__)

PREFIX: Final = "/api"
MAX_BODY_BYTES: Final = 4 * 1024 * 1024


class AdminSurface(Struct, frozen=True, kw_only=True):
    """What the admin API works with."""

    pipeline: Pipeline
    operations: Sequence[Operation]
    evidence: Callable[[Scope], Evidence]
    """Evidence from an ASGI scope."""
    new_call_id: Callable[[], str]
    document: Mapping[str, Any]
    """The OpenAPI document of these operations."""


def admin_app(surface: AdminSurface) -> Router:
    """The ASGI application that serves :data:`PREFIX` and everything below."""
    routes = [
        Route(PREFIX + operation.path, _endpoint(surface, operation), methods=[operation.method])
        for operation in surface.operations
    ]

    async def document(_: Request) -> Response:
        return JSONResponse(surface.document)

    routes.append(Route(f"{PREFIX}/openapi.json", document, methods=["GET"]))
    return Router(routes, default=_unknown_path)


async def _unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Refusal(
        "absent", f"There is no {scope['method']} {scope['path']}; see {PREFIX}/openapi.json."
    )
    problem = problem_of_refusal(refusal, "")
    await _problem(problem.status, problem.body, problem.headers)(scope, receive, send)


def _endpoint(
    surface: AdminSurface, operation: Operation
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        call_id = surface.new_call_id()
        headers = {"X-Portico-Call": call_id}
        try:
            call = Call(
                id=call_id,
                surface="admin",
                operation=f"{operation.method} {PREFIX}{operation.path}",
                action=operation.action,
                target=Target("administration", operation.name),
                evidence=surface.evidence(request.scope),
                params=await _params(request, operation),
                traceparent=request.headers.get("traceparent"),
            )
            async with surface.pipeline.run(call) as running:
                end = await running.answer()
        except Refusal as refusal:
            problem = problem_of_refusal(refusal, call_id)
            return _problem(problem.status, problem.body, {**headers, **problem.headers})
        except Exception:  # the surface's barrier
            _logger.exception("call %s crashed", call_id, extra={"call": call_id})
            end = Failure("violation", CRASHED)
        if isinstance(end, Failure):
            problem = problem_of_failure(end, call_id)
            return _problem(problem.status, problem.body, {**headers, **problem.headers})
        return _json(end, operation, headers)

    return answer


async def _params(request: Request, operation: Operation) -> Mapping[str, Raw]:
    params = {name: raw(value) for name, value in request.path_params.items()}
    for name in request.query_params:
        if name not in operation.query:
            raise Refusal("invalid", f"Unknown query parameter '{name}'.")
        params[name] = raw(request.query_params[name])
    if operation.body is None:
        return params
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refusal("invalid", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        body.decode()
        params["body"] = msgspec.json.decode(body or b"{}", type=Raw)
    except UNREADABLE as error:
        raise Refusal("invalid", f"The body is not JSON: {error}") from error
    return params


def _json(end: Result, operation: Operation, headers: Mapping[str, str]) -> Response:
    if operation.status == 204:
        return Response(status_code=204, headers=dict(headers))
    return Response(
        bytes(end.body),
        status_code=operation.status,
        headers=dict(headers),
        media_type="application/json",
    )


def _problem(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(
        body, status_code=status, headers=dict(headers), media_type="application/problem+json"
    )
