"""Down-levelling: any JSON goes through it, unchanged where nothing is too young for its reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hub.surfaces.mcp.down_level import can_be_asked, result_for, with_object_schemas
from mcp_wire.revisions import LEGACY_REVISIONS

METHODS = (
    "initialize", "tools/list", "tools/call", "resources/list", "resources/templates/list",
    "resources/read", "prompts/list", "prompts/get", "completion/complete", "no/such",
)  # fmt: skip
OLDER = LEGACY_REVISIONS[:-1]

names = st.sampled_from([
    "tools", "resources", "resourceTemplates", "prompts", "messages", "content", "icons", "title",
    "outputSchema", "structuredContent", "annotations", "arguments", "serverInfo", "type", "uri",
    "name", "description", "mimeType", "data", "text", "com.example/vendor", "", "é",
])  # fmt: skip
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5),
    st.sampled_from(["resource_link", "audio", "text", "object", "memo://a", "com.example/kind"]),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=25,
)
blocks = st.dictionaries(names, leaves, max_size=5)
results = st.one_of(
    values,
    st.builds(lambda content: {"content": content}, st.lists(blocks, max_size=3)),
    st.builds(lambda tools: {"tools": tools, "nextCursor": "c"}, st.lists(blocks, max_size=3)),
    st.builds(
        lambda content: {"messages": [{"role": "user", "content": content}]}, blocks
    ),
)  # fmt: skip


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


@given(results, st.sampled_from(METHODS), st.sampled_from(LEGACY_REVISIONS))
def test_any_result_goes_through_and_a_second_time_nothing_is_left_to_change(
    value: Any, method: str, revision: str
) -> None:
    once = result_for(raw(value), method, revision)
    assert result_for(once, method, revision) == once
    assert with_object_schemas(with_object_schemas(once)) == with_object_schemas(once)


@given(st.binary(max_size=60), st.sampled_from(METHODS), st.sampled_from(LEGACY_REVISIONS))
def test_what_is_no_json_at_all_stays_as_it_is(noise: bytes, method: str, revision: str) -> None:
    for text in (b"\xff" + noise, b'{"content":' + noise, b'{"tools":[' + noise):
        assert bytes(result_for(Raw(text), method, revision)) == text or _is_json(text)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@given(results, st.sampled_from(METHODS))
def test_the_newest_legacy_revision_gets_the_very_bytes(value: Any, method: str) -> None:
    body = raw(value)
    assert result_for(body, method, LEGACY_REVISIONS[-1]) is body


@given(
    st.dictionaries(st.text(max_size=8).map("com.example/".__add__), values, max_size=3),
    st.sampled_from(METHODS),
    st.sampled_from(OLDER),
)
def test_members_that_nobody_knows_stay(vendor: dict[str, Any], method: str, revision: str) -> None:
    block = {"type": "audio", "data": "AA==", "mimeType": "audio/wav", **vendor}
    link = {"type": "resource_link", "uri": "memo://a", "name": "a", **vendor}
    tool = {"name": "t", "icons": [], "title": "T", **vendor}
    bodies = {
        "tools/call": {"content": [block, link], **vendor},
        "tools/list": {"tools": [tool], **vendor},
    }
    body = bodies.get(method, {"com.example/alone": vendor})
    told = json.loads(bytes(result_for(raw(body), method, revision)))
    assert vendor.items() <= told.items() or method not in bodies
    for items in (told.get("content", []), told.get("tools", [])):
        for item in items:
            assert vendor.items() <= item.items()


@given(st.text(max_size=12), st.text(max_size=30), st.text(max_size=5))
def test_nobody_is_asked_what_no_revision_knows(revision: str, method: str, mode: str) -> None:
    known = method in {"elicitation/create", "sampling/createMessage", "roots/list"}
    assert known or not can_be_asked(revision, method, mode)


@pytest.mark.parametrize("revision", LEGACY_REVISIONS)
def test_structured_content_is_never_lost_without_words(revision: str) -> None:
    body = raw({"structuredContent": {"a": 1}})
    told = json.loads(bytes(result_for(body, "tools/call", revision)))
    assert told == (
        {"structuredContent": {"a": 1}}
        if revision >= "2025-06-18"
        else {"content": [{"type": "text", "text": '{"a": 1}'}]}
    )
