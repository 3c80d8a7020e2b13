"""What can go wrong on the way to an upstream.

ConnectorError                something of this package
├── Unreachable               no connection: refused, unresolved, TLS, child did not start
├── ProtocolViolation         the upstream answered, and not what its protocol allows
├── ErrorAnswer               the upstream answered discovery or listing with an error of its protocol
├── Inconclusive              a probe that says nothing about the era (401, 403, 429, 5xx, timeout)
├── AddressRefused            the address guard does not let this address be reached
└── Misconfigured             the settings cannot work (unknown executable, bad OpenAPI document)

A request that was sent and failed is not an exception but an :class:`connectors.outcome.Failure`.
"""


class ConnectorError(Exception):
    """Anything this package raises; the message is fit for an administrator and holds no secret."""


class Unreachable(ConnectorError):
    """No connection could be made; nothing was executed."""


class ProtocolViolation(ConnectorError):
    """The upstream broke its protocol in an answer to discovery or listing."""


class ErrorAnswer(ConnectorError):
    """The upstream turned a request of discovery or listing down, in the words of its protocol."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class Inconclusive(ConnectorError):
    """The probe says nothing about the upstream's era; it must be asked again (mcp.md C2)."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        challenge: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.challenge = challenge
        """The upstream's ``WWW-Authenticate``."""


class AddressRefused(ConnectorError):
    """The address guard refused an address."""


class Misconfigured(ConnectorError):
    """The upstream's settings cannot work as written."""
