"""Where a Redis is and who we are there, as one URL says it."""

import ssl
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

from hub.errors import ConfigurationError

Scheme = Literal["redis", "rediss", "unix"]

_SCHEMES: Final[Mapping[str, Scheme]] = {"redis": "redis", "rediss": "rediss", "unix": "unix"}
_PORT: Final = 6379
_FORMS: Final = "redis://[user[:password]@]host[:port][/database], rediss://… or unix:///path?db=0"


class RedisAddress(Struct, frozen=True, kw_only=True):
    """One server."""

    scheme: Scheme
    host: str = ""
    port: int = _PORT
    path: str = ""
    """Of the socket, for ``unix``."""
    database: int = 0
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        """Without the password."""
        where = self.path if self.scheme == "unix" else f"{self.host}:{self.port}"
        return f"{self.scheme}://{where}"

    def tls(self) -> ssl.SSLContext | None:
        """What ``rediss`` is checked by: the machine's certificate authorities."""
        return ssl.create_default_context() if self.scheme == "rediss" else None


def redis_address(url: str) -> RedisAddress:
    """Read a URL. Raises ConfigurationError, which never repeats it: it may hold a password."""
    try:
        parts = urlsplit(url)
        scheme = _SCHEMES[parts.scheme]
        is_unix = scheme == "unix"
        if not (parts.path if is_unix else parts.hostname):
            raise ValueError
        in_path = "" if is_unix else parts.path.strip("/")
        database = parse_qs(parts.query).get("db", [in_path])[0]
        return RedisAddress(
            scheme=scheme,
            host=parts.hostname or "",
            port=parts.port or _PORT,
            path=unquote(parts.path) if is_unix else "",
            database=int(database or 0),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )
    except (KeyError, ValueError):
        raise ConfigurationError(f"This is no address of a Redis; write {_FORMS}.") from None
