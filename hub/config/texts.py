"""Forms of text: URLs, origins, addresses, header and variable names."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE_NAME: Final = re.compile(r"[^=\x00-\x1f]+")
_SET_BY_PORTICO: Final = frozenset((
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
))


def is_http_url(value: str) -> bool:
    """Whether it is an absolute http or https URL with a sound host and port."""
    return _split(value) is not None


def is_http_origin(value: str) -> bool:
    """Whether it is an http or https URL that ends with its host and port."""
    parts = _split(value)
    return parts is not None and not (parts.path.strip("/") or parts.query or parts.fragment)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches ``address``, an IP address or 'localhost'."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def header_name_fault(name: str) -> str | None:
    """Why a header may not be configured under this name (RFC 9110 section 5.1); None: it may."""
    if not _HEADER_NAME.fullmatch(name):
        return "is not the name of an HTTP header"
    if name.lower() in _SET_BY_PORTICO:
        return "Portico sets this header itself"
    return None


def variable_name_fault(name: str) -> str | None:
    """Why an environment variable may not have this name; None: it may."""
    return None if _VARIABLE_NAME.fullmatch(name) else "is not the name of an environment variable"


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return None
    sound = parts.scheme in ("http", "https") and parts.hostname and port != 0
    return parts if sound and not re.search(r"[\s\\]", value) else None
