"""The MCP surface as an ASGI application: from a request to the era and transport that answer it."""

from typing import Final

from msgspec import Raw

from hub.surfaces.asgi import (
    MAX_BODY_BYTES,
    BodyTooLarge,
    ClientGone,
    Fields,
    Headers,
    Receive,
    Scope,
    Send,
    read_body,
    respond,
)
from hub.surfaces.credentials import evidence_of
from hub.surfaces.mcp.arrival import Arrival, Endpoint, Turned, endpoint_of
from hub.surfaces.mcp.calls import Caller
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.fast_lane.lane import FastLane
from hub.surfaces.mcp.inbound import Inbound, Malformed, era_over_http, id_of, is_batch, parse
from hub.surfaces.mcp.legacy import LegacyHttp
from hub.surfaces.mcp.machinery import identified, machinery_of, malformed
from hub.surfaces.mcp.modern import ModernHttp
from hub.surfaces.mcp.session_ids import SessionIds
from hub.surfaces.mcp.sse import LegacySse
from hub.wire_errors import Words
from mcp_wire import codes
from mcp_wire.revisions import MODERN_REVISIONS, Era

_ALLOWED: Final[Headers] = ((b"allow", b"GET, POST, DELETE, OPTIONS"),)
_CLOSE: Final[Headers] = ((b"connection", b"close"),)
_TURNED: Final = {403: "virtual server", 406: "accept"}
"""What requests are turned for, by status; sessions else. Whoever has to authenticate was counted."""


