"""A tool call as the HTTP request of its operation."""

import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import msgspec
from msgspec import Raw, Struct

from connectors.errors import Misconfigured
from connectors.http_message import Endpoint, header_lines, user_agent, with_body
from connectors.openapi_operation import Body, Field, Operation, Parameter, Scheme
from connectors.openapi_values import (
    encoded,
    form_items,
    form_members,
    header_text,
    pairs_of,
    path_text,
    shape_of,
    text_of,
)
from mcp_wire.jsonrpc import encode, string_of

ACCEPT: Final = "application/json, */*;q=0.8"


class BadArgumentsError(Exception):
    """The arguments cannot be made a request; the message tells the caller how to do better."""


class Authentication(Struct, frozen=True):
    """Where the credentials of one request go."""

    headers: Mapping[str, str] = {}
    query: tuple[tuple[str, str], ...] = ()
    cookies: tuple[tuple[str, str], ...] = ()


def authentication(
    headers: Mapping[str, str], wanted: tuple[Scheme, ...], declared: tuple[Scheme, ...]
) -> Authentication:
    """Configured headers, moved to where the document's security schemes want them.

    A header named like a scheme, or like the key of one, is that scheme's secret: it goes into the
    query, the cookie or ``Authorization``, and only to operations that ask for the scheme. Any other
    header goes as it is to all.
    """
    sent: dict[str, str] = {}
    query: list[tuple[str, str]] = []
    cookies: list[tuple[str, str]] = []
    for name, value in headers.items():
        scheme = _scheme_of(name, wanted)
        if scheme is None:
            other = _scheme_of(name, declared)
            if other is None or (other.kind == "header" and other.field.lower() == name.lower()):
                sent[name] = value
        elif scheme.kind == "query":
            query.append((encoded(scheme.field), encoded(value)))
        elif scheme.kind == "cookie":
            cookies.append((scheme.field, value))
        elif scheme.kind == "header":
            sent[scheme.field] = value
        else:
            sent["Authorization"] = _authorization(scheme, value)
    return Authentication(sent, tuple(query), tuple(cookies))


def build_request(
    operation: Operation,
    arguments: Mapping[str, Raw],
    endpoint: Endpoint,
    own: Authentication,
    *,
    traceparent: str | None = None,
) -> bytes:
    """A whole HTTP/1.1 request; ``endpoint.target`` is the path that the operation's goes below.

    Raises BadArgumentsError for missing, unknown or unusable arguments.
    """
    unknown = sorted(arguments.keys() - operation.arguments)
    if unknown:
        raise BadArgumentsError(f"Unknown argument: {', '.join(unknown)}.")
    given = {
        name: value
        for name, value in arguments.items()
        if shape_of(value) != "null" or _is_whole_body(operation.body, name)
    }
    for parameter in operation.parameters:
        if parameter.required and parameter.argument not in given:
            raise BadArgumentsError(f"Missing argument: {parameter.argument}.")
    target = _path(operation, given, endpoint)
    query = [*_query(operation, given), *own.query]
    if query:
        target += "?" + "&".join(f"{name}={value}" for name, value in query)
    media_type, body = _body(operation.body, given)
    fields = header_lines({"User-Agent": user_agent(), **own.headers})
    fields += _own_headers(operation, given, own, traceparent)
    head = f"{operation.method} {target} HTTP/1.1\r\nHost: {endpoint.authority}\r\n"
    head += f"Accept: {ACCEPT}\r\n"
    if media_type:
        head += f"Content-Type: {media_type}\r\n"
    if body is None and operation.method in {"GET", "HEAD", "DELETE", "OPTIONS"}:
        return head.encode() + fields + b"\r\n"
    return with_body(head.encode(), fields, body or b"")


def _scheme_of(header: str, schemes: tuple[Scheme, ...]) -> Scheme | None:
    name = header.lower()
    return next(
        (one for one in schemes if name in {one.name.lower(), one.field.lower()}), None
    )


def _authorization(scheme: Scheme, value: str) -> str:
    prefix = "Basic" if scheme.kind == "basic" else "Bearer"
    if value.lower().startswith(prefix.lower() + " "):
        return value
    if scheme.kind == "basic" and ":" in value:
        value = b64encode(value.encode()).decode()
    return f"{prefix} {value}"


def _is_whole_body(body: Body | None, argument: str) -> bool:
    return body is not None and body.argument == argument


def _path(operation: Operation, given: Mapping[str, Raw], endpoint: Endpoint) -> str:
    """The path with its parameters; none of them can make it lead somewhere else."""
    path = operation.path
    for parameter in _of_place(operation, "path"):
        text = path_text(
            parameter.name, given[parameter.argument], parameter.style, explode=parameter.explode
        )
        if not text.strip(".;,"):
            raise BadArgumentsError(f"Argument {parameter.argument} must not be empty.")
        path = path.replace("{" + parameter.name + "}", text)
    if any(unquote(part) in {".", ".."} for part in path.split("/")):
        raise BadArgumentsError("An argument of the path must not be '.' or '..'.")
    base = endpoint.target.partition("?")[0].rstrip("/")
    return base + encoded(unquote(path), allow_reserved=True) if "%" not in path else base + path


def _query(operation: Operation, given: Mapping[str, Raw]) -> list[tuple[str, str]]:
    return [
        pair
        for parameter in _of_place(operation, "query")
        if parameter.argument in given
        for pair in pairs_of(
            parameter.name,
            given[parameter.argument],
            parameter.style,
            explode=parameter.explode,
            allow_reserved=parameter.allow_reserved,
        )
    ]
