"""URLs and hidden characters in text that comes in pieces: the same is cut out, however it is cut up."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.guarding import Context
from hub.guard import hidden_text, urls
from hub.guard.chain import Guardrail
from hub.guard.content import cut
from hub.guard.patterns import Hit
from hub.guard.protocol import Guard
from hub.guard.stream import Held, Searching

CONTEXT = Context(direction="response", tenant="default")
GUARDS: dict[str, Guard] = {
    "urls": urls.guard(urls.Options(allow=("good.example",))),
    "hidden_text": hidden_text.guard(hidden_text.Options()),
}
FRAGMENTS = (
    *(
        "https://",
        "http:/",
        "https:",
        "//",
        "\\\\",
        "www.",
        "://",
        "https%3A%2F%2F",
        "ftp",
        ":",
        "@",
    ),
    *(
        "good.example",
        "evil.example",
        "/path",
        "?u=",
        "localhost",
        "[::1]",
        "1.2.3.4",
        ".",
        ")",
        ",",
    ),
    *(" ", "\n", "\t", "a", "Z", "word", "1", "\x00", "\x1f", "="),
    *("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\ufe0f", "\ufe01", "\U000e0141"),
    *(
        "\U0001f3f4",
        "\U000e0067",
        "\U000e0062",
        "\U000e007f",
        "\U0001f469",
        "\u845b",
        "\u0634",
        "\u05d0",
    ),
    *("\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2069"),
)
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


def whole(hits: list[Hit], text: str) -> str:
    return cut(text, [hit.span for hit in hits])


@pytest.mark.parametrize("name", GUARDS)
@given(text=texts, data=st.data())
def test_pieces_become_what_the_whole_text_becomes(
    name: str, text: str, data: st.DataObject
) -> None:
    guard = GUARDS[name]
    assert isinstance(guard, Searching)
    guardrail = Guardrail(
        name=name, on=("response",), action="redact", mode="enforce", order=0, guard=guard
    )
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    held = Held([guardrail], CONTEXT)
    out, last = "", 0
    for place in [*places, len(text)]:
        out += held.feed(text[last:place])
        last = place
    out += held.end()
    assert out == whole(guard.hits(text), text)


@pytest.mark.parametrize("name", GUARDS)
def test_little_of_an_ordinary_text_is_held_back(name: str) -> None:
    guard = GUARDS[name]
    assert isinstance(guard, Searching)
    text = "Ordinary words, one after another, with nothing in them that anybody looks for. "
    for end in range(len(text)):
        assert end - guard.open_from(text[:end]) <= len("Ordinary ")


HOSTILE = {
    "hidden_text": (
        "\u202b",
        "\u202d",
        "\u202d1",
        "\u202b\u05d0",
        "\u202b\u202c",
        "\u200b",
        "a\u200b",
    ),
    "urls": (
        "https://",
        "http:a.",
        "https%3A%2F%2F",
        "https://a%2525",
        "https://good.example@",
        "x://\u00e4.",
    ),
}


@pytest.mark.parametrize("name", GUARDS)
def test_hostile_text_takes_no_longer_than_its_length(name: str) -> None:
    guard = GUARDS[name]
    assert isinstance(guard, Searching)
    began = time.monotonic()
    for piece in HOSTILE[name]:
        text = piece * (50_000 // len(piece)) + "\u202c"
        guard.hits(text)
        guard.open_from(text)
    assert time.monotonic() - began < 20


def test_a_host_behind_a_long_user_name_is_seen() -> None:
    guard = GUARDS["urls"]
    assert isinstance(guard, Searching)
    for size in (900, 1024, 8192, 9000):
        user = "a" * (size - len("@good.example"))
        assert guard.hits(f"https://{user}@good.example.evil.example/"), size
    assert not guard.hits("https://good.example/" + "a" * 9000)
