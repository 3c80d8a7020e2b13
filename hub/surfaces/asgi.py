"""The little of ASGI that surfaces need: its types, header fields, reading a body, answering whole.

Source: ASGI 3.0, HTTP Connection Scope. No framework objects: these run on every request.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
JSON: Final = (b"content-type", b"application/json")
PROBLEM: Final = (b"content-type", b"application/problem+json")


class BodyTooLarge(Exception):  # noqa: N818 -- says what happened
    """The request's body is larger than allowed; the rest of it was not read."""


class ClientGone(Exception):  # noqa: N818 -- says what happened
    """The client hung up before its request had arrived."""


class Fields:
    """Header fields by lower-case name; of a repeated field the first counts, and it is noted."""

    __slots__ = ("_values", "repeated")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        values: dict[bytes, bytes] = {}
        self.repeated: set[bytes] = set()
        for name, value in headers:
            if name in values:
                self.repeated.add(name)
            else:
                values[name] = value
        self._values = values

    def __contains__(self, name: bytes) -> bool:
        return name in self._values

    def get(self, name: bytes) -> str | None:
        """The field's value without surrounding white space, which some HTTP parsers leave on."""
        value = self._values.get(name)
        return None if value is None else value.strip(b" \t").decode("latin-1")

    def get_bytes(self, name: bytes) -> bytes | None:
        """The field's value as it came, to be compared with what is expected most."""
        return self._values.get(name)

    def has_any_starting_with(self, prefix: bytes) -> bool:
        """Whether a field's lower-case name begins with ``prefix``."""
        return any(name.startswith(prefix) for name in self._values)

    def starting_with(self, prefix: bytes) -> dict[str, str]:
        """All fields whose lower-case name begins with ``prefix``."""
        return {
            name.decode("latin-1"): value.strip(b" \t").decode("latin-1")
            for name, value in self._values.items()
            if name.startswith(prefix)
        }


async def read_body(receive: Receive, fields: Fields, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises BodyTooLarge, before reading it where its length is announced; ClientGone."""
    announced = fields.get_bytes(b"content-length")
    if announced is not None and announced.isdigit() and int(announced[:20]) > limit_bytes:
        raise BodyTooLarge
    event = await receive()
    if event["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = event.get("body", b"")
    if not event.get("more_body", False):
        if len(body) > limit_bytes:
            raise BodyTooLarge
        return body
    return await _read_rest(receive, body, limit_bytes)


async def _read_rest(receive: Receive, first: bytes, limit_bytes: int) -> bytes:
    chunks, size = [first], len(first)
    while size <= limit_bytes:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        chunk = event.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if not event.get("more_body", False) and size <= limit_bytes:
            return b"".join(chunks)
    raise BodyTooLarge


async def respond(
    send: Send, status: int, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer whole; a body without a content type among ``headers`` is none."""
    await send({
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-length", b"%d" % len(body)), *headers],
    })
    await send({"type": "http.response.body", "body": body})


def encoded(headers: Mapping[str, str]) -> Headers:
    """Header fields as ASGI wants them; a value that no field can hold is left out."""
    return tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
        if value.isprintable() and value.isascii()
    )
