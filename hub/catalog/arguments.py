"""What a call means, from what a caller sent: the tool behind ``call_tool``, and argument rules."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from hub.catalog.system_tools import CALL_TOOL
from hub.domain.call import Call, Target
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.outcome import Refusal
from mcp_wire.jsonrpc import EMPTY_OBJECT, decode_members, raw, string_of


def unwrap(call: Call, server: VirtualServer | None) -> Call:
    """The call that ``call_tool`` asks for, so that it is decided and recorded as what it is.

    Everything else, and what cannot be understood, comes back as it is: the one is a call of its
    own, the other is answered by ``call_tool`` itself.
    """
    if (
        call.target.name != CALL_TOOL
        or call.operation != "tools/call"
        or server is None
        or CALL_TOOL not in server.system_tools
    ):
        return call
    try:
        members = decode_members(call.params.get("arguments", b""))
        name, arguments = string_of(members.get("name")), members.get("arguments", EMPTY_OBJECT)
        decode_members(arguments)
    except msgspec.DecodeError:
        return call
    if name is None or name == CALL_TOOL:
        return call
    params = {**call.params, "name": raw(name), "arguments": arguments}
    return replace(call, target=Target("tool", name), params=params)


def effective_params(exposure: Exposure, call: Call) -> Mapping[str, Raw]:
    """The parameters of a call with fixed and default arguments in place.

    A fixed value replaces whatever the caller sent; a hidden argument that is not fixed cannot be
    set at all. What is completed may be any argument that is shown. Raises Refusal ``invalid`` when
    ``arguments`` is no object, and for the completion of a hidden argument.
    """
    if not exposure.arguments:
        return call.params
    try:
        if call.operation == "completion/complete":
            return _completed(exposure, call.params)
        return {**call.params, "arguments": raw(_ruled(exposure, call.params.get("arguments")))}
    except msgspec.DecodeError as error:
        raise Refusal("invalid", "'arguments' must be an object.") from error


def _ruled(exposure: Exposure, sent: Raw | None) -> dict[str, Raw]:
    arguments = decode_members(sent) if sent is not None else {}
    for name, rule in exposure.arguments.items():
        if rule.fix is not None:
            arguments[name] = rule.fix
        elif rule.hide:
            arguments.pop(name, None)
        if rule.default is not None:
            arguments.setdefault(name, rule.default)
    return arguments


def _completed(exposure: Exposure, params: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """A completion's parameters: other arguments travel in ``context`` (2025-06-18 completion)."""
    argument = decode_members(params.get("argument", EMPTY_OBJECT))
    rule = exposure.arguments.get(string_of(argument.get("name")) or "")
    if rule is not None and rule.hide:
        raise Refusal("invalid", "There is no such argument.", cause="hidden argument")
    context = decode_members(params.get("context", EMPTY_OBJECT))
    context["arguments"] = raw(_ruled(exposure, context.get("arguments")))
    return {**params, "context": raw(context)}
