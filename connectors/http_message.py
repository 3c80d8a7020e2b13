"""HTTP/1.1 in bytes: where a request goes, its header lines, and reading the headers of an answer."""

import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from typing import Final, Literal
from urllib.parse import quote, urljoin, urlsplit

from msgspec import Struct

from connectors.errors import Misconfigured
from connectors.protocol import Credential

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields of an answer in their order, names in lower case."""

RESERVED: Final = frozenset((
    "accept", "connection", "content-length", "content-type", "expect", "host", "keep-alive",
    "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "te",
    "trailer", "transfer-encoding", "upgrade",
))  # fmt: skip
"""Header fields that this package writes itself; configuration cannot set them."""

MAX_RETRY_AFTER_S: Final = 86_400.0

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST: Final = re.compile(rb"[0-9A-Za-z._:%-]+")
"""What is left of a host once it is ASCII; normalizing some letters gives spaces and signs."""
_UNSAFE_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NEGOTIATION: Final = {
    "POST": b"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n",
    "GET": b"Accept: text/event-stream\r\nCache-Control: no-store\r\n",
    "DELETE": b"",
}


class Endpoint(Struct, frozen=True):
    """Where requests are sent: an origin, and the path with its query."""

    scheme: str
    host: str
    port: int
    target: str = "/"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What has to be equal for two addresses to be of the same origin (RFC 6454)."""
        return self.scheme, self.host, self.port

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of ``Host``: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address, without its query, which may hold secrets."""
        return f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}"


Verb = Literal["POST", "GET", "DELETE"]
MAX_HEADS: Final = 1024
"""Prepared heads that are kept; one for each credential in use."""


class Heads:
    """The heads of requests to one endpoint, up to the fields that differ from call to call.

    ``headers`` are those of the upstream's own settings; a credential's come after them and take
    the place of equal ones.
    """

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self._headers = headers
        self._prepared: dict[tuple[Verb, str, int], bytes] = {}

    def to(self, endpoint: Endpoint) -> "Heads":
        """The same for another path of the same origin."""
        return Heads(endpoint, self._headers)

    def move(self, endpoint: Endpoint) -> None:
        """Send further requests to another path of the same origin."""
        self.endpoint = endpoint
        self._prepared.clear()

    def of(self, verb: Verb, credential: Credential) -> bytes:
        """Request line and fields, without the empty line. Raises Misconfigured for bad fields."""
        key = (verb, credential.id, credential.version)
        head = self._prepared.get(key)
        if head is None:
            if len(self._prepared) >= MAX_HEADS:
                self._prepared.clear()
            head = self._prepared[key] = self._prepare(verb, credential)
        return head

    def _prepare(self, verb: Verb, credential: Credential) -> bytes:
        given = {name.lower(): (name, value) for name, value in self._headers.items()}
        given.update({name.lower(): (name, value) for name, value in credential.headers.items()})
        given.setdefault("user-agent", ("User-Agent", user_agent()))
        target, authority = self.endpoint.target.encode(), self.endpoint.authority.encode()
        first = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (verb.encode(), target, authority)
        return first + _NEGOTIATION[verb] + header_lines(dict(given.values()))


class Response(Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


@cache
def user_agent() -> str:
    """Who Portico says it is."""
    return f"portico/{version('portico')}"


def with_body(head: bytes, fields: bytes, body: bytes) -> bytes:
    """A whole request: a prepared head, this request's own field lines, and its body."""
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, fields, len(body), body)


def endpoint_of(url: str) -> Endpoint:
    """Read an address. Raises Misconfigured for what is no http(s) URL that can be used as written."""
    if any(ord(character) <= 0x20 or character == "\x7f" for character in url):
        raise Misconfigured("the address holds white space or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna" if ":" not in parts.netloc else "ascii")
    except (ValueError, UnicodeError) as error:
        raise Misconfigured("the address cannot be read") from error
    if parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host):
        raise Misconfigured("the address must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise Misconfigured("the address holds a user name; send credentials in headers")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Endpoint(
        scheme=parts.scheme,
        host=host.decode("ascii").rstrip("."),
        port=port if port is not None else _DEFAULT_PORTS[parts.scheme],
        target=f"{path}?{query}" if query else path,
    )


def resolved(endpoint: Endpoint, location: str) -> Endpoint:
    """The address that a relative or absolute reference names, seen from ``endpoint``.

    Raises Misconfigured for what is no http(s) URL.
    """
    base = f"{endpoint.scheme}://{endpoint.authority}{endpoint.target}"
    try:
        url = urljoin(base, location)
    except ValueError as error:
        raise Misconfigured("the address cannot be read") from error
    return endpoint_of(url)


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Header fields as they go on the wire. Raises Misconfigured for what would break the message.

    The message names the field and never its value.
    """
    lines = []
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in RESERVED:
            raise Misconfigured(f"the header {name!r} cannot be set")
        if _UNSAFE_VALUE.search(value):
            raise Misconfigured(f"the value of header {name!r} holds control characters")
        lines.append(b"%b: %b\r\n" % (name.encode(), value.strip(" \t").encode()))
    return b"".join(lines)


def header_of(headers: Headers, name: bytes) -> str | None:
    """The value of a field by its lower-case name, without surrounding white space."""
    for key, value in headers:
        if key == name:
            return value.strip(b" \t").decode("latin-1")
    return None


def retry_after_s(headers: Headers) -> float | None:
    """Seconds of ``Retry-After``; a date counts from the answer's own ``Date`` (RFC 9110 10.2.3)."""
    value = header_of(headers, b"retry-after")
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER_S)
    try:
        sent = parsedate_to_datetime(header_of(headers, b"date") or "")
        return min(
            max(0.0, (parsedate_to_datetime(value) - sent).total_seconds()), MAX_RETRY_AFTER_S
        )
    except (ValueError, TypeError, OverflowError):
        return None
