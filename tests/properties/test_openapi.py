"""OpenAPI documents of any kind, and calls with any arguments: nothing unforeseen comes out."""

import json
import re
from copy import deepcopy
from io import StringIO
from time import perf_counter
from typing import Any

import httptools
import jsonschema
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from connectors.errors import Misconfigured
from connectors.http_message import endpoint_of
from connectors.openapi_compile import compile_document
from connectors.openapi_document import read_document
from connectors.openapi_operation import Described
from connectors.openapi_request import (
    Authentication,
    BadArgumentsError,
    authentication,
    build_request,
)
from mcp_wire.jsonrpc import decode_members, raw
from tests.peers.petstore import described, json_body, path, query

BOUND_S = 5.0
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["#/components/schemas/Pet", "#/paths", "#", "object", "query", "3.0.3", "/"])
)
keys = st.text(max_size=8) | st.sampled_from([
    "$ref", "type", "properties", "items", "allOf", "anyOf", "required", "enum", "nullable",
    "schema", "content", "in", "name", "parameters", "requestBody", "responses", "servers",
    "security", "get", "default", "pattern", "example", "additionalProperties", "style",
])  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def rich() -> dict[str, Any]:
    """The pet store with more of what documents have."""
    document = described()
    document["paths"]["/many/{a}"] = {
        "parameters": [path("a"), query("b", style="deepObject")],
        "post": {
            "operationId": "many",
            "parameters": [
                {"name": "X-H", "in": "header", "schema": {"type": "array", "items": {}}},
                {"name": "c", "in": "cookie", "schema": {"type": "string"}},
                {"$ref": "#/components/parameters/P"},
            ],
            "requestBody": json_body({
                "allOf": [
                    {"$ref": "#/components/schemas/Pet"},
                    {"type": "object", "properties": {"f": {"enum": [1, "x", None]}}},
                ]
            }),
            "responses": {"default": {"description": "any"}},
        },
        "put": {
            "requestBody": {
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "properties": {"file": {"type": "string", "format": "binary"}},
                        }
                    }
                }
            },
        },
    }
    document["components"]["parameters"] = {"P": query("p", "integer")}
    return document


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(entries):
        found.append((value, key))
        if isinstance(item, dict | list):
            found += places(item)
    return found


