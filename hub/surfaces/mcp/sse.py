"""HTTP+SSE (2024-11-05): one stream for everything the server says, one URL for what the client does.

Source: 2024-11-05 transports, HTTP with SSE. The URL's token is a sealed session id.
"""

from typing import Final
from urllib.parse import parse_qs, quote

from hub.domain.outcome import Refusal
from hub.surfaces.mcp.arrival import (
    MESSAGES_SUFFIX,
    SSE_SUFFIX,
    Arrival,
    Turned,
    check_room,
    unknown_session,
)
from hub.surfaces.mcp.channel import Channel, new_nonce
from hub.surfaces.mcp.event_stream import EventStream
from hub.surfaces.mcp.machinery import Machinery, identified
from hub.surfaces.mcp.session_ids import Session, SessionIds
from hub.wire_errors import Words, refused
from mcp_wire import codes
from mcp_wire.jsonrpc import EMPTY_OBJECT
from mcp_wire.revisions import LEGACY_REVISIONS
from mcp_wire.sse import encode_frame

_TOKEN: Final = "session_id"  # noqa: S105 -- a parameter's name


class LegacySse:
    """Serves streams, and the messages that belong to them."""

    def __init__(self, machinery: Machinery, ids: SessionIds) -> None:
        self._machinery = machinery
        self._given = machinery.given
        self._ids = ids
        self._channels: dict[str, tuple[Channel, EventStream]] = {}

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._channels)

    def end_streams(self) -> None:
        """End every open stream."""
        for _, stream in list(self._channels.values()):
            stream.end()

    async def stream(self, arrival: Arrival) -> None:
        """Open a stream: its first event names the URL for messages."""
        if not arrival.accepts_stream():
            raise Turned(406, Words(code=codes.INVALID_REQUEST, message="Accept event streams."))
        session = self._session_for(arrival)
        stream = EventStream(arrival, self._given.tasks, self._given.heartbeat_s)
        channel = Channel(self._machinery, arrival.caller, stream, self._given.tasks, session.nonce)
        base = arrival.path.removesuffix("/").removesuffix(SSE_SUFFIX)
        url = f"{quote(base + MESSAGES_SUFFIX)}?{_TOKEN}={self._ids.seal(session)}"
        stream.offer_chunk(encode_frame(url.encode(), event="endpoint"))
        self._channels[session.nonce] = (channel, stream)
        channel.stand(identified(self._machinery, arrival.caller))
        try:
            await stream.serve((), channel.check)
        finally:
            del self._channels[session.nonce]
            channel.close()

    async def post(self, body: bytes, arrival: Arrival) -> None:
        """Take one message; what it leads to comes on the stream."""
        token = parse_qs(arrival.query.decode("latin-1")).get(_TOKEN, [""])[0]
        session = self._ids.unseal(token)
        found = self._channels.get(session.nonce) if session is not None else None
        if session is None or found is None:
            raise unknown_session()
        if not session.belongs_to(identified(self._machinery, arrival.caller)):
            raise unknown_session()
        found[0].receive(body)
        await arrival.respond(202)

    def _session_for(self, arrival: Arrival) -> Session:
        """A session of whoever opens the stream. Raises Turned for callers that may not."""
        call = self._machinery.calls.standing(arrival.caller, "GET")
        principal = identified(self._machinery, arrival.caller)
        if not self._given.views.admits(call):
            words = refused(Refusal("virtual_server"), "GET", "legacy")
            raise Turned(words.status, words)
        check_room(self._given.streams, principal, call)
        return Session(
            revision=LEGACY_REVISIONS[0],
            client_capabilities=EMPTY_OBJECT,
            principal=principal.name,
            tenant=principal.tenant,
            virtual_server=arrival.caller.virtual_server,
            nonce=new_nonce(),
        )
