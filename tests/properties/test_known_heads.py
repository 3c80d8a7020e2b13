"""Known heads: nothing but one message with the very same head and length is taken for known."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_wire.known_heads import MAX_HEAD_BYTES, KnownHeads

lines = st.sampled_from([
    b"POST /mcp HTTP/1.1", b"Host: a", b"Content-Length: 3", b"X: \r", b"", b"\r", b"\n",
])  # fmt: skip
heads = st.lists(lines, min_size=1, max_size=5).map(lambda some: b"\r\n".join(some) + b"\r\n\r\n")
bodies = st.binary(max_size=6) | st.sampled_from([b"\r\n\r\n", b"\r\n\r\nabc"])


@given(head=heads, body=bodies, again=bodies, peer=st.sampled_from(["a", "b"]))
def test_the_same_head_and_length_are_known_from_the_same_peer(
    head: bytes, body: bytes, again: bytes, peer: str
) -> None:
    known: KnownHeads[str] = KnownHeads(8)
    known.keep(head + body, body, "read", "a")
    is_one_head = head.find(b"\r\n\r\n") + 4 == len(head)
    found = known.find(head + again, peer)
    if is_one_head and len(again) == len(body) and peer == "a":
        assert found == ("read", again)
    else:
        assert found is None


@given(head=heads, body=bodies, cut=st.integers(0, 60), more=st.binary(max_size=3))
def test_parts_of_a_message_and_messages_with_something_behind_are_not_known(
    head: bytes, body: bytes, cut: int, more: bytes
) -> None:
    known: KnownHeads[str] = KnownHeads(8)
    whole = head + body
    known.keep(whole, body, "read")
    if len(whole[:cut]) < len(whole):
        assert known.find(whole[:cut]) is None
    if more:
        assert known.find(whole + more) is None


@given(head=heads, body=bodies, said=bodies)
def test_a_message_that_came_with_something_else_is_not_kept(
    head: bytes, body: bytes, said: bytes
) -> None:
    known: KnownHeads[str] = KnownHeads(8)
    known.keep(head + body, said, "read")
    assert known.find(head + body) is None or body == said


def test_what_strangers_send_is_kept_within_bounds() -> None:
    known: KnownHeads[int] = KnownHeads(8)
    for number in range(9):
        known.keep(b"%d\r\n\r\n" % number, b"", number)
    assert known.find(b"8\r\n\r\n") == (8, b"")
    assert known.find(b"0\r\n\r\n") is None
    long = b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"
    known.keep(long, b"", 0)
    assert known.find(long) is None