class McpSurface:
    """Serves every path that :func:`hub.surfaces.mcp.arrival.endpoint_of` knows, and 404 else."""

    def __init__(self, given: Collaborators) -> None:
        self._given = given
        self._machinery = machinery_of(given)
        ids = SessionIds(given.seal)
        self._modern = ModernHttp(self._machinery)
        self._legacy = LegacyHttp(self._machinery, ids)
        self._sse = LegacySse(self._machinery, ids)

    def fast_lane(self) -> FastLane:
        """A shorter way for the requests that can take it."""
        return FastLane(self._machinery, self._modern, self._legacy)

    @property
    def open_streams(self) -> int:
        """How many streams are open that no call keeps open."""
        return self._modern.open_streams + self._legacy.open_streams + self._sse.open_streams

    def end_streams(self) -> None:
        """End all streams that would never end by themselves, each the way its era ends one."""
        self._modern.end_streams()
        self._legacy.end_streams()
        self._sse.end_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        fields = Fields(scope["headers"])
        endpoint = endpoint_of(scope["path"])
        turned = self._given.front_door.turned_away(fields)
        if turned is not None:
            self._refused(scope, turned.reason)
            await respond(send, turned.status, turned.message.encode(), _CLOSE)
        elif endpoint is None:
            self._refused(scope, "path")
            await respond(send, 404)
        elif scope["method"] == "OPTIONS":
            await respond(send, 204, headers=self._given.front_door.preflight(fields))
        elif endpoint.contradicts(fields):
            self._refused(scope, "tenant")
            await respond(send, 400, b"The path and X-Tenant-ID name different tenants.")
        else:
            arrival = self._arrival(scope, fields, endpoint, receive, send)
            await self._serve(scope["method"], endpoint, arrival)

    def _arrival(
        self, scope: Scope, fields: Fields, endpoint: Endpoint, receive: Receive, send: Send
    ) -> Arrival:
        return Arrival(
            path=scope["path"],
            query=scope.get("query_string", b""),
            headers=scope["headers"],
            fields=fields,
            caller=Caller(
                evidence_of(scope, fields, self._given.proxies, endpoint.tenant),
                endpoint.virtual_server,
                fields.get(b"traceparent"),
            ),
            cors=self._given.front_door.cors(fields),
            receive=receive,
            send=send,
        )

    async def _serve(self, method: str, endpoint: Endpoint, arrival: Arrival) -> None:
        """Send a request where it belongs; what is wrong with all of them is answered here."""
        try:
            if method == "POST":
                await self._post(endpoint, arrival)
            elif endpoint.kind == "sse" and method == "GET":
                await self._sse.stream(arrival)
            elif endpoint.kind == "mcp" and method == "GET":
                await self._legacy.stream(arrival)
            elif endpoint.kind == "mcp" and method == "DELETE":
                await self._legacy.delete(arrival)
            else:
                self._refused_as(arrival, "method")
                await arrival.respond(405, headers=_ALLOWED)
        except ClientGone:
            return
        except BodyTooLarge:
            words = Words(code=codes.INVALID_REQUEST, message=f"More than {MAX_BODY_BYTES} bytes.")
            self._refused_as(arrival, "body too large")
            await arrival.refuse(413, words, headers=_CLOSE)
        except Malformed as error:
            await self._malformed(error, "modern", arrival)
        except Turned as turned:
            await self._turned(turned, None, arrival)

    async def _post(self, endpoint: Endpoint, arrival: Arrival) -> None:
        body = await read_body(arrival.receive, arrival.fields)
        if not _is_json(arrival.fields.get_bytes(b"content-type")):
            self._refused_as(arrival, "content type")
            words = Words(code=codes.INVALID_REQUEST, message="Send 'application/json'.")
            await arrival.refuse(415, words, id_of(body))
            return
        if endpoint.kind == "messages":
            await self._sse.post(body, arrival)
        elif endpoint.kind == "mcp" and is_batch(body):
            await self._batch(body, arrival)
        elif endpoint.kind == "mcp":
            await self._one(parse(body), arrival)
        else:
            await arrival.respond(405, headers=((b"allow", b"GET"),))

    async def _batch(self, body: bytes, arrival: Arrival) -> None:
        if arrival.fields.get(b"mcp-protocol-version") in MODERN_REVISIONS:
            raise Malformed(codes.INVALID_REQUEST, "The body must be one JSON-RPC message.")
        await self._legacy.post_batch(body, arrival)

    async def _one(self, message: Inbound, arrival: Arrival) -> None:
        era = era_over_http(message, arrival.fields.get(b"mcp-protocol-version"))
        if message.is_request and not arrival.accepts_json():
            words = Words(code=codes.INVALID_REQUEST, message="Accept must allow JSON.")
            self._refused_as(arrival, "accept")
            await arrival.refuse(406, words, message.id)
            return
        try:
            if era == "modern":
                await self._modern.post(message, arrival)
            else:
                await self._legacy.post(message, arrival)
        except Turned as turned:
            await self._turned(turned, message.id, arrival)
        except Malformed as error:
            await self._malformed(error, era, arrival)

    async def _malformed(self, error: Malformed, era: Era, arrival: Arrival) -> None:
        """Say what is wrong with a message, to those who may know."""
        challenge = self._challenge(arrival)
        if challenge is not None:
            await arrival.refuse(challenge.status, challenge.words, error.request_id)
            return
        await arrival.answer(malformed(self._machinery, error, era, arrival.caller))

    async def _turned(self, turned: Turned, request_id: Raw | None, arrival: Arrival) -> None:
        """The same for what is wrong with a request."""
        if turned.status != 401:
            turned = self._challenge(arrival) or turned
        if turned.status != 401:
            self._refused_as(arrival, _TURNED.get(turned.status, "session"))
        await arrival.refuse(turned.status, turned.words, request_id)

    def _challenge(self, arrival: Arrival) -> Turned | None:
        """How a caller must authenticate before anything else is said; None for known callers."""
        try:
            identified(self._machinery, arrival.caller)
        except Turned as challenge:
            return challenge
        return None

    def _refused_as(self, arrival: Arrival, reason: str) -> None:
        self._given.refused_before_identify(arrival.caller.evidence.peer, reason)

    def _refused(self, scope: Scope, reason: str) -> None:
        client = scope.get("client")
        self._given.refused_before_identify(client[0] if client else "", reason)


def _is_json(content_type: bytes | None) -> bool:
    if content_type == b"application/json":
        return True
    kind = (content_type or b"").partition(b";")[0].strip()
    return kind.lower() == b"application/json"
