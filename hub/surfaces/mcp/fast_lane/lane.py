"""The fast lane: calls that end at once with a plain result, without ASGI and without a task.

It is a shorter way through the same stages: what it does not answer it leaves to the plain lane, or
hands over in the middle, and both give the same bytes and the same record. Nothing else depends on
this module: without it every request takes the plain lane (docs/decisions/0009).
"""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Raw, Struct

from hub.surfaces.asgi import Fields
from hub.surfaces.connection import Client, Connection, Head
from hub.surfaces.credentials import evidence_of
from hub.surfaces.mcp.arrival import MAX_PATH, Endpoint, accepted, endpoint_of, prefers_stream
from hub.surfaces.mcp.asked import SILENT
from hub.surfaces.mcp.bridge import RETRY_PARAMS
from hub.surfaces.mcp.calls import Caller
from hub.surfaces.mcp.fast_lane.call import FastCall, Ways
from hub.surfaces.mcp.inbound import Inbound, Malformed, parse
from hub.surfaces.mcp.legacy import LegacyHttp
from hub.surfaces.mcp.machinery import Machinery
from hub.surfaces.mcp.modern import ModernHttp
from mcp_wire import codes
from mcp_wire.headers import NAME_PARAMS
from mcp_wire.jsonrpc import EMPTY_OBJECT, raw
from mcp_wire.revisions import LATEST_MODERN, LEGACY_REVISIONS

MAX_TARGETS: Final = 1024
"""Request targets whose endpoint is remembered, and names as they stand in header fields."""
_MAX_NAME: Final = 1024
"""Longer names take the plain lane: what strangers send is not remembered at any length."""

_OWN_FIELDS: Final = frozenset((
    b"content-length",
    b"mcp-method",
    b"mcp-name",
    b"traceparent",
    b"tracestate",
    b"baggage",
))
"""Header fields that differ from request to request; all others are a connection's habit."""

_METHODS: Final[Mapping[str, bytes]] = {
    method: method.encode()
    for method in (
        "tools/call",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
    )
}
_PLAIN: Final = re.compile(rb"[ !#-\[\]-~]+")
"""Printable ASCII that JSON strings hold as it is: no quote, no backslash."""
_REVISION: Final = raw(LATEST_MODERN)
_REVISION_FIELD: Final = LATEST_MODERN.encode()
_LEGACY_FIELDS: Final = frozenset((None, *(revision.encode() for revision in LEGACY_REVISIONS)))


class Habit(Struct, frozen=True, gc=False, kw_only=True):
    """What the header fields say that a connection's requests have in common."""

    url: bytes
    pattern: list[tuple[bytes, bytes] | None]
    """Its header fields; None in the places of those that differ."""
    places: tuple[tuple[int, bytes], ...]
    """Where which field differs."""
    caller: Caller | None
    """None: its requests are none for the fast lane."""
    revision: bytes | None
    session_id: str | None

    def own_of(self, head: Head) -> dict[bytes, bytes] | None:
        """The fields that are a request's own; None for a request of another habit."""
        headers: list[tuple[bytes, bytes] | None] = [*head.headers]
        if len(headers) != len(self.pattern) or head.url != self.url:
            return None
        own: dict[bytes, bytes] = {}
        for place, name in self.places:
            field = headers[place]
            if field is None or field[0] != name:
                return None
            own[name] = field[1]
            headers[place] = None
        return own if headers == self.pattern else None


class Reading(Struct, frozen=True, gc=False):
    """What one head says."""

    habit: Habit
    caller: Caller | None
    """None: its request is none for the fast lane."""
    method: bytes | None
    name: Raw | None
    """The JSON string that ``Mcp-Name`` stands for, where neither is encoded."""


