"""The neutral outcome of a call.

Connectors emit it as it is, so most types are theirs; a refusal is the hub's own way to end a call.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw

from connectors.outcome import (
    Ask,
    Chunk,
    Event,
    Failure,
    FailureKind,
    Log,
    Outcome,
    Pause,
    Progress,
    Result,
    Withdrawn,
)

__all__ = [
    "Ask",
    "Chunk",
    "Event",
    "Failure",
    "FailureKind",
    "Log",
    "Outcome",
    "Pause",
    "Progress",
    "Refusal",
    "RefusalReason",
    "Result",
    "Withdrawn",
]

RefusalReason = Literal[
    "unauthenticated",
    "absent",  # unknown or denied capability: the caller cannot tell which
    "virtual_server",  # unknown or denied virtual server
    "invalid",  # parameters that cannot be meant
    "limit",
    "budget",
    "guardrail",
    "unavailable",  # no room for the record, draining
    "forbidden",  # an administrative action beyond the principal's role
    "conflict",  # an administrative change that something else owns
]


class Refusal(Exception):  # noqa: N818 -- the glossary's word
    """A call the hub itself turns down, at any stage; ``wire_errors`` words it per wire.

    ``message`` is for the caller and tells nothing that its own view does not hold; ``cause`` is for
    the record and for ``explain``.
    """

    def __init__(
        self,
        reason: RefusalReason,
        message: str = "",
        *,
        cause: str = "",
        rule: str = "",
        data: Raw | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``rule``: name of the guardrail, limit or budget that turned it down."""
        super().__init__(message or reason)
        self.reason: RefusalReason = reason
        self.message = message
        self.cause = cause or reason
        self.rule = rule
        self.data = data
        self.headers = dict(headers or {})
