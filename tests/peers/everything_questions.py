"""Tools of the conformance kit's upstream that ask the caller for something before they answer.

Before 2026-07-28 a server pushes a request to its client while the call runs; from then on it
answers ``input_required``, and the client calls again with what was asked for. Most servers that
speak both eras have tools that only know one way, and so has this one: which way is part of the
tool. Built ``bilingual`` it has none of that kind, and each call asks as its era does.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.message import ServerMessageMetadata

DEFAULTS: Final[dict[str, Any]] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {
        "type": "string",
        "enum": ["active", "inactive", "pending"],
        "default": "active",
    },
    "verified": {"type": "boolean", "default": True},
}
"""A field of each primitive type, with the defaults the kit looks for."""

CHOICES: Final = ("option1", "option2", "option3")
TITLED: Final = [
    {"const": f"value{number}", "title": f"{word} option"}
    for number, word in enumerate(("First", "Second", "Third"), start=1)
]
ENUMS: Final[dict[str, Any]] = {
    "untitledSingle": {"type": "string", "enum": [*CHOICES]},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": [*CHOICES]}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}
"""Every way to write down a choice."""


@dataclass(frozen=True)
class Round:
    """What a call knows when it goes on: everything that was asked for last, and its own state."""

    responses: Mapping[str, types.InputResponse]
    state: str | None
    declared: types.ClientCapabilities

    def field(self, key: str, name: str) -> Any:
        """One field of a form that was filled in; None where it was not."""
        answer = self.responses.get(key)
        if not isinstance(answer, types.ElicitResult) or answer.action != "accept":
            return None
        return (answer.content or {}).get(name)


Asked = str | types.InputRequiredResult
Step = Callable[[Round], Asked]
"""What a call does in a round: answer, or ask for more."""
Way = Literal["push", "return"]


def form(message: str, **fields: str) -> types.ElicitRequest:
    """A form of required fields: name and JSON type of each."""
    return _form(message, {name: {"type": kind} for name, kind in fields.items()}, [*fields])


def _form(message: str, properties: Mapping[str, Any], required: list[str]) -> types.ElicitRequest:
    schema = {"type": "object", "properties": {**properties}, "required": required}
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=schema)
    )


def completion(prompt: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    """A question to the caller's model."""
    text = types.TextContent(type="text", text=prompt)
    params = types.CreateMessageRequestParams(
        messages=[types.SamplingMessage(role="user", content=text)], max_tokens=max_tokens
    )
    return types.CreateMessageRequest(params=params)


def wanted(state: str | None = None, /, **requests: types.InputRequest) -> Asked:
    """The answer that asks for something. State goes out sealed by the SDK, not by us."""
    return types.InputRequiredResult(input_requests=requests, request_state=state)


class Asking:
    """Runs steps in the way of their tool, or in the way of the caller's era."""

    def __init__(self, *, bilingual: bool) -> None:
        self._bilingual = bilingual

    async def run(self, ctx: Context[Any, Any], way: Way, step: Step) -> Asked:
        """The answer of a call; on the pushing way its questions are asked here, one by one."""
        declared = ctx.client_capabilities or types.ClientCapabilities()
        if self._bilingual:
            way = "return" if (ctx.protocol_version or "") >= "2026" else "push"
        if way == "return":
            return step(Round(ctx.input_responses or {}, ctx.request_state, declared))
        answer = step(Round({}, None, declared))
        while isinstance(answer, types.InputRequiredResult):
            responses = {
                key: await _pushed(ctx, request)
                for key, request in (answer.input_requests or {}).items()
            }
            answer = step(Round(responses, answer.request_state, declared))
        return answer


async def _pushed(ctx: Context[Any, Any], request: types.InputRequest) -> types.InputResponse:
    kinds: Mapping[str, Any] = {
        "elicitation/create": types.ElicitResult,
        "sampling/createMessage": types.CreateMessageResult,
        "roots/list": types.ListRootsResult,
    }
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    answer: types.InputResponse = await ctx.session.send_request(
        request, kinds[request.method], metadata=related
    )
    return answer


def add_pushing_tools(server: MCPServer[Any], asking: Asking) -> None:
    """Tools written for the legacy eras: they need a client that can be asked at any time."""

    def step(request: types.InputRequest, now: Round) -> Asked:
        if "it" not in now.responses:
            return wanted(it=request)
        answer = now.responses["it"].model_dump(by_alias=True, mode="json", exclude_none=True)
        return f"The answer was {json.dumps(answer)}"

    @server.tool()
    async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> Asked:
        """Ask the caller's model."""
        return await asking.run(ctx, "push", partial(step, completion(prompt)))

    @server.tool()
    async def test_elicitation(message: str, ctx: Context[Any, Any]) -> Asked:
        """Ask the caller for a name and an address."""
        question = form(message, username="string", email="string")
        return await asking.run(ctx, "push", partial(step, question))

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> Asked:
        """Ask with a default for every field."""
        return await asking.run(ctx, "push", partial(step, _form("Who are you?", DEFAULTS, [])))

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> Asked:
        """Ask for choices of every kind."""
        return await asking.run(ctx, "push", partial(step, _form("Choose.", ENUMS, [])))


