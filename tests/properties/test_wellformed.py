"""Text from outside is read whole or not at all, and half characters cost themselves only."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_wire.jsonrpc import decode_batch, decode_members, decode_message
from mcp_wire.wellformed import with_whole_characters

HALVES = re.compile("[\ud800-\udfff]")
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
"""Unpaired surrogates included, which Python writes as escapes, as JavaScript does."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def whole(value: object) -> object:
    """The same with each half of a character replaced."""
    text = HALVES.sub(r"\\ufffd", json.dumps(value, ensure_ascii=False))
    return json.loads(text)


@given(VALUES)
def test_only_halves_of_characters_are_replaced(value: object) -> None:
    written = json.dumps(value).encode()
    mended = with_whole_characters(written)
    assert json.loads(written if mended is None else mended) == whole(value)
    assert (mended is None) == (HALVES.search(json.dumps(value, ensure_ascii=False)) is None)


@given(st.lists(st.sampled_from([r"\ud83d", r"\ude00", r"\\", "u", "ud83d", r"\"", "a"])))
def test_what_only_looks_like_an_escape_stays(pieces: list[str]) -> None:
    text = f'"{"".join(pieces)}"'
    mended = with_whole_characters(text.encode())
    read = json.loads(text)
    assert json.loads(mended or text) == HALVES.sub("\ufffd", read)


@given(VALUES)
def test_a_message_with_halves_of_characters_can_be_read(value: object) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"value": value}}).encode()
    message = decode_message(body)
    assert isinstance(message.result, msgspec.Raw)
    assert json.loads(bytes(decode_members(message.result)["value"])) == whole(value)


@given(st.binary(max_size=40))
def test_bytes_are_a_message_or_no_json(body: bytes) -> None:
    for read in (decode_message, decode_batch, decode_members):
        try:
            read(body)
        except msgspec.DecodeError:
            continue


@pytest.mark.parametrize("depth", [100, 500, 800, 900, 950, 1_000, 100_000])
def test_what_was_read_once_can_be_read_again_further_down(depth: int) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"a":%b}}' % (b"[" * depth + b"]" * depth)
    try:
        message = decode_message(body)
    except msgspec.DecodeError:
        assert depth > 500
        return

    def deeper(levels: int) -> bytes:
        if levels:
            return deeper(levels - 1)
        assert isinstance(message.result, msgspec.Raw)
        return bytes(decode_members(message.result)["a"])

    assert deeper(40) == b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [b'{"result":"\xff"}', b'{"\xff":1}', b'{"result":{"a":["\xc3\x28"]}}', b'"\xed\xa0\x80"'],
)
def test_other_encodings_are_no_json(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_message(body)
