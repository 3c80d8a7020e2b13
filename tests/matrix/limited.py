"""What is seen where a feature is limited, by the ids of ``tests.matrix.table``."""

from collections.abc import Mapping
from typing import Final

import pytest
from mcp_types import URL_ELICITATION_REQUIRED

from tests.matrix.features import (
    ELICITED,
    LOGGED,
    Check,
    stray_log,
    url_elicitation,
    url_required,
)
from tests.matrix.offerings import SIGN_IN
from tests.matrix.pairs import Pair
from tests.matrix.programs import Refused


async def array_dropped(pair: Pair) -> None:
    result = await (await pair.full()).call("numbers")
    assert "structuredContent" not in result
    assert result["content"][0]["text"] == "1, 2, 3"


async def session_shared(pair: Pair) -> None:
    client, other = await pair.full(), await pair.other()
    first = int(await client.text("visit"))
    assert int(await other.text("visit")) == first + 1


async def no_sessions(pair: Pair) -> None:
    client = await pair.full()
    assert [await client.text("visit"), await client.text("visit")] == ["1", "1"]


async def no_default_level(pair: Pair) -> None:
    client = await pair.other()
    for _ in range(2):  # what would come is there by the second answer at the latest
        assert await client.text("log", message="unasked", level="error") == "logged"
    assert client.told(LOGGED) == []


async def roots_not_announced(pair: Pair) -> None:
    client = await pair.full()
    for place in ("file:///home", "file:///work"):
        if pair.caller == "legacy":
            await client.roots_changed()
        await client.prepare(roots=[{"roots": [{"uri": place}]}])
        assert await client.text("ask_roots") == place


async def url_as_error(pair: Pair) -> None:
    client = await pair.form_only()
    with pytest.raises(Refused) as refused:
        await client.call("ask_url")
    assert refused.value.code == URL_ELICITATION_REQUIRED
    assert refused.value.data["elicitations"][0]["url"] == SIGN_IN
    assert client.told(ELICITED) == []


LIMITED: Final[Mapping[str, Check]] = {
    "array_dropped": array_dropped,
    "session_shared": session_shared,
    "no_sessions": no_sessions,
    "no_default_level": no_default_level,
    "stray_log_with_a_call": stray_log,
    "roots_not_announced": roots_not_announced,
    "elicitation_id_dropped": url_required,
    "elicitation_id_minted": url_elicitation,
    "url_as_error": url_as_error,
}
"""Id of a limit -> how it is seen."""
