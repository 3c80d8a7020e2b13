"""How an HTTP upstream is reached, as plain values: secrets are resolved before they come here."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from connectors.http_connection import Limits

Transport = Literal["auto", "http", "sse"]


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Settings of one upstream."""

    url: str
    transport: Transport = "auto"
    headers: Mapping[str, str] = {}
    """On every request; a credential's headers take the place of equal ones."""
    timeout_s: float = 60.0
    """For requests of discovery and listing; calls bring their own."""
    timeout_cap_s: float = 600.0
    max_in_flight: int = 64
    keep_alive_s: float = 4.0
    connect_timeout_s: float = 10.0

    def __repr__(self) -> str:
        return f"HttpSettings({self.url!r})"

    @property
    def limits(self) -> Limits:
        """What its pool of connections allows."""
        return Limits(
            max_in_flight=self.max_in_flight,
            keep_alive_s=self.keep_alive_s,
            connect_timeout_s=self.connect_timeout_s,
        )