PLAIN = json.dumps(rich())


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The rich document with a few values replaced, removed, moved or added."""
    document: dict[str, Any] = json.loads(PLAIN)
    for _ in range(draw(st.integers(1, 6))):
        spots = places(document)
        container, key = draw(st.sampled_from(spots))
        what = draw(st.sampled_from(["replace", "remove", "move", "add", "refer"]))
        if what == "replace":
            container[key] = draw(values)
        elif what == "remove":
            del container[key]
        elif what == "move":
            other, other_key = draw(st.sampled_from(spots))
            container[key] = deepcopy(other[other_key]) if other_key in _keys(other) else None
        elif what == "refer":
            container[key] = {"$ref": draw(st.sampled_from(POINTERS))}
        elif isinstance(container, dict):
            container[draw(keys)] = draw(values)
    return document


def _keys(container: Any) -> Any:
    return container if isinstance(container, dict) else range(len(container))


POINTERS = [
    "#",
    "#/components/schemas/Pet",
    "#/components/schemas/Pet/properties/mother",
    "#/components/parameters/P",
    "#/paths/~1many~1{a}/post/requestBody",
    "#/paths/~1many~1%7Ba%7D/parameters/0",
    "#/nowhere",
    "other.json#/x",
    "https://example.com/x",
    "#x",
]


def compiled(text: bytes) -> Described | None:
    """What the connector makes of a document; None for one that it refuses, with the place."""
    began = perf_counter()
    try:
        return compile_document(read_document(text))
    except Misconfigured as error:
        place = str(error)
    finally:
        assert perf_counter() - began < BOUND_S
    assert place.startswith("#")
    return None


def check(service: Described) -> None:
    for name, operation in service.operations.items():
        assert name == operation.name
        assert NAME.fullmatch(name)
        tool = msgspec.json.decode(operation.definition)
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        assert tool["inputSchema"]["type"] == "object"
        assert all(ARGUMENT.fullmatch(name) for name in tool["inputSchema"]["properties"])
        assert operation.arguments == set(tool["inputSchema"]["properties"])
        assert set(tool["inputSchema"].get("required", ())) <= operation.arguments
        if operation.is_structured:
            jsonschema.Draft202012Validator.check_schema(tool["outputSchema"])
        jsonschema.Draft202012Validator(tool["inputSchema"]).is_valid({"a": "x", "name": 1})
    for problem in service.problems:
        assert ": #" in problem or problem.startswith("#") or "operations" in problem


@given(mutated())
def test_a_mutated_document_is_compiled_or_refused(document: dict[str, Any]) -> None:
    service = compiled(json.dumps(document).encode())
    if service is not None:
        check(service)


@given(mutated())
def test_yaml_and_json_of_a_document_compile_to_the_same(document: dict[str, Any]) -> None:
    document = json.loads(msgspec.json.encode(json.loads(json.dumps(document), parse_constant=str)))
    stream = StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    from_yaml = compiled(stream.getvalue().encode(errors="replace"))
    from_json = compiled(json.dumps(document).encode())
    assert (from_yaml is None) == (from_json is None)
    if from_yaml is not None and from_json is not None:
        assert set(from_yaml.operations) == set(from_json.operations)


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode()))
def test_anything_that_is_no_document_is_refused(text: bytes) -> None:
    assert compiled(text) is None


@given(values)
def test_any_value_is_compiled_or_refused(value: Any) -> None:
    for document in (value, {"openapi": "3.1.0", "paths": value}):
        service = compiled(json.dumps(document).encode())
        if service is not None:
            check(service)


@given(st.text(alphabet="&*[]{}:,-!?|>%@`'\"# \n\tabc0", max_size=200))
def test_punctuation_of_yaml_makes_no_operation(text: str) -> None:
    service = compiled(b"openapi: 3.1.0\npaths:\n  " + text.encode())
    assert service is None or not service.operations


class Reader:
    """What a server reads of a request."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


SERVICE = compile_document(read_document(PLAIN.encode()))
ENDPOINT = endpoint_of("http://pets.example:8080/base/")
arguments = st.dictionaries(
    st.sampled_from(["a", "b", "c", "p", "X-H", "name", "mother", "f", "secret", "file", "petId"]),
    values,
    max_size=8,
)


@given(st.sampled_from(sorted(SERVICE.operations)), arguments, values)
def test_a_call_is_one_request_below_the_service_or_is_refused(
    name: str, chosen: dict[str, Any], value: Any
) -> None:
    operation = SERVICE.operations[name]
    known = {key: item for key, item in chosen.items() if key in operation.arguments}
    for parameter in operation.parameters:
        if parameter.required:
            known.setdefault(parameter.argument, value)
    given_arguments = decode_members(raw(json.loads(json.dumps(known), parse_constant=str)))
    try:
        message = build_request(operation, given_arguments, ENDPOINT, Authentication())
    except BadArgumentsError:
        return
    reader = Reader()
    parser = httptools.HttpRequestParser(reader)
    parser.feed_data(message)
    assert reader.complete == 1
    assert parser.get_method() == operation.method.encode()
    assert reader.target.startswith(b"/base/")
    segments = reader.target.partition(b"?")[0].split(b"/")
    assert not {b".", b"..", b"%2e", b"%2E%2E"} & set(segments)
    assert len(segments) == len(operation.path.split("/")) + 1
    names = [field for field, _ in reader.headers]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") <= 1
    allowed = {b"host", b"accept", b"user-agent", b"content-type", b"content-length"}
    assert set(names) <= allowed | {b"x-h", b"cookie"}


@given(st.dictionaries(st.sampled_from(["key", "api_key", "KEY", "X-Other"]), st.text()))
def test_a_secret_for_the_query_never_goes_into_a_header(headers: dict[str, str]) -> None:
    asked = authentication(headers, SERVICE.schemes, SERVICE.schemes)
    assert set(asked.headers) <= {"X-Other"}
    other = authentication(headers, (), SERVICE.schemes)
    assert set(other.headers) <= {"X-Other"}
    assert other.query == ()
