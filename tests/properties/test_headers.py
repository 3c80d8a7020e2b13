"""Header values, annotations and mirrored parameters: the same verdicts as the official SDK."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound
from msgspec import Raw

from mcp_wire.headers import (
    build_param_headers,
    decode_header_value,
    encode_header_value,
    find_duplicate_routing_header,
    find_invalid_param_header,
    find_param_mismatch,
    param_header_map,
    strip_param_headers,
)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
awkward = st.sampled_from([
    "", " x", "x ", "=?base64??=", "=?base64?=", "=?base64?eA==?=", "=?base64?eB==?=",
    "=?base64?!!?=", "=?base64?/w==?=", "héllo", "a\tb", "\x7f",
])  # fmt: skip
names = st.sampled_from(["region", "count", "flag", "nested", "Ünïcode"])
tokens = st.sampled_from(["Region", "region", "Count", "Flag", "", "no token", "X:", 7, None])
types = st.sampled_from(["string", "integer", "boolean", "number", "object", ["string"], None])


@st.composite
def annotated(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    kind = draw(types)
    if kind is not None:
        schema["type"] = kind
    if draw(st.booleans()):
        schema["x-mcp-header"] = draw(tokens)
    return schema


def _wrapped(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keyword = st.sampled_from(["items", "not", "additionalProperties", "default", "$ref"])
    listed = st.sampled_from(["anyOf", "allOf", "prefixItems", "enum"])
    named = st.sampled_from(["properties", "$defs", "patternProperties"])
    return st.one_of(
        st.builds(
            lambda own, properties: {**own, "properties": properties},
            annotated(),
            st.dictionaries(names, children, max_size=3),
        ),
        st.builds(lambda key, child: {key: child}, keyword, children),
        st.builds(lambda key, items: {key: items}, listed, st.lists(children, max_size=2)),
        st.builds(lambda key, items: {key: items}, named, st.dictionaries(names, children)),
    )


schemas = st.recursive(annotated(), _wrapped, max_leaves=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    awkward,
    st.just([1]),
    st.just({}),
)

TOOL_SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "nested": {"properties": {"flag": {"type": "boolean", "x-mcp-header": "Flag"}}},
    },
}
argument_objects = st.fixed_dictionaries(
    {},
    optional={
        "region": scalars,
        "count": scalars,
        "nested": st.one_of(scalars, st.fixed_dictionaries({}, optional={"flag": scalars})),
    },
)


def _as_raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def _as_lines(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


@given(texts | awkward)
def test_a_value_is_encoded_as_the_sdk_does_and_comes_back(value: str) -> None:
    encoded = encode_header_value(value)
    assert encoded == inbound.encode_header_value(value)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert decode_header_value(encoded) == value


@given(texts | awkward | st.text("=?base64+/AQgw", max_size=20).map(lambda b: f"=?base64?{b}?="))
def test_a_value_is_decoded_as_the_sdk_does(value: str) -> None:
    assert decode_header_value(value) == inbound.decode_header_value(value)


def test_an_absent_header_decodes_to_nothing() -> None:
    assert decode_header_value(None) is None


@given(schemas)
def test_an_annotation_is_accepted_exactly_where_the_sdk_accepts_it(schema: Any) -> None:
    theirs = inbound.find_invalid_x_mcp_header(schema)
    assert (find_invalid_param_header(schema) is None) == (theirs is None)
    if theirs is None:
        assert param_header_map(schema) == inbound.x_mcp_header_map(schema)


@given(schemas)
def test_a_stripped_schema_has_no_annotation_left_and_nothing_else_changed(schema: Any) -> None:
    raw = _as_raw(schema)
    stripped = msgspec.json.decode(strip_param_headers(raw))
    assert find_invalid_param_header(stripped) is None
    assert param_header_map(stripped) == {}
    assert _without_annotations(schema) == stripped


def test_a_schema_without_annotations_is_not_written_anew() -> None:
    raw = Raw(
        b'{"type":"object", "maximum": 1e400, "properties": {"a": {"const": 1152921504606846976}}}'
    )
    assert strip_param_headers(raw) is raw


def test_stripping_keeps_the_bytes_of_what_it_does_not_touch() -> None:
    raw = Raw(
        b'{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"maximum":1e400}},'
        b'"default":{"x-mcp-header":1.0}}'
    )
    assert bytes(strip_param_headers(raw)) == (
        b'{"properties":{"a":{"type":"string"},"b":{"maximum":1e400}},'
        b'"default":{"x-mcp-header":1.0}}'
    )


@given(argument_objects)
def test_headers_are_built_as_the_sdk_builds_them(arguments: dict[str, Any]) -> None:
    header_map = param_header_map(TOOL_SCHEMA)
    ours = dict(build_param_headers(header_map, _as_raw(arguments)))
    assert ours == inbound.mcp_param_headers(header_map, arguments)


@given(argument_objects)
def test_headers_that_were_built_agree_with_their_arguments(arguments: dict[str, Any]) -> None:
    header_map = param_header_map(TOOL_SCHEMA)
    raw = _as_raw(arguments)
    headers = _as_lines(dict(build_param_headers(header_map, raw)))
    assert find_param_mismatch(header_map, raw, headers) is None


@given(
    argument_objects,
    st.dictionaries(
        st.sampled_from(["mcp-param-region", "Mcp-Param-Count", "mcp-param-flag", "x-other"]),
        st.one_of(
            awkward.filter(str.isascii),
            st.integers(-4, 4).map(str),
            st.integers(-4, 4).map(lambda n: f"{n}.0"),
            st.sampled_from(["true", "false", "True", "1e0", "01", "-0", "2.50", "null"]),
        ),
    ),
)
def test_inbound_headers_get_the_verdict_of_the_sdk(
    arguments: dict[str, Any], headers: dict[str, str]
) -> None:
    """But for whole numbers in arguments that are declared otherwise: those compare as numbers too."""
    theirs = inbound.validate_mcp_param_headers(TOOL_SCHEMA, arguments, headers)
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    ours = find_param_mismatch(param_header_map(TOOL_SCHEMA), _as_raw(arguments), lines)
    misdeclared = [arguments.get("region"), arguments.get("nested")]
    nested = arguments.get("nested")
    if isinstance(nested, dict):
        misdeclared.append(nested.get("flag"))
    if any(isinstance(v, int | float) and not isinstance(v, bool) for v in misdeclared):
        assert ours is None or theirs is not None
    else:
        assert (ours is None) == (theirs is None)


@pytest.mark.parametrize(
    ("arguments", "headers", "agrees"),
    [
        (b'{"count":42}', [(b"mcp-param-count", b"42.0")], True),
        (b'{"count":42.0}', [(b"mcp-param-count", b"42")], True),
        (b'{"count":1152921504606846977}', [(b"mcp-param-count", b"1152921504606846977")], True),
        (b'{"count":1152921504606846977}', [(b"mcp-param-count", b"1152921504606846976")], False),
        (b'{"count":null}', [], True),
        (b'{"count":null}', [(b"mcp-param-count", b"null")], False),
        (b'{"count":1}', [], False),
        (b"{}", [(b"Mcp-Param-Count", b"1")], False),
        (b'{"count":1}', [(b"mcp-param-count", b"1"), (b"Mcp-Param-Count", b"1")], False),
        (b'{"region":"x"}', [(b"mcp-param-region", b" x\t")], True),
        (b'{"count":1e400}', [(b"mcp-param-count", b"1")], False),
    ],
)
def test_header_and_argument_agree_or_not(
    arguments: bytes, headers: list[tuple[bytes, bytes]], agrees: bool
) -> None:
    mismatch = find_param_mismatch(param_header_map(TOOL_SCHEMA), Raw(arguments), headers)
    assert (mismatch is None) == agrees


@given(
    st.lists(
        st.sampled_from(["mcp-name", "Mcp-Name", "mcp-method", "MCP-Protocol-Version", "accept"]),
        max_size=4,
    )
)
def test_repeated_routing_headers_are_found_as_the_sdk_finds_them(header_names: list[str]) -> None:
    lines = [(name.encode(), b"v") for name in header_names]
    pairs = [(name, "v") for name in header_names]
    assert find_duplicate_routing_header(lines) == inbound.find_duplicated_routing_header(pairs)


def _without_annotations(schema: Any) -> Any:
    """What stripping should give, written without the code under test."""
    positions = [position for _, position in inbound._walk_schema_positions(schema)]
    marked = {id(position) for position in positions}

    def copy(node: Any) -> Any:
        if isinstance(node, list):
            return [copy(child) for child in node]
        if not isinstance(node, dict):
            return node
        skip = "x-mcp-header" if id(node) in marked else None
        return {key: copy(value) for key, value in node.items() if key != skip}

    return copy(schema)
