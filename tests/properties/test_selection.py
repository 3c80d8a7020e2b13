"""What a virtual server takes, and how it shows and calls what it takes."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hub.catalog.arguments import effective_params, unwrap
from hub.domain.call import Call, Target
from hub.domain.catalog import Exposure
from hub.domain.desired import ArgumentRule, Include, Override, VirtualServerSpec
from hub.domain.outcome import Refusal
from hub.domain.principal import Evidence
from mcp_wire.jsonrpc import raw
from tests.listings import compiled, everything_of, listing, served, shown, tool

pytestmark = pytest.mark.anyio

words = st.sampled_from(["read_file", "read_dir", "write_file", "stat", "READ_FILE", "a*b", "[x]"])
patterns = st.sampled_from(["*", "read_*", "*file", "stat", "read_???", "[rw]*", "READ_FILE", "no"])
values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
arguments = st.sampled_from(["a", "b", "c", "d"])
rules = st.builds(
    ArgumentRule,
    fix=st.one_of(st.none(), values.map(raw)),
    default=st.one_of(st.none(), values.map(raw)),
    hide=st.booleans(),
    description=st.one_of(st.none(), st.text(max_size=5)),
)


def dev(*includes: Include, **settings: Any) -> VirtualServerSpec:
    return VirtualServerSpec(name="dev", include=includes, **settings)


def call_of(name: str, sent: Any, operation: str = "tools/call") -> Call:
    return Call(
        id="1",
        surface="mcp",
        operation=operation,
        action="call",
        target=Target("tool", name),
        evidence=Evidence(),
        params={"name": raw(name), "arguments": raw(sent)},
    )


def sent_on(exposure: Exposure, sent: Any) -> Any:
    return json.loads(bytes(effective_params(exposure, call_of(exposure.name, sent))["arguments"]))


@given(st.lists(words, unique=True), st.lists(patterns, max_size=3))
async def test_names_and_patterns_take_what_the_shell_would(
    listed: list[str], wanted: list[str]
) -> None:
    server = await served([listing("u", listed)], dev(Include(upstream="u", tools=tuple(wanted))))
    taken = {exposure.capability.name for exposure in server.tools.values()}
    assert taken == {
        name for name in listed if any(name == one or fnmatchcase(name, one) for one in wanted)
    }


async def test_no_list_takes_everything_and_one_list_takes_only_its_kind() -> None:
    found = listing("u", ["t"], resources=["r:1"], templates=["r:{x}"], prompts=["p"])
    server = await served([found], dev(Include(upstream="u")))
    assert [len(kind) for kind in (server.tools, server.resources, server.templates)] == [1, 1, 1]
    assert list(server.prompts) == ["p"]
    server = await served([found], dev(Include(upstream="u", resources=("r:*",))))
    assert (list(server.resources), list(server.templates)) == (["r:1"], ["r:{x}"])
    assert not server.tools
    assert not server.prompts


async def test_where_takes_tools_by_what_they_say_of_themselves() -> None:
    tools = [
        tool("reads", annotations={"readOnlyHint": True}),
        tool("writes", annotations={"readOnlyHint": False, "destructiveHint": False}),
        tool("silent"),
    ]
    for where, taken in (
        ({"readOnlyHint": True}, ["reads"]),
        ({"readOnlyHint": False}, ["silent", "writes"]),
        ({"destructiveHint": False}, ["writes"]),
        ({"readOnlyHint": True, "destructiveHint": False}, []),
    ):
        server = await served([listing("u", tools)], dev(Include(upstream="u", where=where)))
        assert list(server.tools) == taken


async def test_an_override_changes_what_is_shown_and_nothing_else() -> None:
    original = b"""{"name": "get_order", "title": "Get", "description": "Old", "x-vendor": 1.0,
        "annotations": {"readOnlyHint": true, "vendor": 1e400}, "_meta": {"v/k": null},
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}}}"""
    override = Override(
        name="find_order", description="New", annotations={"destructiveHint": Raw(b"true")}
    )
    include = Include(upstream="u", override={"get_order": override})
    server = await served([listing("u", [original])], dev(include))
    exposure = server.tools["find_order"]
    assert b'"vendor":1e400' in exposure.fragment.replace(b" ", b"")
    assert b'"x-vendor":1.0' in exposure.fragment.replace(b" ", b"")
    definition = json.loads(exposure.fragment)
    assert definition["name"] == "find_order"
    assert definition["title"] == "Get"
    assert definition["description"] == "New"
    assert definition["_meta"] == {"v/k": None}
    assert definition["annotations"]["readOnlyHint"]
    assert definition["annotations"]["destructiveHint"]
    assert exposure.capability.name == "get_order"
    untouched = await served([listing("u", [original])], dev(Include(upstream="u")))
    assert untouched.tools["get_order"].fragment == original
    assert untouched.tools["get_order"].digest == exposure.digest


async def test_one_capability_may_appear_under_several_names() -> None:
    includes = (
        Include(upstream="u"),
        *(
            Include(
                upstream="u",
                tools=("get",),
                override={"get": Override(name=f"get_{tenant}", arguments={"t": fixed(tenant)})},
            )
            for tenant in ("acme", "zeta")
        ),
    )
    found = listing("u", [tool("get", properties={"t": {}}), "put"])
    server = await served([found], dev(*includes))
    assert list(server.tools) == ["get_acme", "get_zeta", "put"]
    assert sent_on(server.tools["get_zeta"], {"t": "acme"}) == {"t": "zeta"}


def fixed(value: Any) -> ArgumentRule:
    return ArgumentRule(fix=raw(value), hide=True)


@given(
    st.dictionaries(arguments, rules, max_size=4),
    st.lists(arguments, unique=True),
    st.dictionaries(arguments, values, max_size=4),
)
async def test_rules_hold_whatever_the_caller_sends(
    ruled: dict[str, ArgumentRule], required: list[str], sent: dict[str, Any]
) -> None:
    definition = {
        "name": "t",
        "inputSchema": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in "abcd"},
            "required": required,
            "x-kept": {"a": 1},
        },
    }
    include = Include(upstream="u", override={"t": Override(title="T", arguments=ruled)})
    server = await served([listing("u", [definition])], dev(include))
    exposure = server.tools["t"]
    schema = shown(server, "t")["inputSchema"]
    given_on = sent_on(exposure, sent)
    assert schema["x-kept"] == {"a": 1}
    for name in "abcd":
        rule = ruled.get(name, ArgumentRule())
        has_value = rule.fix is not None or rule.default is not None
        assert (name in schema["properties"]) is not rule.hide
        assert (name in schema.get("required", [])) == (
            name in required and not rule.hide and not has_value
        )
        if rule.fix is not None:
            assert given_on[name] == json.loads(bytes(rule.fix))
        elif rule.default is not None and (rule.hide or name not in sent):
            assert given_on[name] == json.loads(bytes(rule.default))
        elif rule.hide:
            assert name not in given_on
        else:
            assert given_on.get(name, "-") == sent.get(name, "-")


async def test_hidden_arguments_of_a_prompt_are_neither_shown_nor_completed() -> None:
    prompt = {"name": "p", "arguments": [{"name": "who", "required": True}, {"name": "lang"}]}
    override = Override(arguments={"who": fixed("me"), "lang": ArgumentRule(default=raw("en"))})
    include = Include(upstream="u", override={"p": override})
    server = await served([listing("u", prompts=[prompt])], dev(include))
    exposure = server.prompts["p"]
    assert json.loads(exposure.fragment)["arguments"] == [{"name": "lang", "required": False}]
    assert sent_on(exposure, {"who": "you"}) == {"who": "me", "lang": "en"}
    completion = call_of("p", {}, "completion/complete")
    asked = {"ref": raw({}), "argument": raw({"name": "lang", "value": ""})}
    params = effective_params(exposure, _with(completion, asked))
    assert json.loads(bytes(params["context"])) == {"arguments": {"who": "me", "lang": "en"}}
    with pytest.raises(Refusal):
        effective_params(
            exposure, _with(completion, {**asked, "argument": raw({"name": "who", "value": ""})})
        )


def _with(call: Call, params: dict[str, Raw]) -> Call:
    return Call(
        id=call.id,
        surface="mcp",
        operation=call.operation,
        action="call",
        target=call.target,
        evidence=call.evidence,
        params=params,
    )


async def test_headers_of_hidden_arguments_are_not_asked_of_callers_and_sent_upstream() -> None:
    annotated = {"type": "string", "x-mcp-header": "Tenant"}
    found = listing("u", [tool("t", properties={"tenant": annotated})])
    include = Include(upstream="u", override={"t": Override(arguments={"tenant": fixed("a")})})
    exposure = (await served([found], dev(include))).tools["t"]
    assert exposure.param_headers == {}
    assert exposure.upstream_param_headers == {("tenant",): "Tenant"}


async def test_one_malformed_tool_hides_no_other() -> None:
    tools: list[Any] = [tool(f"t{number}") for number in range(20)]
    tools += [
        5,
        {"name": 7},
        {"name": "s", "inputSchema": "text"},
        {"name": "q", "inputSchema": {"type": "array"}},
        b'{"name":"deep","inputSchema":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        {"name": "mended", "inputSchema": {"properties": None}, "description": 7},
        b'{"name":"first","name":"second","inputSchema":{"type":"object"}}',
        tool("t1", "again"),
    ]
    bad_header = {"type": "number", "x-mcp-header": "N"}
    tools.append(tool("header", properties={"n": bad_header}))
    icons = [{"src": "https://a.example/i.png"}, {"src": "javascript:alert(1)"}]
    tools.append(tool("icons", icons=icons))
    snapshot = await compiled([listing("u", tools)], [everything_of("u")])
    tenant = snapshot.tenants["default"]
    server = tenant.virtual_servers["dev"]
    expected = {f"t{number}" for number in range(20)} | {"mended", "second", "icons"}
    assert set(server.tools) == expected
    assert shown(server, "mended") == {
        "name": "mended",
        "inputSchema": {"type": "object", "properties": {}},
    }
    assert b"first" not in server.tools["second"].fragment
    assert shown(server, "icons")["icons"] == icons[:1]
    assert len(tenant.problems["u"]) == 7
    over_stdio = await served([listing("u", tools, transport="stdio")], everything_of("u"))
    assert set(over_stdio.tools) == expected | {"header"}
    assert shown(over_stdio, "header")["inputSchema"]["properties"] == {"n": {"type": "number"}}


async def test_default_shows_everything_once_and_keeps_rules() -> None:
    """Fixed arguments of a named virtual server cannot be got around through ``/mcp``."""
    override = Override(arguments={"t": fixed("acme")})
    specs = [
        VirtualServerSpec(name="a", include=(Include(upstream="u", tools=("plain", "ruled")),)),
        VirtualServerSpec(
            name="b",
            include=(
                Include(
                    upstream="u", tools=("plain", "only_ruled"), override={"only_ruled": override}
                ),
            ),
        ),
        VirtualServerSpec(
            name="c",
            include=(Include(upstream="u", tools=("ruled",), override={"ruled": override}),),
        ),
    ]
    found = listing(
        "u",
        ["plain", "free", *(tool(name, properties={"t": {}}) for name in ("ruled", "only_ruled"))],
    )
    server = await served([found], *specs, name="default")
    assert list(server.tools) == ["free", "only_ruled", "plain", "ruled", "u_ruled"]
    assert sent_on(server.tools["only_ruled"], {"t": "x"}) == {"t": "acme"}
    assert sent_on(server.tools["ruled"], {"t": "x"}) == {"t": "x"}
    assert sent_on(server.tools["u_ruled"], {"t": "x"}) == {"t": "acme"}


async def test_a_call_through_call_tool_is_the_call_it_asks_for() -> None:
    server = await served([listing("u", ["get"])], everything_of("u", presentation="search"))
    assert list(server.system_tools) == ["search_tools", "call_tool"]
    asked = call_of("call_tool", {"name": "get", "arguments": {"a": 1}})
    meant = unwrap(asked, server)
    assert meant.target == Target("tool", "get")
    assert json.loads(bytes(meant.params["arguments"])) == {"a": 1}
    assert meant.id == asked.id
    for sent in ({}, {"name": 5}, {"name": "get", "arguments": [1]}, {"name": "call_tool"}, "x"):
        assert unwrap(call_of("call_tool", sent), server).target.name == "call_tool"
    full = await served([listing("u", ["get"])], everything_of("u"))
    assert unwrap(asked, full) is asked
