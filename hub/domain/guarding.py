"""What a guard says of content."""

from typing import Literal

from msgspec import Raw, Struct

from hub.domain.catalog import CapabilityId
from hub.domain.rules import Direction


class Span(Struct, frozen=True, gc=False):
    """A piece of a content's text, and what it is taken for (``email``, ``aws_access_key``)."""

    start: int
    """Index of its first character; ``end``: behind its last."""
    end: int
    label: str


class Verdict(Struct, frozen=True, gc=False):
    """What a guard found. It never holds any of the content."""

    outcome: Literal["allow", "redact", "block", "require_approval"] = "allow"
    """``redact``: cutting ``spans`` out is enough, where the rule's action is to redact; what a guard
    cannot point at it blocks."""
    spans: tuple[Span, ...] = ()
    reason: str = ""
    """What was found, in words for administrators: kinds and counts."""


ALLOW = Verdict()


class Context(Struct, frozen=True, kw_only=True, gc=False):
    """Where content was met: what guards may know beside it."""

    direction: Direction
    tenant: str
    principal: str = ""
    groups: frozenset[str] = frozenset()
    key: str = ""
    """Identifier of the key, never the key."""
    virtual_server: str = ""
    operation: str = ""
    """The wire's own word: ``tools/call``."""
    target: str = ""
    """Exposed name or URI."""
    capability: CapabilityId | None = None
    call: str = ""
    schema: Raw | None = None
    """The JSON Schema that content of this direction promises to fulfil, if any."""
