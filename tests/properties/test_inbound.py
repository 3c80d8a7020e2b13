"""No input makes the MCP surface fall over: parsing gives a message or says why not, never a 500."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.surfaces.asgi import Fields
from hub.surfaces.call_ids import CallIds
from hub.surfaces.mcp.inbound import (
    Inbound,
    Malformed,
    check_envelope,
    check_headers,
    check_revision,
    era_over_http,
    log_level_of,
    parse,
    parse_batch,
)
from hub.surfaces.mcp.listen import wanted_by
from hub.surfaces.mcp.surface import McpSurface
from mcp_wire.headers import NAME_PARAMS, encode_header_value
from tests.peers.tiny_hub import collaborating

REVISION = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"

METHODS = (
    "initialize", "ping", "tools/list", "tools/call", "resources/read", "resources/list",
    "resources/templates/list", "resources/subscribe", "resources/unsubscribe", "prompts/get",
    "prompts/list", "completion/complete", "logging/setLevel", "server/discover",
    "subscriptions/listen", "notifications/cancelled", "notifications/initialized", "tasks/get",
)  # fmt: skip
KEYS = (
    "name", "uri", "arguments", "cursor", "ref", "level", "notifications", "requestId", "_meta",
    "protocolVersion", "capabilities", "clientInfo", "type", "resourceSubscriptions",
    "toolsListChanged", "progressToken", "traceparent", VERSION_KEY, CAPABILITIES_KEY,
    "io.modelcontextprotocol/logLevel", "taskId", "region", "extensions",
)  # fmt: skip
WORDS = (REVISION, "2025-11-25", "echo", "route", "greet", "memo://static", "ref/prompt", "info")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        VERSION_KEY: st.just(REVISION) | scalars,
        CAPABILITIES_KEY: st.just({}) | values,
        "progressToken": scalars,
        "io.modelcontextprotocol/logLevel": st.just("info") | scalars,
        "traceparent": scalars,
    },
)
params = st.fixed_dictionaries(
    {},
    optional={key: (envelopes | values if key == "_meta" else values) for key in KEYS},
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | scalars,
        "id": st.integers() | st.text(max_size=4) | values,
        "method": st.sampled_from(METHODS) | scalars,
        "params": params | values,
        "result": values,
        "error": values,
    },
)


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A message with a piece cut out, doubled or overwritten: nearly JSON."""
    text = text_of(draw(messages))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    return text[:start] + draw(st.binary(max_size=6)) + text[end:] + draw(st.binary(max_size=2))


bodies = (
    messages.map(text_of)
    | values.map(text_of)
    | st.lists(messages, max_size=4).map(text_of)
    | broken()
    | st.binary(max_size=64)
)


