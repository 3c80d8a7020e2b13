"""The record: one entry per call, and what the chain around it holds."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

EntryOutcome = Literal[
    "ok", "failed", "refused", "cancelled", "input_required", "abandoned", "intent", "aggregate"
]
Delivery = Literal["offered", "none"]
Level = Literal["written", "synced", "stored"]
"""``written`` survives ``kill -9``; ``synced`` survives power loss; ``stored`` is in the database."""


LineKind = Literal["open", "entry", "torn", "seal"]
"""What a line of a chain holds: its beginning, a call, a tail found cut off, the end of a segment."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is recorded of one call. Digests are HMACs with a tenant key, hexadecimal."""

    call: str
    at: datetime
    """When the call arrived, UTC; RFC 3339 on disk."""
    tenant: str
    principal: str = ""
    key: str = ""
    surface: str
    operation: str
    virtual_server: str = ""
    target_kind: str = ""
    target: str = ""
    """Exposed name as the caller wrote it."""
    upstream: str = ""
    original: str = ""
    definition: str = ""
    """Digest of the definition that was in force."""
    outcome: EntryOutcome
    reason: str = ""
    """Why it failed or was refused: failure kind or refusal cause."""
    code: int | None = None
    status: int | None = None
    duration_us: int = 0
    arguments_digest: str = ""
    """What the upstream got."""
    caller_digest: str = ""
    """What the caller sent, where rules changed it."""
    result_digest: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    delivered: Delivery = "offered"
    interaction: str = ""
    trace: str = ""
    peer: str = ""
    groups: frozenset[str] = frozenset()
    """The principal's groups at the time."""
    rules: tuple[str, ...] = ()
    """Guardrails, limits and budgets that acted: ``name=redact``, ``name=block``, ``name=refuse``,
    ``name=monitor`` for what would have acted, ``name=alert``."""
    cost: int = 0
    """What it cost, in micro-units of ``currency``."""
    currency: str = ""
    charged: tuple[str, ...] = ()
    """Keys of the quotas and budgets it counts on (``hub.domain.metering.Counter``)."""
    count: int = 1
    """How many requests an aggregate stands for."""


class ChainLine(Struct, frozen=True, gc=False):
    """One line of a chain exactly as it was written, for stores that keep a copy."""

    writer: str
    """The chain: one per process start."""
    sequence: int
    kind: LineKind
    text: bytes
    """The whole line without its newline; its last member is the chain hash."""
