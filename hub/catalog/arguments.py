"""Argument rules of an exposure, applied to what a caller sent."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from hub.domain.catalog import Exposure
from hub.domain.outcome import Refusal
from mcp_wire.jsonrpc import decode_members, raw


def effective_params(exposure: Exposure, params: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """``params`` of a tool call with fixed and default arguments in place.

    A fixed value replaces whatever the caller sent; a hidden argument that is not fixed cannot be
    set at all. Raises Refusal ``invalid`` when ``arguments`` is no object.
    """
    if not exposure.arguments:
        return params
    try:
        arguments = decode_members(params["arguments"]) if "arguments" in params else {}
    except msgspec.DecodeError as error:
        raise Refusal("invalid", "'arguments' must be an object.") from error
    for name, rule in exposure.arguments.items():
        if rule.fix is not None:
            arguments[name] = rule.fix
        elif rule.hide:
            arguments.pop(name, None)
        if rule.default is not None:
            arguments.setdefault(name, rule.default)
    return {**params, "arguments": raw(arguments)}