def add_asking_tools(server: MCPServer[Any], asking: Asking) -> None:
    """Tools written for 2026-07-28: they answer ``input_required`` until they have everything."""

    def tool(step: Step) -> Callable[..., Any]:
        async def run(ctx: Context[Any, Any]) -> Asked:
            return await asking.run(ctx, "return", step)

        return run

    for name, step in STEPS.items():
        server.add_tool(tool(step), name=name, description=step.__doc__)

    @server.tool()
    async def test_streaming_elicitation(ctx: Context[Any, Any]) -> Asked:
        """Report progress, then want to know whether to go on."""
        await ctx.report_progress(1, 2, "half done")
        return await asking.run(ctx, "return", confirmed)


def add_asking_prompt(server: MCPServer[Any], asking: Asking) -> None:
    """The same for a prompt."""

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Context[Any, Any]) -> Asked:
        """Wants the context first."""
        return await asking.run(ctx, "return", in_context)


def named(now: Round) -> Asked:
    """Want a name."""
    name = now.field("user_name", "name")
    if name is not None:
        return f"Hello, {name}!"
    return wanted(user_name=form("What is your name?", name="string"))


def in_context(now: Round) -> Asked:
    """Want the context."""
    context = now.field("user_context", "context")
    if context is not None:
        return f"Consider this context: {context}"
    return wanted(user_context=form("Which context is it to consider?", context="string"))


def completed(now: Round) -> Asked:
    """Want the word of the caller's model."""
    answer = now.responses.get("capital")
    if isinstance(answer, types.CreateMessageResult):
        return f"The model says: {getattr(answer.content, 'text', '')}"
    return wanted(capital=completion("What is the capital of France?"))


def rooted(now: Round) -> Asked:
    """Want the caller's roots."""
    answer = now.responses.get("roots")
    if isinstance(answer, types.ListRootsResult):
        return f"{len(answer.roots)} roots"
    return wanted(roots=types.ListRootsRequest())


def confirmed(now: Round) -> Asked:
    """Want a confirmation, and the state back."""
    if now.field("confirm", "ok") is not None and now.state == "asked":
        return "state-ok"
    return wanted("asked", confirm=form("Please confirm.", ok="boolean"))


def kept(now: Round) -> Asked:
    """Want the state back as it was."""
    if now.state is not None:
        return f"state-ok: {now.state}"
    return wanted("asked", confirm=form("Please confirm.", ok="boolean"))


def in_rounds(now: Round) -> Asked:
    """Want a name, then a color."""
    name, color = now.field("name", "name"), now.field("color", "color")
    if color is not None and now.state is not None:
        return f"{json.loads(now.state)['name']} likes {color}."
    if name is not None:
        question = form("Which color do you like?", color="string")
        return wanted(json.dumps({"name": name}), color=question)
    return wanted(json.dumps({"name": None}), name=form("What is your name?", name="string"))


def all_at_once(now: Round) -> Asked:
    """Want a name, a greeting and the roots at once."""
    questions: types.InputRequests = {
        "name": form("What is your name?", name="string"),
        "greeting": completion("Write a greeting.", 50),
        "roots": types.ListRootsRequest(),
    }
    if questions.keys() <= now.responses.keys():
        return "Everything is there."
    return wanted("asked", **questions)


def what_can_be_given(now: Round) -> Asked:
    """Want whatever the caller can give."""
    questions: types.InputRequests = {}
    if now.declared.sampling is not None:
        questions["greeting"] = completion("Write a greeting.", 50)
    if now.declared.elicitation is not None:
        questions["name"] = form("What is your name?", name="string")
    if not questions or now.responses:
        return "There is nothing to ask for."
    return wanted(**questions)


STEPS: Final[Mapping[str, Step]] = {
    "test_input_required_result_elicitation": named,
    "test_input_required_result_sampling": completed,
    "test_input_required_result_list_roots": rooted,
    "test_input_required_result_request_state": confirmed,
    "test_input_required_result_tampered_state": kept,
    "test_input_required_result_multi_round": in_rounds,
    "test_input_required_result_multiple_inputs": all_at_once,
    "test_input_required_result_capabilities": what_can_be_given,
}
"""Tool -> what it does in a round."""
