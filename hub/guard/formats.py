"""How programs outside are asked about content, and how their answers are read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from hub.domain.guarding import ALLOW, Context, Span, Verdict
from hub.domain.rules import Direction
from hub.guard.content import NAME_END, VALUE_END, Content
from mcp_wire.jsonrpc import encode

VERSION: Final = 1
MAX_REASON: Final = 200

_PIECE: Final = re.compile(f"([^{NAME_END}{VALUE_END}]+)([{NAME_END}{VALUE_END}])")
_LABEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_Shape = TypeVar("_Shape")
_UNSAID: Final = re.compile(r"[\x00-\x1f\x7f]+")


class Part(Struct, frozen=True):
    """One string of the content."""

    id: str
    """The same for the same place in the same content."""
    kind: Literal["name", "value"]
    """``name``: of a member of an object."""
    text: str
    start: int
    """Where it begins in the content's text."""


class Unusable(Exception):  # noqa: N818 -- the state of the answer
    """The answer cannot be understood; the text says why, for administrators."""


class Format(Protocol):
    """One way to ask."""

    paths: Mapping[Direction, str]
    """What is put behind the configured address."""

    def question(self, rule: str, parts: Sequence[Part], context: Context) -> bytes:
        """The JSON to send."""
        ...

    def verdict(self, body: bytes, parts: Sequence[Part]) -> Verdict:
        """What the answer means. Raises Unusable."""
        ...


def parts_of(content: Content) -> list[Part]:
    """The strings of ``content`` that hold anything, names of members too. Raises Unreadable.

    A string with one of the two separators in it gives several parts.
    """
    return [
        Part(f"p{number}", "name" if found[2] == NAME_END else "value", found[1], found.start())
        for number, found in enumerate(_PIECE.finditer(content.text))
    ]


class _Portico:
    """Portico's own; see ``docs/GUARDRAILS.md``."""

    paths: Mapping[Direction, str] = {"request": "", "response": ""}

    def question(self, rule: str, parts: Sequence[Part], context: Context) -> bytes:
        return encode({
            "version": VERSION,
            "rule": rule,
            "tenant": context.tenant,
            "principal": context.principal,
            "groups": sorted(context.groups),
            "key": context.key,
            "virtual_server": context.virtual_server,
            "operation": context.operation,
            "target": context.target,
            "capability": context.capability,
            "direction": context.direction,
            "call": context.call,
            "parts": [{"id": part.id, "kind": part.kind, "text": part.text} for part in parts],
        })

    def verdict(self, body: bytes, parts: Sequence[Part]) -> Verdict:
        reply = _decoded(body, _Reply)
        reason = _clipped(reply.reason)
        if reply.action == "allow":
            return ALLOW
        if reply.action == "block":
            return Verdict("block", reason=reason)
        by_id = {part.id: part for part in parts}
        spans = tuple(_span(spot, by_id.get(spot.part)) for spot in reply.spans)
        if not spans:
            raise Unusable("it says redact and not what")
        return Verdict("redact", spans, reason)


class _Spot(Struct, frozen=True):
    part: str
    start: int
    end: int
    label: str = "redacted"


class _Reply(Struct, frozen=True):
    action: Literal["allow", "redact", "block"]
    spans: tuple[_Spot, ...] = ()
    reason: str = ""


def _span(spot: _Spot, part: Part | None) -> Span:
    if part is None or not 0 <= spot.start < spot.end <= len(part.text):
        raise Unusable("it points at text that was not sent")
    label = spot.label if _LABEL.fullmatch(spot.label) else "redacted"
    return Span(part.start + spot.start, part.start + spot.end, label)


class _Agentgateway:
    """The webhook of agentgateway's prompt guards: each part is one message or choice.

    A part that comes back changed is cut from the first to the last character that differs; what
    the program wrote in its place is not used.
    """

    paths: Mapping[Direction, str] = {"request": "/request", "response": "/response"}

    def question(self, rule: str, parts: Sequence[Part], context: Context) -> bytes:
        del rule
        if self.paths[context.direction] == "/request":
            messages = [{"role": "user", "content": part.text} for part in parts]
            return encode({"body": {"messages": messages}})
        choices = [{"message": {"role": "assistant", "content": part.text}} for part in parts]
        return encode({"body": {"choices": choices}})

    def verdict(self, body: bytes, parts: Sequence[Part]) -> Verdict:
        action = _decoded(body, _Wrapped).action
        reason = _clipped(action.get("reason"))
        masked = action.get("body")
        if "status_code" in action or isinstance(masked, str):
            return Verdict("block", reason=reason)
        if masked is None:
            return ALLOW
        texts = _texts(masked)
        if len(texts) != len(parts):
            raise Unusable("it gives back another number of texts")
        spans = tuple(
            _difference(part, text)
            for part, text in zip(parts, texts, strict=True)
            if text != part.text
        )
        return Verdict("redact", spans, reason) if spans else ALLOW


class _Wrapped(Struct, frozen=True):
    action: dict[str, Any]


def _texts(masked: Any) -> list[str]:
    try:
        messages = masked.get("messages")
        if messages is None:
            messages = [choice["message"] for choice in masked["choices"]]
        texts = [message["content"] for message in messages]
    except (AttributeError, KeyError, TypeError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise Unusable("it masks in a way that cannot be read")
    return texts


def _difference(part: Part, masked: str) -> Span:
    """The piece of a part that differs; where something was only added, the whole part."""
    text = part.text
    shorter = min(len(text), len(masked))
    start = next((at for at in range(shorter) if text[at] != masked[at]), shorter)
    tail = next(
        (at for at in range(shorter - start) if text[-1 - at] != masked[-1 - at]), shorter - start
    )
    end = len(text) - tail
    if end <= start:
        start, end = 0, len(text)
    return Span(part.start + start, part.start + end, "masked")


def _decoded(body: bytes, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(body, type=shape)
    except (ValueError, RecursionError) as error:
        raise Unusable("its answer cannot be read") from error


def _clipped(reason: object) -> str:
    return _UNSAID.sub(" ", reason)[:MAX_REASON] if isinstance(reason, str) else ""


FormatName = Literal["portico", "agentgateway"]
FORMATS: Final[Mapping[FormatName, Format]] = {
    "portico": _Portico(),
    "agentgateway": _Agentgateway(),
}
