"""A small HTTP service with an OpenAPI description, which it serves at ``/openapi.json``.

It has what :class:`tests.contracts.connector_suite.ConnectorSuite` calls, a pet store, and a mirror
that answers with the request as it came.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.peers.serving import Peer, serving

TEXT: Final = {"200": {"description": "ok", "content": {"text/plain": {}}}}
PICTURE: Final = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256))
METHODS: Final = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]


def query(name: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    """A query parameter."""
    return {"name": name, "in": "query", "schema": {"type": kind}, **more}


def path(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def json_body(schema: Any, *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def operation(name: str, *parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"operationId": name, "parameters": list(parameters), "responses": TEXT, **more}


def described(server: str = "/") -> dict[str, Any]:
    """The OpenAPI document."""
    pet = {"$ref": "#/components/schemas/Pet"}
    pet_answer = {"200": {"description": "ok", "content": {"application/json": {"schema": pet}}}}
    sum_body = {
        "type": "object",
        "required": ["a", "b"],
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    }
    paths = {
        "/echo": {"get": operation("echo", query("text", required=True))},
        "/add": {"post": operation("add", requestBody=json_body(sum_body))},
        "/fail": {"post": operation("fail", query("reason"))},
        "/big": {"get": operation("big", query("size_bytes", "integer"))},
        "/hang/{name}": {"get": operation("hang", path("name"))},
        "/await_started/{name}": {"get": operation("await_started", path("name"))},
        "/await_cancelled/{name}": {"get": operation("await_cancelled", path("name"))},
        "/pets/{petId}": {
            "parameters": [path("petId", "integer")],
            "get": {
                "operationId": "getPet",
                "summary": "Find a pet",
                "responses": pet_answer,
                "security": [{"key": []}],
            },
            "delete": {"operationId": "deletePet", "responses": {"204": {"description": "gone"}}},
            "head": {"operationId": "hasPet", "responses": {"200": {"description": "yes"}}},
            "put": {
                "operationId": "replacePet",
                "requestBody": json_body(pet),
                "responses": pet_answer,
            },
        },
        "/picture": {"get": operation("picture")},
        "/archive": {"get": operation("archive")},
        "/moved": {"get": operation("moved")},
    }
    schemas = {
        "Pet": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "id": {"type": "integer", "readOnly": True},
                "name": {"type": "string"},
                "mother": {"$ref": "#/components/schemas/Pet"},
                "secret": {"type": "string", "writeOnly": True},
            },
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Petstore", "version": "1.2.3", "description": "Pets, and a mirror."},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "api_key"}},
        },
    }


class Waiting:
    """Requests that hang, and those that wait for them."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], anyio.Event] = {}

    def event(self, what: str, name: str) -> anyio.Event:
        return self._events.setdefault((what, name), anyio.Event())


async def echo(request: Request) -> Response:
    return PlainTextResponse(request.query_params["text"])


async def add(request: Request) -> Response:
    body = await request.json()
    return PlainTextResponse(str(body["a"] + body["b"]))


async def fail(request: Request) -> Response:
    return JSONResponse({"problem": request.query_params.get("reason")}, status_code=409)


async def big(request: Request) -> Response:
    return PlainTextResponse("x" * int(request.query_params["size_bytes"]))


async def pet(request: Request) -> Response:
    if request.method == "DELETE":
        return Response(status_code=204)
    if request.method == "PUT":
        return JSONResponse(await request.json())
    if request.path_params["petId"] == "404":
        return JSONResponse({"error": "no such pet"}, status_code=404)
    key = request.query_params.get("api_key")
    body = '{"name":"Rex","id":%s,"big":12345678901234567890,"key":%s}'
    return Response(
        body % (request.path_params["petId"], json.dumps(key)), media_type="application/json"
    )


async def picture(request: Request) -> Response:
    return Response(PICTURE, media_type="image/png")


async def archive(request: Request) -> Response:
    return Response(PICTURE, media_type="application/zip")


async def moved(request: Request) -> Response:
    return RedirectResponse("/echo?text=here")


async def mirror(request: Request) -> Response:
    """The request as it came."""
    return JSONResponse({
        "method": request.method,
        "path": request.scope["raw_path"].decode(),
        "query": request.scope["query_string"].decode(),
        "headers": dict(request.headers),
        "body": base64.b64encode(await request.body()).decode(),
    })


def application(description: Callable[[], Any] | None = None) -> Starlette:
    """The service; ``description`` answers for its document."""
    waiting = Waiting()

    async def describe(request: Request) -> Response:
        return JSONResponse(description() if description is not None else described())

    async def hang(request: Request) -> Response:
        name = request.path_params["name"]
        waiting.event("started", name).set()
        try:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        except ClientDisconnect:
            pass
        waiting.event("cancelled", name).set()
        return Response()

    def awaiting(what: str) -> Callable[[Request], Awaitable[Response]]:
        async def wait(request: Request) -> Response:
            await waiting.event(what, request.path_params["name"]).wait()
            return PlainTextResponse(what)

        return wait

    return Starlette(
        routes=[
            Route("/openapi.json", describe),
            Route("/echo", echo),
            Route("/add", add, methods=["POST"]),
            Route("/fail", fail, methods=["POST"]),
            Route("/big", big),
            Route("/hang/{name}", hang),
            Route("/await_started/{name}", awaiting("started")),
            Route("/await_cancelled/{name}", awaiting("cancelled")),
            Route("/pets/{petId}", pet, methods=["GET", "DELETE", "PUT", "HEAD"]),
            Route("/picture", picture),
            Route("/archive", archive),
            Route("/moved", moved),
            Route("/mirror{rest:path}", mirror, methods=METHODS),
        ]
    )


@contextmanager
def petstore(description: Callable[[], Any] | None = None) -> Iterator[Peer]:
    """The service on a free port; the peer's address is that of its document."""
    with serving(application(description), path="/openapi.json") as peer:
        yield peer