def is_id(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


T = TypeVar("T")


def tried(read: Callable[[], T]) -> T | Malformed:
    """What reading gives, or why it does not."""
    try:
        return read()
    except Malformed as error:
        return error


def examined(message: Inbound, fields: Fields) -> Iterable[Malformed]:
    """What is wrong with a message, of everything that is read before it becomes a call."""
    era_over_http(message, fields.get(b"mcp-protocol-version"))
    looks = (
        lambda: log_level_of(message),
        lambda: wanted_by(message),
        lambda: check_headers(message, REVISION, fields),
        lambda: check_revision(message, check_envelope(message)),
    )
    return [found for look in looks if isinstance(found := tried(look), Malformed)]


@given(bodies, st.dictionaries(st.sampled_from(("mcp-method", "mcp-name")), st.text(max_size=6)))
def test_a_body_is_a_message_or_malformed(body: bytes, headers: Mapping[str, str]) -> None:
    fields = Fields([(key.encode(), value.encode()) for key, value in headers.items()])
    message = tried(lambda: parse(body))
    if isinstance(message, Malformed):
        assert message.code in {-32700, -32600, -32602}
        return
    assert message.method == json.loads(body).get("method", "")
    assert message.id is None or is_id(json.loads(bytes(message.id)))
    for problem in examined(message, fields):
        assert problem.code in {-32602, -32020, -32022}
        assert problem.request_id is message.id


@given(bodies)
def test_a_batch_is_its_items_or_malformed(body: bytes) -> None:
    items = tried(lambda: parse_batch(body))
    if isinstance(items, Malformed):
        assert items.code == -32700
        return
    for item in items:
        found = tried(partial(parse, item))
        assert isinstance(found, Inbound) or found.code in {-32700, -32600, -32602}


@given(messages)
def test_what_nobody_looks_into_is_kept_as_it_came(value: dict[str, Any]) -> None:
    message = tried(lambda: parse(text_of(value)))
    if isinstance(message, Malformed) or message.answer is not None:
        return
    if isinstance(value.get("params"), dict):
        expected = {key: kept for key, kept in value["params"].items() if key != "_meta"}
        assert json.loads(msgspec.json.encode(message.params)) == expected


@given(
    st.lists(st.integers(min_value=1_577_836_800_000_000_000, max_value=4_102_444_800_000_000_000))
)
def test_call_ids_are_unique_and_in_order_even_when_the_clock_goes_back(times: list[int]) -> None:
    clock = iter(times)
    new_id = CallIds(lambda: next(clock))
    made = [new_id() for _ in times]
    assert made == sorted(set(made))
    assert all(uuid.UUID(one).version == 7 for one in made)


headers = st.fixed_dictionaries(
    {"content-type": st.just("application/json")},
    optional={
        "mcp-protocol-version": st.sampled_from((REVISION, "2025-11-25", "x")),
        "mcp-method": st.sampled_from(METHODS),
        "mcp-name": st.sampled_from(WORDS) | st.text(max_size=4),
        "mcp-param-region": st.text(max_size=4),
        "mcp-session-id": st.text(max_size=8),
        "accept": st.sampled_from(("application/json", "text/event-stream", "*/*", "")),
        "last-event-id": st.text(max_size=3),
        "traceparent": st.text(max_size=4),
        "x-tenant-id": st.sampled_from(("default", "other")),
    },
)


@st.composite
def proper(draw: st.DrawFn) -> tuple[bytes, Mapping[str, str]]:
    """A request whose outside is right in one era, whatever is inside."""
    method = draw(st.sampled_from(METHODS))
    inside = draw(params)
    body = {"jsonrpc": "2.0", "id": draw(st.integers()), "method": method, "params": inside}
    own = {"content-type": "application/json"}
    if draw(st.booleans()):
        inside["_meta"] = draw(envelopes) | {VERSION_KEY: REVISION, CAPABILITIES_KEY: {}}
        own |= {"mcp-protocol-version": REVISION, "mcp-method": method}
        named = inside.get(NAME_PARAMS.get(method, ""))
        if isinstance(named, str):
            own["mcp-name"] = encode_header_value(named)
    else:
        own["mcp-session-id"] = "own"
    return text_of(body), own


requests = st.lists(proper() | st.tuples(bodies, headers), min_size=1, max_size=30)


class Exchange:
    """One request to the surface as a server would hand it over; its client hangs up afterwards."""

    def __init__(self, body: bytes, headers: Mapping[str, str], session: str) -> None:
        self._events = [{"type": "http.request", "body": body}]
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.answer = b""
        own = {"host": "localhost", **headers}
        if own.get("mcp-session-id") == "own":
            own["mcp-session-id"] = session
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "query_string": b"",
            "client": ("127.0.0.1", 1),
            "headers": [(key.encode(), value.encode()) for key, value in own.items()],
        }

    async def receive(self) -> Any:
        return self._events.pop() if self._events else {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        self.status = event.get("status", self.status)
        self.headers |= dict(event.get("headers", ()))
        self.answer += event.get("body", b"")


async def answered(data: Path, sent: Iterable[tuple[bytes, Mapping[str, str]]]) -> None:
    async with collaborating(data, anonymous=True) as (given_, _, _):
        surface = McpSurface(given_)
        begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize"}
        shake = Exchange(
            text_of({**begin, "params": {"protocolVersion": "2025-03-26"}}),
            {"content-type": "application/json"},
            "",
        )
        await surface(shake.scope, shake.receive, shake.send)
        session = shake.headers[b"mcp-session-id"].decode()
        for body, head in sent:
            exchange = Exchange(body, head, session)
            with anyio.fail_after(5):
                await surface(exchange.scope, exchange.receive, exchange.send)
            assert 200 <= exchange.status < 500, (body, head)
            assert b"Portico failed" not in exchange.answer, (body, head)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inbound")


@settings(max_examples=40)
@given(sent=requests)
def test_no_request_makes_the_surface_fail(
    data: Path, sent: list[tuple[bytes, Mapping[str, str]]]
) -> None:
    anyio.run(answered, data, sent)
