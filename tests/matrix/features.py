"""What crosses between every client and every upstream, each feature by what can be seen of it.

A feature that a pair of eras makes impossible or lossy is in ``tests.matrix.table``, which also
says what is seen there instead.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
from mcp_types import INVALID_PARAMS, URL_ELICITATION_REQUIRED

from tests.matrix.offerings import SIGN_IN
from tests.matrix.pairs import Pair
from tests.matrix.programs import Connected, Refused

Check = Callable[[Pair], Awaitable[None]]

CHANGED: Final = "notifications/tools/list_changed"
UPDATED: Final = "notifications/resources/updated"
LOGGED: Final = "notifications/message"
PROGRESSED: Final = "notifications/progress"
ELICITED: Final = "elicitation/create"
RED: Final = {"action": "accept", "content": {"colour": "red"}}
BIG: Final = 400_000
"""A text of that size comes twice, as content and structured: clients take events up to 1 MiB."""
OWN_CODE: Final = 4711
"""An error code that no revision gives a meaning to."""
ROUND: Final = {"action": "accept", "content": {"shape": "round"}}
NOT_FOUND: Final = -32002
"""What the legacy era says of a resource that does not exist."""


async def handshake(pair: Pair) -> None:
    hello = (await pair.full()).hello
    assert hello["revision"] == ("2026-07-28" if pair.caller == "modern" else "2025-11-25")
    assert "Ask me anything." in hello["instructions"]
    assert {"tools", "resources", "prompts", "completions", "logging"} <= set(hello["capabilities"])


async def tools_listed(pair: Pair) -> None:
    tools = await (await pair.full()).definitions("tools")
    assert {"echo", "add", "elicit", "touch", "numbers"} <= set(tools)
    assert tools["add"]["inputSchema"]["required"] == ["a", "b"]
    assert tools["add"]["outputSchema"]["type"] == "object"
    assert tools["echo"]["annotations"]["readOnlyHint"] is True


async def all_pages(pair: Pair) -> None:
    client = await pair.full()
    assert len(await client.names("tools")) > 25, "the upstream has five on a page"
    with pytest.raises(Refused) as refused:
        await client.list_from("tools", "nonsense")
    assert refused.value.code == INVALID_PARAMS


async def tool_called(pair: Pair) -> None:
    assert await (await pair.full()).text("echo", text="over there") == "over there"


async def structured_result(pair: Pair) -> None:
    result = await (await pair.full()).call("add", a=2, b=3)
    assert result["structuredContent"] == {"result": 5}
    assert result["content"][0]["text"] == "5"


async def array_result(pair: Pair) -> None:
    result = await (await pair.full()).call("numbers")
    wanted: Any = [1, 2, 3] if pair.upstream == "modern" else {"values": [1, 2, 3]}
    assert result["structuredContent"] == wanted


async def error_result(pair: Pair) -> None:
    result = await (await pair.full()).call("fail", reason="no paper left")
    assert result["isError"] is True
    assert "no paper left" in result["content"][0]["text"]


async def unknown_tool(pair: Pair) -> None:
    with pytest.raises(Refused) as refused:
        await (await pair.full()).call("nothing_of_that_name")
    assert refused.value.code == INVALID_PARAMS


async def protocol_error(pair: Pair) -> None:
    with pytest.raises(Refused) as refused:
        await (await pair.full()).call("refuse", code=OWN_CODE)
    assert refused.value.code == OWN_CODE
    assert "refused as asked" in refused.value.message
    assert refused.value.data["asked"] is True


async def mirrored_arguments(pair: Pair) -> None:
    assert await (await pair.full()).text("route", region="eu", count=3) == "eu:3"


async def big_result(pair: Pair) -> None:
    assert len(await (await pair.full()).text("big", size_bytes=BIG)) == BIG


async def timeout(pair: Pair) -> None:
    result = await (await pair.hasty()).call("hang", name=pair.new_name())
    assert result["isError"] is True
    assert f"{pair.upstream_kind}_hasty" in result["content"][0]["text"]


async def progress(pair: Pair) -> None:
    client = await pair.full()
    assert await client.text("slow", steps=3) == "3 steps"
    steps = [await client.notified(PROGRESSED) for _ in range(3)]
    assert [(step["progress"], step["message"]) for step in steps] == [
        (1, "step 1"),
        (2, "step 2"),
        (3, "step 3"),
    ]


async def logging(pair: Pair) -> None:
    client = await pair.full()
    await client.log_level("warning")
    await client.call("log", message="too quiet", level="info")
    await client.call("log", message="loud", level="error")
    told = await client.notified(LOGGED)
    assert (told["data"], told["level"]) == ("loud", "error")
    await client.log_level("debug")
    await client.call("log", message="whispered", level="debug")
    assert (await client.notified(LOGGED))["data"] == "whispered"


async def default_level(pair: Pair) -> None:
    """The legacy era leaves the level to the server, the modern one hears what it asks for."""
    client = await pair.other()
    assert await client.text("log", message="unasked", level="error") == "logged"
    if pair.caller == "legacy":
        assert (await client.notified(LOGGED))["data"] == "unasked"
    else:
        await client.text("log", message="unasked", level="error")
        assert client.told(LOGGED) == []


async def stray_log(pair: Pair) -> None:
    """It is told with the call that is under way; Portico hears it in a stream of its own."""
    over_http = pair.upstream_kind.startswith("http")
    client, name = await (pair.full() if over_http else pair.mute()), pair.new_name()
    await client.log_level("debug")
    remarking = await client.start("call", name="remark", arguments={"message": name})
    assert (await client.notified(LOGGED))["data"] == name
    await client.text("heard", message=name)
    assert (await client.end_of(remarking))["content"][0]["text"] == "remarked"


async def cancellation(pair: Pair) -> None:
    client, name = await pair.mute(), pair.new_name()
    hanging = await client.start("call", name="hang", arguments={"name": name})
    assert await client.text("await_started", name=name) == "started"
    await client.cancel(hanging)
    assert await client.text("await_cancelled", name=name) == "cancelled"
    with pytest.raises(Refused):
        await client.end_of(hanging)


async def elicitation_accepted(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(elicitation=[RED])
    assert await client.text("elicit", question="Which colour?") == "accept:red"
    asked = only(client.told(ELICITED))
    assert asked["message"] == "Which colour?"
    assert "colour" in asked["requestedSchema"]["properties"]


async def elicitation_declined(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(elicitation=[{"action": "decline"}])
    assert await client.text("elicit") == "decline:"


async def url_elicitation(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(elicitation=[{"action": "accept"}])
    assert await client.text("ask_url") == "accept"
    asked_for_url(pair, client)


async def url_required(pair: Pair) -> None:
    """An upstream that says so with the error of its era is shown in the way of the caller's."""
    client, name = await pair.full(), pair.new_name()
    await client.prepare(elicitation=[{"action": "accept"}])
    if pair.caller == pair.upstream == "legacy":
        with pytest.raises(Refused) as refused:
            await client.call("needs_url", name=name)
        assert refused.value.code == URL_ELICITATION_REQUIRED
        assert refused.value.data["elicitations"][0]["url"] == SIGN_IN
        assert await client.text("needs_url", name=name) == "signed in"
    else:
        assert await client.text("needs_url", name=name) == "signed in"
        asked_for_url(pair, client)


