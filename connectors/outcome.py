"""The neutral outcome of a request: events as they come, ended by one result or failure.

Every connector emits these, whatever its upstream speaks; ``hub.domain.outcome`` takes them over as
they are. Bodies are JSON text that nobody has looked into yet.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal, Protocol, runtime_checkable

from msgspec import Raw, Struct

FailureKind = Literal[
    "unreachable",  # nothing was executed: no connection, circuit open, queue deadline
    "timeout",  # sent, no answer in time; may have been executed
    "disconnected",  # sent, the connection or child ended before the answer; may have been executed
    "violation",  # the answer broke the protocol
    "status",  # an HTTP status that carries no protocol answer
    "error",  # the upstream answered with an error of its protocol
    "unsupported",  # this upstream cannot do that (missing feature, era that cannot be crossed)
]


class Progress(Struct, frozen=True, gc=False):
    """Work goes on. ``params`` are those of the notification without its token."""

    params: dict[str, Raw]


class Log(Struct, frozen=True, gc=False):
    """A log message for the caller. ``params`` are those of ``notifications/message``."""

    params: dict[str, Raw]


class Chunk(Struct, frozen=True, gc=False):
    """A piece of a streamed body, in order; the result follows when all were sent."""

    data: bytes


class Result(Struct, frozen=True, gc=False):
    """The request succeeded. ``body`` is a JSON object, the ``result`` member on the MCP wires."""

    body: Raw
    input_required: bool = False
    """The leg ended by asking the caller for input (2026-07-28, ``resultType: input_required``)."""
    forms: dict[str, tuple[bytes, bytes]] | None = None
    """Where surfaces keep how a body looks on each wire, before and behind the call id; None for a
    body that is not given again."""
    members: dict[str, Raw] | None = None
    """The body one level deep, where it was read already."""


class Failure(Struct, frozen=True, gc=False):
    """The request failed. For ``error`` the code, message and data are the upstream's own words."""

    kind: FailureKind
    message: str
    code: int | None = None
    data: Raw | None = None
    status: int | None = None
    retry_after_s: float | None = None
    challenge: str | None = None
    """The upstream's ``WWW-Authenticate``, for whoever renews its credential."""


class Ask(Struct, frozen=True):
    """The upstream asks the caller something (elicitation, sampling, roots) and waits for ``answer``.

    ``answer`` takes the result object, or a Failure to decline; it never raises.
    """

    method: str
    params: Raw
    answer: Callable[[Raw | Failure], Awaitable[None]]


class Withdrawn(Struct, frozen=True):
    """The upstream wants no answer to ``ask`` any more; one that comes nevertheless is dropped."""

    ask: Ask


class Pause(Struct, frozen=True, gc=False):
    """The upstream ended its stream before the answer, to be asked again for the rest of it.

    The connector does that, after ``retry_ms`` milliseconds where the upstream named a time. Events go on
    then; callers that can do the same may be sent away meanwhile (2025-11-25 transports).
    """

    retry_ms: int | None


Event = Progress | Log | Chunk | Ask | Withdrawn | Pause | Result | Failure
"""``Result`` and ``Failure`` end the outcome; nothing follows them."""


class Outcome(Protocol):
    """Events of one request; ``aclose`` before the end gives the request up and tells the upstream."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def __anext__(self) -> Awaitable[Event]: ...

    def aclose(self) -> Awaitable[None]:
        """Give up; what tells the upstream happens before the first await. Idempotent."""
        ...


@runtime_checkable
class Prompt(Protocol):
    """An outcome that can be asked without awaiting, for callers that want no task per call."""

    def first(self, take: Callable[[Event | None], None]) -> None:
        """Send the request. ``take`` is called once, now or later on the event loop.

        It gets the first event, or None where that has to be awaited; all others are awaited.
        """
        ...
