"""What guards look at: JSON from callers and upstreams, whole and in pieces."""

import json
from functools import cache
from typing import Any

from msgspec import Raw

from hub.domain.guarding import Context
from hub.domain.rules import Attach, CheckName, GuardrailSpec
from hub.guard.callouts import Callouts
from hub.guard.chain import Guardrail, Passed, inspected
from hub.guard.checks import made
from hub.guard.stream import TextStream
from tests.fuzz.mutation import JSON_WORDS
from tests.fuzz.target import Target, pure

CONTEXT = Context(
    direction="request",
    tenant="default",
    operation="tools/call",
    schema=Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}'),
)
OPTIONS: dict[CheckName, Any] = {
    "secrets": {},
    "personal_data": {},
    "words": {"words": ["swordfish", "naïve"], "patterns": ["op.{2,5}ra"]},
    "hidden_text": {},
    "urls": {"allow": ["example.org"]},
    "injection": {},
    "json_schema": {},
    "size": {"max_depth": 6},
    "allowed_values": {"arguments": {"a": ["b"]}},
}


@cache
def guardrails(*checks: CheckName) -> tuple[Guardrail, ...]:
    return tuple(
        made(
            GuardrailSpec(
                name=check,
                check=check,
                on=("request",),
                action="redact",
                attach=Attach(tenant="default"),
                options=Raw(json.dumps(OPTIONS[check]).encode()),
            ),
            Callouts(lambda value: value),
        )
        for check in checks
    )


def content(data: bytes) -> None:
    """Whatever comes has a verdict; what goes on is JSON of the same shape, and clean."""
    passed = inspected(guardrails(*OPTIONS), data, CONTEXT)
    assert isinstance(passed, Passed)
    if not passed.notes:
        assert passed.body == data
    again = inspected(guardrails("secrets", "personal_data", "words"), data, CONTEXT)
    assert isinstance(again, Passed)
    if again.blocked_by or again.body == data:
        return
    # Not msgspec: it takes no halves of surrogate pairs, which pass as they are.
    assert shape_of(again.body) == shape_of(data)


def shape_of(text: bytes) -> Any:
    """How values are nested, whatever they and their names are; names may be equal."""
    value = json.loads(text, object_pairs_hook=lambda pairs: [item for _, item in pairs])
    return nested(value)


def nested(value: Any) -> Any:
    return [nested(item) for item in value] if isinstance(value, list) else None


def stream(data: bytes) -> None:
    """Where the pieces are cut makes no difference; the first byte says where."""
    step, text = 1 + data[:1].ljust(1, b"\0")[0] % 16, data[1:]
    rules = guardrails("secrets", "personal_data", "words")
    whole, pieces = TextStream(rules, CONTEXT), TextStream(rules, CONTEXT)
    once = whole.feed(text) + whole.end()
    out = b"".join(pieces.feed(text[at : at + step]) for at in range(0, len(text), step))
    assert out + pieces.end() == once
    assert pieces.notes == whole.notes


WORDS = (
    b"AKIAEXAMPLEKEY234567", b"ghp_", b"4111 1111 1111 1111", b"4111111111111111", b"a@b.example",
    b"swordfish", b"sword", b"opera", b"\\u0041", b"\\ud800", b"\xe2\x80\x8b", b"password", b"=", b"://",
    b"\xf0\x9f\x98\x80", b"QUtJQUVYQU1QTEVLRVkyMzQ1Njc=", b"123-45-6789", b"GB82 WEST 1234 5698 7654 32",
)  # fmt: skip

TARGETS = (
    Target("guarded_content", pure(content), (*JSON_WORDS, *WORDS), max_bytes=2048),
    Target("guarded_stream", pure(stream), WORDS, max_bytes=1024),
)
