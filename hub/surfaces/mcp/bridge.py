"""The one place that knows pairs of eras: what of an outcome its caller can be shown, and asked.

Works within one era: a legacy caller is asked while its request runs, a modern one gets
``input_required`` and comes back. Across eras neither can be carried yet, and both ends are told.
"""

from typing import Final

import msgspec

from hub.domain.call import CallerTraits
from hub.domain.outcome import Ask, Failure, Result
from mcp_wire.jsonrpc import members_of, string_of
from mcp_wire.revisions import LATEST_MODERN, Era, era_of

_NEEDED: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""What a client must have declared to be asked."""


def why_not_asked(asked: Ask, caller: CallerTraits) -> Failure | None:
    """Why a caller cannot be asked this; None when it can."""
    if era_of(caller.revision) == "modern":
        return Failure(
            "unsupported",
            f"A caller of {LATEST_MODERN} cannot be asked while its request runs: {asked.method}.",
        )
    feature = _NEEDED.get(asked.method)
    try:
        declared = members_of(caller.client_capabilities)
        if feature is None or feature not in declared:
            return Failure("unsupported", f"The caller does not support {asked.method}.")
        mode = string_of(members_of(asked.params).get("mode"))
        if mode == "url" and "url" not in members_of(declared[feature]):
            return Failure("unsupported", "The caller does not support elicitation by URL.")
    except (msgspec.DecodeError, RecursionError):
        return Failure("unsupported", f"The request cannot be carried: {asked.method}.")
    return None


def shown(end: Result | Failure, era: Era) -> Result | Failure:
    """How an outcome's end is shown in the caller's era."""
    if isinstance(end, Result) and end.input_required and era == "legacy":
        return Failure(
            "unsupported",
            f"it asks for input in the way of {LATEST_MODERN}, which this caller does not speak",
        )
    return end
