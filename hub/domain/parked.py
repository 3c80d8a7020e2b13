"""A call whose upstream waits for its caller: what is kept of it until the caller comes back."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from hub.domain.call import Call
from hub.domain.metering import Hold
from hub.domain.outcome import Ask, Outcome

AbandonReason = Literal[
    "expired",  # nobody came back in time
    "revoked",  # the caller may not use the capability any more
    "draining",  # this process ends
    "displaced",  # the caller parked further calls than it may
    "refused",  # the exposed name leads somewhere else by now
    "undelivered",  # its caller had gone before it could be told
]


class ParkedCall(Struct, frozen=True, kw_only=True, eq=False):
    """An open upstream request that belongs to no call at the moment (DESIGN.md section 2)."""

    handle: str
    """Unguessable; travels sealed."""
    call: Call
    """The leg that parked it: whose rights are decided anew whenever they may have changed."""
    owner: tuple[str, str]
    """Tenant and principal, who may have so many parked at a time."""
    outcome: Outcome
    questions: Mapping[str, Ask]
    """What the caller was asked, by the key its answer will have."""
    hold: Hold | None
    """What its leg reserved; given back when another leg goes on, settled when it is given up."""
    rounds: int
    """How many legs of this upstream request ended in questions."""
    abandon: Callable[[AbandonReason], None]
    """Give the upstream request up, and record that; returns at once, and is called once."""
