"""Event streams: however they are cut, whatever ends their lines, the same events come out."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_wire.sse import Frame, SseDecoder, SseError, encode_comment, encode_frame

line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
lines = st.one_of(
    st.just(b""),
    st.sampled_from([
        b"data", b"data:", b"data: ", b"data:  two", b"data: a", b"data:b:c", b": comment", b":",
        b"event: ping", b"event", b"id: 7", b"id", b"id: a\0b", b"retry: 250", b"retry: soon",
        b"unknown: x", b" data: no field", b"data: \xc3\xa4", b"data: \xff",
    ]),
    st.binary(max_size=8).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"")),
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    pieces = [draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))]
    for line in draw(st.lists(lines, max_size=20)):
        pieces += [line, draw(line_ends)]
    return b"".join(pieces) + draw(st.sampled_from([b"", b"data: unfinished"]))


@st.composite
def cut(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return [raw[start:end] for start, end in pairwise([0, *places, len(raw)])]


def feed_all(decoder: SseDecoder, chunks: list[bytes]) -> list[Frame]:
    return [frame for chunk in chunks for frame in decoder.feed(chunk)]


def read_by_the_book(raw: bytes) -> tuple[list[Frame], str, int | None]:
    """The algorithm of the standard, over the whole stream at once."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    complete = re.split(rb"\r\n|\n|\r", raw)[:-1]
    frames: list[Frame] = []
    data, event, last_id = b"", "", ""
    retry_ms: int | None = None
    for line in complete:
        if not line:
            if data.removesuffix(b"\n"):
                frames.append(Frame(data.removesuffix(b"\n"), event or "message", last_id))
            data, event = b"", ""
            continue
        name, colon, value = line.partition(b":")
        if colon and not name:
            continue
        value = value.removeprefix(b" ")
        if name == b"data":
            data += value + b"\n"
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            last_id = value.decode("utf-8", "replace")
        elif name == b"retry" and re.fullmatch(rb"[0-9]{1,9}", value):
            retry_ms = int(value)
    return frames, last_id, retry_ms


@given(st.data())
def test_events_do_not_depend_on_where_the_stream_is_cut(data: st.DataObject) -> None:
    raw = data.draw(streams())
    decoder = SseDecoder()
    frames = feed_all(decoder, data.draw(cut(raw)))
    assert (frames, decoder.last_id, decoder.retry_ms) == read_by_the_book(raw)


@given(streams())
def test_events_come_out_byte_by_byte(raw: bytes) -> None:
    decoder = SseDecoder()
    frames = feed_all(decoder, [bytes([byte]) for byte in raw])
    assert frames == read_by_the_book(raw)[0]


@given(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([None, "message", "endpoint"]),
    st.sampled_from([None, "", "id-1"]),
    st.sampled_from([None, 0, 1500]),
)
def test_what_is_encoded_is_decoded_again(
    content: bytes, event: str | None, event_id: str | None, retry_ms: int | None
) -> None:
    decoder = SseDecoder()
    encoded = encode_frame(content, event=event, id=event_id, retry_ms=retry_ms)
    frames = decoder.feed(encode_comment("ping") + encoded)
    expected = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert frames == ([Frame(expected, event or "message", event_id or "")] if expected else [])
    assert decoder.retry_ms == retry_ms


def test_an_event_is_dispatched_with_the_chunk_that_completes_it() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: now\r\r") == [Frame(b"now")]
    assert decoder.feed(b"\ndata: next\n\n") == [Frame(b"next")]


def test_a_return_inside_of_a_chunk_does_not_swallow_the_next_chunks_line_end() -> None:
    decoder = SseDecoder()
    assert feed_all(decoder, [b"data: a\rdata", b"\ndata: b\n\n"]) == [Frame(b"a\n\nb")]


def test_an_event_without_data_only_moves_the_id() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"id: 41\nretry: 10\ndata:\n\n") == []
    assert (decoder.last_id, decoder.retry_ms) == ("41", 10)


@pytest.mark.parametrize("piece", [b"x", b"xxxxxxx", b"data: x\n", b"data: x\n" * 100])
def test_an_event_beyond_the_limit_is_refused_before_it_is_whole(piece: bytes) -> None:
    decoder = SseDecoder(max_frame_bytes=64)
    with pytest.raises(SseError):
        feed_all(decoder, [piece] * 80)


def test_the_limit_counts_one_event_not_the_stream() -> None:
    decoder = SseDecoder(max_frame_bytes=64)
    assert len(decoder.feed(b"data: short enough\n\n" * 100)) == 100


def test_a_large_event_in_small_chunks_is_read_in_linear_time() -> None:
    decoder = SseDecoder()
    raw = b"data: " + b"x" * 8_000_000 + b"\n\n"
    frames = feed_all(decoder, [raw[start : start + 1024] for start in range(0, len(raw), 1024)])
    assert [len(frame.data) for frame in frames] == [8_000_000]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_names_and_ids_that_would_break_the_stream_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        encode_frame(b"{}", event=text)
    with pytest.raises(ValueError, match="line break"):
        encode_frame(b"{}", id=text)
    with pytest.raises(ValueError, match="line break"):
        encode_comment(text)
