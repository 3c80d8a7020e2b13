"""A connector behind its circuit, which knows how many requests are under way."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Protocol, Self, runtime_checkable

from connectors.circuit import Circuit
from connectors.errors import Unreachable
from connectors.outcome import Ask, Event, Failure, Outcome, Result
from connectors.protocol import Connector, Credential, Listing, Request, ServerIdentity

_COUNTED: Final = frozenset(("unreachable", "timeout", "disconnected", "violation"))
_SERVER_ERROR: Final = 500


@runtime_checkable
class Talkative(Protocol):
    """A connector whose upstream has a standard error of its own."""

    @property
    def logs(self) -> Sequence[str]:
        """Its last lines, oldest first."""
        ...


class GuardedConnector:
    """See :class:`connectors.protocol.Connector`; while the circuit is open nothing is sent."""

    def __init__(self, upstream: str, connector: Connector, circuit: Circuit) -> None:
        self.upstream = upstream
        self.circuit = circuit
        self.send = connector.invoke
        """Sends a request whatever the circuit says."""
        self._connector = connector
        self.in_flight = 0
        """How many requests are under way."""
        self._idle: Callable[[], None] | None = None

    @property
    def logs(self) -> Sequence[str]:
        """What its children said lately; nothing where it has no children."""
        return self._connector.logs if isinstance(self._connector, Talkative) else ()

    async def open(self) -> ServerIdentity:
        """See :meth:`connectors.protocol.Connector.open`."""
        return await self._connector.open()

    async def list(self) -> Listing:
        """See :meth:`connectors.protocol.Connector.list`."""
        return await self._connector.list()

    def invoke(self, request: Request, credential: Credential) -> Outcome:
        """See :meth:`connectors.protocol.Connector.invoke`."""
        return GuardedOutcome(self, request, credential)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """See :meth:`connectors.protocol.Connector.watch`."""
        return await self._connector.watch(uris)

    async def close(self) -> None:
        """See :meth:`connectors.protocol.Connector.close`."""
        await self._connector.close()

    def on_idle(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called once nothing is under way; at once when nothing is."""
        self._idle = listener
        if self.in_flight == 0:
            listener()

    def ended(self) -> None:
        """A request is over."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._idle is not None:
            self._idle()


class GuardedOutcome:
    """The outcome of one request; its end tells the circuit how the upstream is doing."""

    __slots__ = ("_credential", "_events", "_guard", "_over", "_request", "_take")

    def __init__(self, guard: GuardedConnector, request: Request, credential: Credential) -> None:
        self._guard = guard
        self._request = request
        self._credential = credential
        self._events: Outcome | None = None
        self._over = False
        self._take: Callable[[Event | None], None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._events is None:
            if self._over:
                raise StopAsyncIteration
            if not self._guard.circuit.admits():
                self._over = True
                return _left_alone(self._guard)
            self._events = self._guard.send(self._request, self._credential)
            self._guard.in_flight += 1
        event = await self._events.__anext__()
        self._note(event)
        if isinstance(event, Result | Failure):
            # A generator lets go of what it holds only when it is closed.
            await self._events.aclose()
        return event

    def first(self, take: Callable[[Event | None], None]) -> None:
        """See :class:`connectors.outcome.Prompt`."""
        guard = self._guard
        if self._over or (guard.circuit.failures and not guard.circuit.admits()):
            self._over = True
            take(_left_alone(guard))
            return
        self._events = guard.send(self._request, self._credential)
        guard.in_flight += 1
        ask = getattr(self._events, "first", None)
        if ask is None:
            take(None)
            return
        self._take = take
        ask(self._took)

    def _took(self, event: Event | None) -> None:
        if event is not None:
            self._note(event)
        take, self._take = self._take, None
        if take is not None:
            take(event)

    async def aclose(self) -> None:
        """Give up; see :class:`connectors.outcome.Outcome`."""
        self._end(None)
        if self._events is not None:
            await self._events.aclose()

    def _note(self, event: Event) -> None:
        if isinstance(event, Result | Failure):
            self._end(event)
        elif isinstance(event, Ask) and self._guard.circuit.failures:
            self._guard.circuit.succeeded()  # it may wait for its caller for long, and it is there

    def _end(self, event: Result | Failure | None) -> None:
        if self._over:
            return
        self._over = True
        if self._events is None:
            return
        circuit = self._guard.circuit
        if event is None:
            circuit.given_up()
        elif isinstance(event, Failure) and _counts(event):
            circuit.failed()
        elif circuit.failures:
            circuit.succeeded()
        self._guard.ended()


def _counts(failure: Failure) -> bool:
    """Whether a failure is the upstream's doing, rather than an answer that says no."""
    server_error = failure.status is not None and failure.status >= _SERVER_ERROR
    return failure.kind in _COUNTED or (failure.kind == "status" and server_error)


def _left_alone(guard: GuardedConnector) -> Failure:
    return Failure(
        "unreachable",
        f"{guard.upstream} failed several times in a row and is left alone for a moment",
        retry_after_s=guard.circuit.retry_after_s,
    )


class NoConnector:
    """Stands in where no connector could be made, or there is none any more."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def open(self) -> ServerIdentity:
        """Raises Unreachable with the reason."""
        raise Unreachable(self._reason)

    async def list(self) -> Listing:
        """Raises Unreachable with the reason."""
        raise Unreachable(self._reason)

    def invoke(self, request: Request, credential: Credential) -> Outcome:
        """Fails at once."""
        del request, credential
        return self.fail()

    async def fail(self) -> AsyncGenerator[Event]:
        """The outcome of every request."""
        yield Failure("unreachable", self._reason)

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Honours nothing."""
        del uris
        return frozenset()

    async def close(self) -> None:
        """There is nothing to close."""
