"""New inputs out of kept ones: blows to the bytes, and, where they hold JSON, to its values."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

JSON_WORDS: Final = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"true", b"1e400", b"-0", b"NaN", b"\\u0000",
    b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"9" * 30, b"9" * 5000, b"[" * 2000,
    b'{"a":' * 1200, b"\n", b"\r", b"\0", b" ", b"\t",
)  # fmt: skip
"""Pieces of JSON, and what is nearly JSON."""

_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**64, 10**400, -(10**30), 0.5, 1e308, "", " ",
    "\0", "é", "🚀", "\u2028", "a" * 300, "../..", "{", "%", "=?base64?", "=?base64?eA==?=", [], {},
    [[]], [None], {"": None}, "env:X", "file:/x", "http://h/", "2026-07-28",
)  # fmt: skip


def mutated(data: bytes, draw: Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """``data`` after one to four blows; ``others`` are inputs that pieces may be taken from."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        head, mark, body = data.rpartition(b"\n\n")
        parsed = _parsed(body) if draw.random() < 0.6 else None
        if isinstance(parsed, list | dict):
            data = head + mark + _written(_tree(parsed, draw, words))
        else:
            data = _bytes(data, draw, words, others)
    return data


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _written(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )
    except (ValueError, RecursionError):
        return b"{}"


def _bytes(data: bytes, draw: Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start = draw.randint(0, len(data))
    end = min(len(data), start + draw.choice((0, 0, 1, 2, 8, 40, 400)))
    piece = data[start:end]
    blow = draw.randrange(6)
    if blow == 0:
        new = b""
    elif blow == 1:
        new = piece * draw.choice((2, 3, 50))
    elif blow == 2:
        new = bytes(draw.randrange(256) for _ in range(draw.choice((1, 2, 4))))
    elif blow == 3 and others:
        other = draw.choice(others)
        at = draw.randint(0, len(other))
        new = other[at : at + draw.choice((4, 40, 400))]
    else:
        new = draw.choice(words) if words else piece
    return data[:start] + new + data[end:]


def _tree(root: Any, draw: Random, words: Sequence[bytes]) -> Any:
    """The same value with one member changed, removed, repeated, renamed or moved."""
    spots = list(_places(root))
    if not spots:
        return draw.choice(_VALUES)
    container, key = draw.choice(spots)
    blow = draw.randrange(6)
    if blow == 0:
        del container[key]
    elif blow == 1 and isinstance(container, dict):
        container[_word(draw, words)] = container[key]
    elif blow == 2:
        other, other_key = draw.choice(spots)
        container[key] = json.loads(_written(other[other_key]))
    elif blow == 3:
        container[key] = [container[key]] * draw.choice((1, 2, 60))
    elif blow == 4:
        container[key] = _word(draw, words)
    else:
        container[key] = draw.choice(_VALUES)
    return root


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys, in no deep recursion."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending and len(found) < 2000:
        container = pending.pop()
        entries = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in entries:
            found.append((container, key))
            if isinstance(item, list | dict):
                pending.append(item)
    return found


def _word(draw: Random, words: Sequence[bytes]) -> str:
    return draw.choice(words).decode("utf-8", "replace") if words else ""
