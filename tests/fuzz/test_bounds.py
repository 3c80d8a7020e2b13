"""Inputs that are made to cost much cost no more than others of their size."""

import json
import tracemalloc
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest

from connectors.errors import Misconfigured
from connectors.openapi_compile import MAX_DEFINITION_BYTES, compile_document
from connectors.openapi_document import MAX_KEY, read_document
from connectors.openapi_inputs import MAX_PARAMETERS
from connectors.openapi_operation import Described
from hub.administration.client_files import parse_foreign
from hub.config.loading import load
from hub.errors import ConfigurationError
from hub.surfaces.mcp.arrival import accepted, endpoint_of
from mcp_wire.sse import SseDecoder

BOUND_S = 10.0
"""What each of these takes is below a second here; before it was bounded, minutes to hours."""
MANY = 1500


def unknown_names() -> None:
    known = "".join(f"  principal{number}: {{}}\n" for number in range(MANY))
    members = ", ".join(f"principel{number}" for number in range(MANY))
    loaded = load(f"version: 1\nprincipals:\n{known}groups: {{g: {{members: [{members}]}}}}\n")
    assert "did you mean 'principal" in loaded.problems[0].message


def unmatched_overrides() -> None:
    tools = ", ".join(f"'t{number}*'" for number in range(MANY))
    overrides = ", ".join(f"x{number}: {{}}" for number in range(MANY))
    include = f"{{upstream: a, tools: [{tools}], override: {{{overrides}}}}}"
    text = f"version: 1\nupstreams: {{a: {{url: 'http://h'}}}}\nvirtual_servers: {{v: {{include: [{include}]}}}}"
    assert load(text).file is not None


def unread(text: str) -> Callable[[], None]:
    def read() -> None:
        with pytest.raises(ConfigurationError):
            parse_foreign(text)

    return read


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(unknown_names, id="unknown names among as many known ones"),
        pytest.param(unmatched_overrides, id="overrides and patterns"),
        pytest.param(unread("{" + "/*" * 500_000), id="comments that are opened and not closed"),
        pytest.param(unread('{"' + '\\"' * 500_000), id="quotes in a text that is not closed"),
        pytest.param(unread("[" + "\n" * 500_000 + "]]"), id="empty lines"),
    ],
)
def test_reading_takes_time_in_proportion(work: Callable[[], None]) -> None:
    began = perf_counter()
    work()
    assert perf_counter() - began < BOUND_S


def described(paths: dict[str, Any], **more: Any) -> Described:
    document = {"openapi": "3.1.0", "paths": paths, **more}
    began = perf_counter()
    service = compile_document(read_document(json.dumps(document).encode()))
    assert perf_counter() - began < BOUND_S
    return service


def body(schema: Any) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def test_a_value_that_is_referred_to_is_not_written_out_without_end() -> None:
    large = {"enum": ["x" * MAX_DEFINITION_BYTES]}
    operation = body({"$ref": "#/components/schemas/Large"})
    paths = {f"/{number}": {"post": operation, "get": {}} for number in range(MANY)}
    service = described(paths, components={"schemas": {"Large": large}})
    assert len(service.operations) == MANY
    assert "its definition is too large" in service.problems[0]


def test_what_is_said_for_many_operations_is_looked_at_once_or_refused() -> None:
    parameters = [{"name": f"p{number}", "in": "query"} for number in range(MAX_PARAMETERS + 1)]
    shared = {"parameters": parameters, "get": {}}
    paths = {f"/{number}": {"$ref": "#/components/x"} for number in range(MANY)}
    service = described(paths, components={"x": shared}, security=[{"a": []}] * 100_000)
    assert not service.operations
    assert f"more than {MAX_PARAMETERS} parameters" in service.problems[0]


def test_a_key_beyond_all_names_is_refused() -> None:
    text = json.dumps({"openapi": "3.1.0", "paths": {}, "k" * 1_000_000: [1] * 100_000}).encode()
    began = perf_counter()
    with pytest.raises(Misconfigured, match=f"#: a key has more than {MAX_KEY} characters"):
        read_document(text)
    assert perf_counter() - began < BOUND_S


def test_patterns_that_take_long_to_compile_are_left_out() -> None:
    pattern = "(?i)" + "[\\0-\\U0010ffff]" * 60
    schemas = {f"a{number}": {"pattern": f"{pattern}{number}"} for number in range(500)}
    service = described({"/": {"post": body({"type": "object", "properties": schemas})}})
    (tool,) = service.operations.values()
    assert b"pattern" not in bytes(tool.definition)


def test_a_stream_in_small_pieces_takes_no_more_room_than_it_is_long() -> None:
    decoder = SseDecoder()
    pieces = 100_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(pieces):
            decoder.feed(b"%02d" % (number % 100))
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 4 * pieces


def test_what_strangers_ask_for_is_not_kept_however_much_they_ask() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(MANY):
            assert endpoint_of(f"/v/{number}{'a' * 60_000}/mcp") is None
            assert accepted(f"text/{number}{'a' * 60_000}".encode()) == (False, False)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
