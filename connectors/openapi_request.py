"""A tool call as the HTTP request of its operation."""

import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote, unquote

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
from mcp_wire.jsonrpc import NULL, encode, string_of

_PIECE: Final = re.compile(r"\{([^{}/]*)\}|[^{}]+|[{}]")
_LITERAL: Final = "/%:@!$&'()*+,;=~-._"
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
        parameter: arguments[parameter.argument]
        for parameter in operation.parameters
        if shape_of(arguments.get(parameter.argument, NULL)) != "null"
    }
    for parameter in operation.parameters:
        if parameter.required and parameter not in given:
            raise BadArgumentsError(f"Missing argument: {parameter.argument}.")
    target = _path(operation, given, endpoint)
    query = [*_query(given), *own.query]
    if query:
        target += "?" + "&".join(f"{name}={value}" for name, value in query)
    media_type, body = _body(operation.body, arguments)
    fields = header_lines({"User-Agent": user_agent(), **own.headers})
    fields += _own_fields(given, own, traceparent)
    head = f"{operation.method} {target} HTTP/1.1\r\nHost: {endpoint.authority}\r\n"
    head += f"Accept: {ACCEPT}\r\n"
    if media_type:
        head += f"Content-Type: {media_type}\r\n"
    if body is None and operation.method in {"GET", "HEAD", "DELETE", "OPTIONS"}:
        return head.encode() + fields + b"\r\n"
    return with_body(head.encode(), fields, body or b"")


def _scheme_of(header: str, schemes: tuple[Scheme, ...]) -> Scheme | None:
    name = header.lower()
    return next((one for one in schemes if name in {one.name.lower(), one.field.lower()}), None)


def _authorization(scheme: Scheme, value: str) -> str:
    prefix = "Basic" if scheme.kind == "basic" else "Bearer"
    if value.lower().startswith(prefix.lower() + " "):
        return value
    if scheme.kind == "basic" and ":" in value:
        value = b64encode(value.encode()).decode()
    return f"{prefix} {value}"


def _path(operation: Operation, given: Mapping[Parameter, Raw], endpoint: Endpoint) -> str:
    """The path with its parameters; none of them can make it lead somewhere else."""
    values = {
        parameter.name: (parameter, value)
        for parameter, value in given.items()
        if parameter.place == "path"
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            return quote(match[0], safe=_LITERAL)
        parameter, value = values[match[1]]
        text = path_text(parameter.name, value, parameter.style, explode=parameter.explode)
        if not text.strip(".;,"):
            raise BadArgumentsError(f"Argument {parameter.argument} must not be empty or dots.")
        return text

    path = _PIECE.sub(fill, operation.path)
    if any(unquote(part) in {".", ".."} for part in path.split("/")):
        raise BadArgumentsError("No part of the path may be '.' or '..'.")
    return endpoint.target.partition("?")[0].rstrip("/") + path


def _query(given: Mapping[Parameter, Raw]) -> list[tuple[str, str]]:
    return [
        pair
        for parameter, value in given.items()
        if parameter.place == "query"
        for pair in pairs_of(
            parameter.name,
            value,
            parameter.style,
            explode=parameter.explode,
            allow_reserved=parameter.allow_reserved,
        )
    ]


def _own_fields(
    given: Mapping[Parameter, Raw], own: Authentication, traceparent: str | None
) -> bytes:
    """Header fields of this request: those of authentication take precedence over arguments."""
    fields = {} if traceparent is None else {"traceparent": traceparent}
    taken = {name.lower() for name in own.headers}
    cookies = [f"{name}={value}" for name, value in own.cookies]
    for parameter, value in given.items():
        if parameter.place == "header" and parameter.name.lower() not in taken:
            fields[parameter.name] = header_text(value, parameter.style, explode=parameter.explode)
        elif parameter.place == "cookie":
            text = header_text(value, parameter.style, explode=parameter.explode)
            cookies.append(f"{parameter.name}={encoded(text)}")
    if cookies and "cookie" not in taken:
        fields["Cookie"] = "; ".join(cookies)
    try:
        return header_lines(fields)
    except Misconfigured as error:
        raise BadArgumentsError(f"An argument cannot be sent: {error}.") from error


def _body(body: Body | None, arguments: Mapping[str, Raw]) -> tuple[str, bytes | None]:
    """Media type and content of the body; neither when no argument is for it."""
    if body is None:
        return "", None
    if body.argument:
        if body.argument not in arguments:
            if body.required:
                raise BadArgumentsError(f"Missing argument: {body.argument}.")
            return "", None
        return _whole_body(body, arguments[body.argument])
    given = [
        (field, arguments[field.argument]) for field in body.fields if field.argument in arguments
    ]
    if not given and not body.required:
        return "", None
    return _made_body(body, given)


def _whole_body(body: Body, value: Raw) -> tuple[str, bytes]:
    if body.kind == "json":
        return body.media_type, bytes(value)
    if body.kind == "text":
        return f"{body.media_type}; charset=utf-8", text_of(value).encode()
    if body.kind == "binary":
        return body.media_type, _decoded(body.argument, value)
    try:
        members = form_members(value)
    except msgspec.DecodeError as error:
        raise BadArgumentsError(f"Argument {body.argument} must be an object.") from error
    fields = [(Field(argument=name, name=name), item) for name, item in members.items()]
    return _made_body(body, fields)


def _made_body(body: Body, given: Sequence[tuple[Field, Raw]]) -> tuple[str, bytes]:
    if body.kind == "json":
        return body.media_type, encode({field.name: value for field, value in given})
    if body.kind == "form":
        pairs = [
            pair
            for field, value in given
            for pair in pairs_of(field.name, value, field.style, explode=field.explode)
        ]
        return body.media_type, "&".join(f"{name}={value}" for name, value in pairs).encode()
    boundary = f"portico-{secrets.token_hex(16)}"
    parts = [_part(field, item, boundary) for field, value in given for item in form_items(value)]
    content = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return f"{body.media_type}; boundary={boundary}", content


def _part(field: Field, value: Raw, boundary: str) -> bytes:
    """One part of a multipart form (RFC 7578); names are escaped as browsers do."""
    name = field.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    disposition = f'form-data; name="{name}"'
    if field.is_binary:
        disposition += f'; filename="{name}"'
        media_type, content = "application/octet-stream", _decoded(field.argument, value)
    else:
        is_json = shape_of(value) == "object" or field.style == "json"
        media_type = "application/json" if is_json else "text/plain; charset=utf-8"
        content = bytes(value) if is_json else text_of(value).encode()
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n"
    head += f"Content-Type: {field.media_type or media_type}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def _decoded(argument: str, value: Raw) -> bytes:
    text = string_of(value)
    if text is not None:
        with suppress(ValueError):
            return b64decode(text, validate=True)
    raise BadArgumentsError(f"Argument {argument} must be base64 text.")
