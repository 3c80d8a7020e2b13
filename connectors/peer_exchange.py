"""One request on a connection that carries several, and what an upstream may ask of its caller."""

from collections.abc import Callable
from typing import Final

from connectors.exchange import Exchange
from connectors.outcome import Ask, Failure, Result, Withdrawn
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.jsonrpc import Message

ASKING_METHODS: Final = frozenset(("elicitation/create", "sampling/createMessage", "roots/list"))
"""Requests of a legacy server that are meant for the caller of the request in flight."""

COMPLETION: Final = "notifications/elicitation/complete"
"""A legacy server says so when an elicitation by URL is over (2025-11-25)."""

EVERY_LEVEL: Final = LOG_LEVELS[0]
"""What callers of the legacy era get who asked for no level: whatever the upstream chose to send."""


class PeerExchange(Exchange):
    """A request on a peer's connection, which says how it is sent, dropped and understood."""

    __slots__ = ("drop", "send", "understand")

    send: Callable[[Exchange], Failure | None]
    drop: Callable[[Exchange, str], None]
    understand: Callable[[Message], Result | Failure]

    def launch(self) -> Failure | None:
        """See :meth:`connectors.exchange.Exchange.launch`."""
        return self.send(self)

    def dismiss(self, reason: str) -> None:
        """See :meth:`connectors.exchange.Exchange.dismiss`."""
        self.drop(self, reason)

    def read(self, answer: Message) -> Result | Failure:
        """See :meth:`connectors.exchange.Exchange.read`."""
        return self.understand(answer)

    def withdrawn(self, ask: Ask) -> None:
        """A question of the upstream need not be answered any more."""
        self.replied()
        self._put(Withdrawn(ask))
