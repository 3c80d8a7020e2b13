"""What a caller names by exposed name, said in the upstream's own names."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from hub.catalog.names import original_uri
from hub.domain.call import Call
from hub.domain.catalog import Exposure
from hub.domain.outcome import Refusal
from mcp_wire.jsonrpc import decode_members, raw


def original_params(
    call: Call, exposure: Exposure, params: Mapping[str, Raw]
) -> tuple[Mapping[str, Raw], str]:
    """``params`` for the upstream, and the name that routing headers carry.

    Raises Refusal ``invalid`` when a completion's ``ref`` is no object.
    """
    original = exposure.capability.name
    if call.operation in ("tools/call", "prompts/get"):
        if original == exposure.name:
            return params, original
        return {**params, "name": raw(original)}, original
    if call.operation == "completion/complete":
        return _completion(exposure, params)
    uri = original_uri(exposure, call.target.name)
    return {**params, "uri": raw(uri)}, uri


def _completion(exposure: Exposure, params: Mapping[str, Raw]) -> tuple[Mapping[str, Raw], str]:
    try:
        reference = decode_members(params.get("ref", b""))
    except msgspec.DecodeError as error:
        raise Refusal("invalid", "'ref' must be an object.") from error
    original = exposure.capability.name
    reference["name" if exposure.kind == "prompt" else "uri"] = raw(original)
    return {**params, "ref": raw(reference)}, original