class FastLane:
    """See :class:`hub.front.door.Lane`."""

    def __init__(self, machinery: Machinery, modern: ModernHttp, legacy: LegacyHttp) -> None:
        self._ways = Ways(machinery, modern, legacy)
        self._sessions = legacy
        self._given = machinery.given
        self._modern_requests = machinery.modern
        self._legacy_requests = machinery.legacy
        self._endpoints: dict[bytes, Endpoint | None] = {}
        self._names: dict[bytes, Raw | None] = {}

    @property
    def answered_count(self) -> int:
        """How many calls were answered without leaving the fast lane."""
        return self._ways.answered_count

    def admits(self, target: bytes) -> bool:
        """Whether POSTs to this request target can be taken at all."""
        try:
            return self._endpoints[target] is not None
        except KeyError:
            pass
        if len(target) > MAX_PATH:
            return False
        endpoint = None
        if target.isascii() and b"%" not in target and b"?" not in target:
            endpoint = endpoint_of(target.decode())
            if endpoint is not None and endpoint.kind != "mcp":
                endpoint = None
        if len(self._endpoints) >= MAX_TARGETS:
            self._endpoints.clear()
        self._endpoints[target] = endpoint
        return endpoint is not None

    def read(self, head: Head, client: Client, before: object) -> Reading:
        """What a head says; ``before``: what the one before it on its connection said."""
        habit = before.habit if isinstance(before, Reading) else None
        own = habit.own_of(head) if habit is not None else None
        if habit is None or own is None:
            habit = self._habit(head, client)
            own = habit.own_of(head)
        if own is None:
            return Reading(habit, None, None, None)
        name = self._quoted(own.get(b"mcp-name", b""))
        return Reading(habit, _traced(habit.caller, own), own.get(b"mcp-method"), name)

    def take(self, connection: Connection, reading: object, body: bytes) -> FastCall | None:
        """Take a whole POST; None leaves it to the plain lane."""
        if not isinstance(reading, Reading) or reading.caller is None:
            return None
        try:
            message = parse(body)
            if message.is_modern:
                call = self._modern(connection, message, reading, reading.caller)
            else:
                call = self._legacy(connection, message, reading.habit, reading.caller)
        except Malformed:
            return None
        if call is not None:
            call.begin()
        return call

    def _habit(self, head: Head, client: Client) -> Habit:
        headers = head.headers
        places = tuple((i, name) for i, (name, _) in enumerate(headers) if name in _OWN_FIELDS)
        habitual = [field for field in headers if field[0] not in _OWN_FIELDS]
        fields = Fields(habitual)
        endpoint = self._endpoints.get(head.url)
        caller = None
        if (
            endpoint is not None
            and not fields.repeated
            and len({name for _, name in places}) == len(places)
            and b"origin" not in fields
            and b"expect" not in fields
            and fields.get_bytes(b"content-type") == b"application/json"
            and accepted(fields.get_bytes(b"accept")) == (True, True)
            and not prefers_stream(fields.get_bytes(b"accept"))
            and self._given.front_door.turned_away(fields) is None
            and not endpoint.contradicts(fields)
        ):
            scope = {"client": client}
            evidence = evidence_of(scope, fields, self._given.proxies, endpoint.tenant)
            caller = Caller(evidence, endpoint.virtual_server)
        pattern: list[tuple[bytes, bytes] | None] = list(headers)
        for place, _ in places:
            pattern[place] = None
        return Habit(
            url=head.url,
            pattern=pattern,
            places=places,
            caller=caller,
            revision=fields.get_bytes(b"mcp-protocol-version"),
            session_id=fields.get(b"mcp-session-id"),
        )

    def _modern(
        self,
        connection: Connection,
        message: Inbound,
        reading: Reading,
        caller: Caller,
    ) -> FastCall | None:
        """The call of a request whose envelope and headers agree beyond doubt; None for others.

        A subset of what ``hub.surfaces.mcp.inbound`` lets pass (mcp.md S2, S3). Raises Malformed.
        """
        method, meta, params = message.method, message.meta, message.params
        declared = meta.get(codes.META_CLIENT_CAPABILITIES)
        if (
            message.id is None
            or reading.habit.revision != _REVISION_FIELD
            or meta[codes.META_REVISION] != _REVISION
            or declared is None
            or (declared != EMPTY_OBJECT and bytes(declared)[:1] != b"{")
            or reading.method != _METHODS.get(method, b"")
            or not params.keys().isdisjoint(RETRY_PARAMS)
        ):
            return None
        param = NAME_PARAMS.get(method)
        if param is not None and params.get(param) != reading.name:
            return None
        asked = self._modern_requests.asked(message, LATEST_MODERN, caller, SILENT)
        return FastCall(self._ways, connection, asked, message)

    def _legacy(
        self,
        connection: Connection,
        message: Inbound,
        habit: Habit,
        caller: Caller,
    ) -> FastCall | None:
        """The call of a request inside a session; None for everything else. Raises Malformed."""
        if (
            message.id is None
            or habit.session_id is None
            or message.method not in _METHODS
            or habit.revision not in _LEGACY_FIELDS
            or not message.params.keys().isdisjoint(RETRY_PARAMS)
        ):
            return None
        found = self._sessions.session_of(habit.session_id, caller.virtual_server)
        if found is None:
            return None
        session, live = found
        asked = self._legacy_requests.asked(message, caller, session, live, SILENT)
        return FastCall(self._ways, connection, asked, message, session)

    def _quoted(self, field: bytes) -> Raw | None:
        """The JSON string that a name in a header field stands for, where neither is encoded."""
        try:
            return self._names[field]
        except KeyError:
            pass
        if len(field) > _MAX_NAME:
            return None
        is_plain = _PLAIN.fullmatch(field) is not None and not field.startswith(b"=?")
        quoted = Raw(b'"%b"' % field) if is_plain else None
        if len(self._names) >= MAX_TARGETS:
            self._names.clear()
        self._names[field] = quoted
        return quoted


def _traced(caller: Caller | None, own: Mapping[bytes, bytes]) -> Caller | None:
    """The caller of a request that names the span it belongs to."""
    traceparent = own.get(b"traceparent")
    if caller is None or traceparent is None:
        return caller
    return Caller(caller.evidence, caller.virtual_server, traceparent.decode("latin-1"))