async def url_undeclared(pair: Pair) -> None:
    """Who opens no addresses is not asked to, and the call ends."""
    client = await pair.form_only()
    await client.prepare(elicitation=[{"action": "accept"}])
    await fails(client, "ask_url")
    assert client.told(ELICITED) == []


async def sampling(pair: Pair) -> None:
    client = await pair.full()
    content = {"type": "text", "text": "42"}
    await client.prepare(sampling=[{"role": "assistant", "model": "oracle", "content": content}])
    assert await client.text("ask_model", prompt="What is it?") == "oracle: 42"
    asked = only(client.told("sampling/createMessage"))
    assert asked["messages"][0]["content"]["text"] == "What is it?"


async def roots(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(roots=[{"roots": [{"uri": "file:///home"}, {"uri": "file:///work"}]}])
    assert await client.text("ask_roots") == "file:///home,file:///work"


async def roots_changed(pair: Pair) -> None:
    client = await pair.full()
    waiting = await client.start("call", name="await_roots_changed", arguments={})
    await client.roots_changed()
    assert (await client.end_of(waiting))["content"][0]["text"] == "changed"


async def several_rounds(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(elicitation=[RED, ROUND])
    assert await client.text("two_rounds") == "red round"
    messages = [asked["message"] for asked in client.told(ELICITED)]
    assert messages == ["Which colour?", "Which red shape?"]


async def several_questions(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(elicitation=[RED], roots=[{"roots": [{"uri": "file:///home"}]}])
    assert await client.text("two_questions") == "red 1"
    assert len(client.told(ELICITED, "roots/list")) == 2


async def asking_prompt(pair: Pair) -> None:
    client = await pair.full()
    await client.prepare(elicitation=[RED])
    assert await client.prompt("painted") == "Paint it red."


async def unasked(pair: Pair) -> None:
    """Whoever declares nothing is asked nothing, and the call ends."""
    client = await pair.mute()
    await fails(client, "elicit")
    await fails(client, "ask_url")
    await fails(client, "ask_model", prompt="What is it?")
    assert client.told(ELICITED, "roots/list", "sampling/createMessage") == []


async def resources_listed(pair: Pair) -> None:
    client = await pair.full()
    assert {"memo://static", "memo://bytes"} <= set(await client.names("resources"))
    assert await client.names("resource_templates") == ["memo://note/{id}"]


async def resource_read(pair: Pair) -> None:
    client = await pair.full()
    (static,) = await client.read("memo://static")
    assert (static["uri"], static["text"]) == ("memo://static", "static text")
    (binary,) = await client.read("memo://bytes")
    assert binary["blob"] == "AAH/"


async def template_read(pair: Pair) -> None:
    (note,) = await (await pair.full()).read("memo://note/7")
    assert (note["uri"], note["text"]) == ("memo://note/7", "note 7")


async def resource_not_found(pair: Pair) -> None:
    with pytest.raises(Refused) as refused:
        await (await pair.full()).read("memo://nothing")
    assert refused.value.data["uri"] == "memo://nothing"
    if pair.client_kind.startswith("ts2"):  # it has one class, and one code, for either era
        assert refused.value.kind == "ResourceNotFoundError"
    else:
        assert refused.value.code == (INVALID_PARAMS if pair.caller == "modern" else NOT_FOUND)


async def resource_updated(pair: Pair) -> None:
    client = await pair.watching()
    assert await client.text("touch", uri="memo://watched") == "touched"
    assert (await client.notified(UPDATED))["uri"] == "memo://watched"


async def list_changed(pair: Pair) -> None:
    client, name = await pair.watching(), pair.new_name()
    assert await client.text("add_tool", name=name) == "added"
    await client.notified(CHANGED)
    assert name in await client.names("tools")


async def prompts(pair: Pair) -> None:
    client = await pair.full()
    assert {"greet", "plain"} <= set(await client.names("prompts"))
    assert await client.prompt("greet", name="Ada") == "Say hello to Ada."


async def completion(pair: Pair) -> None:
    found = await (await pair.full()).complete("greet", "name", "al")
    assert found == ["alice", "albert"]


async def conversation(pair: Pair) -> None:
    """A client's session is a session of its own at the upstream."""
    client, other = await pair.full(), await pair.other()
    assert [await client.text("visit"), await other.text("visit")] == ["1", "1"]
    assert [await client.text("visit"), await other.text("visit")] == ["2", "2"]


async def fails(client: Connected, tool: str, **arguments: Any) -> None:
    """A call that comes to no result, in whatever words."""
    try:
        result = await client.call(tool, **arguments)
    except Refused:
        return
    assert result["isError"] is True, result


def only(told: list[Any]) -> Any:
    assert len(told) == 1, told
    return told[0]


def asked_for_url(pair: Pair, client: Connected) -> None:
    """The question that a client was put; its id belongs to the legacy era."""
    asked = only(client.told(ELICITED))
    assert (asked["mode"], asked["url"]) == ("url", SIGN_IN)
    assert ("elicitationId" in asked) == (pair.caller == "legacy")


FEATURES: Final[Mapping[str, Check]] = {
    "handshake": handshake,
    "tools_listed": tools_listed,
    "all_pages": all_pages,
    "tool_called": tool_called,
    "structured_result": structured_result,
    "array_result": array_result,
    "error_result": error_result,
    "protocol_error": protocol_error,
    "unknown_tool": unknown_tool,
    "mirrored_arguments": mirrored_arguments,
    "big_result": big_result,
    "timeout": timeout,
    "progress": progress,
    "logging": logging,
    "default_level": default_level,
    "stray_log": stray_log,
    "cancellation": cancellation,
    "elicitation_accepted": elicitation_accepted,
    "elicitation_declined": elicitation_declined,
    "url_elicitation": url_elicitation,
    "url_required": url_required,
    "url_undeclared": url_undeclared,
    "sampling": sampling,
    "roots": roots,
    "roots_changed": roots_changed,
    "several_rounds": several_rounds,
    "several_questions": several_questions,
    "asking_prompt": asking_prompt,
    "unasked": unasked,
    "resources_listed": resources_listed,
    "resource_read": resource_read,
    "template_read": template_read,
    "resource_not_found": resource_not_found,
    "resource_updated": resource_updated,
    "list_changed": list_changed,
    "prompts": prompts,
    "completion": completion,
    "conversation": conversation,
}
"""Feature -> how it is seen."""
