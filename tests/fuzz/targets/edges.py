"""What comes in header fields, paths, tokens and addresses."""

from typing import Final

from connectors.errors import Misconfigured
from connectors.http_message import (
    Endpoint,
    endpoint_of,
    header_lines,
    header_of,
    resolved,
    retry_after_s,
)
from hub.policy.uri_templates import parse as parse_template
from hub.surfaces.asgi import Fields
from hub.surfaces.credentials import Proxies, evidence_of
from hub.surfaces.front_door import FrontDoor
from hub.surfaces.mcp.arrival import accepted
from hub.surfaces.mcp.arrival import endpoint_of as mcp_endpoint_of
from hub.surfaces.mcp.session_ids import SessionIds
from hub.surfaces.mcp.surface import _is_json
from hub.vault.key_ring import RingKey
from hub.vault.sealed import Sealer
from tests.fuzz.target import Target, pure
from tests.fuzz.targets.files import WHEN

SEALER: Final = Sealer([RingKey(id="0123abcd", created_at=WHEN, secret=bytes(32))], lambda: 1e9)
SESSIONS: Final = SessionIds(SEALER)
DOORS: Final = (
    FrontDoor(),
    FrontDoor(allowed_hosts=["*"], allowed_origins=["*"]),
    FrontDoor(allowed_hosts=["hub.example:8080"], allowed_origins=["https://app.example"]),
)
PROXIES: Final = (Proxies(), Proxies(["127.0.0.0/8", "::1/128", "10.0.0.0/8"]))
PEERS: Final = (None, ("127.0.0.1", 1), ("::1", 1), ("10.1.2.3", 1), ("", 0), ("not one", 1))
_CONTROLS: Final = bytes({*range(32), 127} - {9, 10})
BASE: Final = endpoint_of("https://h.example:8443/a/b?c")


def lines_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Header fields as servers hand them over: lower-case names, no control characters in values."""
    pairs = [line.partition(b":") for line in data.translate(None, _CONTROLS).split(b"\n")]
    return [(name.strip().lower(), value.strip(b" ")) for name, _, value in pairs]


def request_fields(data: bytes) -> None:
    """Any fields are judged; nothing of them ends up where it could split an answer's head."""
    headers = lines_of(data)
    fields = Fields(headers)
    for door in DOORS:
        turned = door.turned_away(fields)
        assert turned is None or turned.status in {403, 421}
        for _, value in (*door.cors(fields), *door.preflight(fields)):
            assert not {10, 13, 0} & set(value)
    for accept in (b"accept", b"content-type"):
        accepted(fields.get_bytes(accept))
        _is_json(fields.get_bytes(accept))
    for peer in PEERS:
        for proxies in PROXIES:
            scope = {"client": peer, "headers": headers}
            evidence = evidence_of(scope, fields, proxies, None)
            if evidence.direct:
                assert peer is not None
                assert peer[0] in {"127.0.0.1", "::1"}
                assert not evidence.secret
    for name, value in headers[:8]:
        endpoint = mcp_endpoint_of((name + b"/" + value).decode("latin-1"))
        assert endpoint is None or endpoint.virtual_server


def answer_fields(data: bytes) -> None:
    """What an upstream says in its head is taken, refused or passed over."""
    headers = lines_of(data)
    seconds = retry_after_s(headers)
    assert seconds is None or 0 <= seconds <= 86_400
    header_of(headers, b"www-authenticate")
    for text in {data.decode("latin-1"), data.decode("utf-8", "replace")}:
        _refused_or_sound(lambda text=text: resolved(BASE, text))
        _refused_or_sound(lambda text=text: endpoint_of(text))
        try:
            written = header_lines({"X-Fuzz": text})
        except Misconfigured:
            continue
        assert written.count(b"\n") == written.count(b"\r") == 1


def _refused_or_sound(read: object) -> None:
    assert callable(read)
    try:
        endpoint: Endpoint = read()
    except Misconfigured:
        return
    written = f"{endpoint.authority}{endpoint.target}"
    assert written.isascii()
    assert written.isprintable()
    assert " " not in written
    assert endpoint.target.startswith("/")
    assert endpoint.url


def tokens(data: bytes) -> None:
    """What was not sealed here opens nothing, whatever it looks like."""
    for text in (data.decode("latin-1"), data.decode("utf-8", "surrogateescape")):
        assert SEALER.unseal(text, purpose="list cursor", associated=b"x") is None
        assert SESSIONS.unseal(text) is None


def uri_template(data: bytes) -> None:
    """The first line is a template, the others URIs: they match or not, in bounded time."""
    text, *uris = data.decode("utf-8", "replace").split("\n")
    try:
        template = parse_template(text)
    except ValueError:
        return
    assert len(template.specificity) == 3
    for uri in uris:
        assert template.matches(uri) in {True, False}
    assert "{" in text or template.matches(text[:2048]) == (len(text) <= 2048)


TARGETS: Final = (
    Target(
        "request_fields",
        pure(request_fields),
        (
            b"host:", b"origin:", b"accept:", b"content-type:", b"authorization:", b"x-api-key:",
            b"x-forwarded-for:", b"forwarded:", b"via:", b"x-tenant-id:", b"\n", b"localhost",
            b"127.0.0.1", b"[::1]", b"http://", b"null", b"Bearer ", b"10.0.0.1", b"::ffff:127.0.0.1",
            b"application/json", b"text/event-stream", b"*/*", b";q=0", b",", b"\xff", b"\t", b"/v/",
            b"/mcp", b"/t/", b"%2f", b"access-control-request-headers:",
        ),
        max_bytes=1024,
    ),
    Target(
        "answer_fields",
        pure(answer_fields),
        (
            b"retry-after:", b"date:", b"Sat, 21 Nov 2026 12:00:00 GMT", b"\n", b"http://", b"https://",
            b"//", b"[::1]", b":99999", b"@", b"..", b"\\", b"?", b"#", b"%00", b"\xff", b"\xc3\x9f",
            b"9" * 30, b"xn--", b"\t", b"www-authenticate:", b"Bearer ", b"-0000",
        ),
        max_bytes=1024,
    ),
    Target("tokens", pure(tokens), (b"=", b"-", b"_", b"AQEjq80", b"\xff", b"A" * 64), max_bytes=512),
    Target(
        "uri_template",
        pure(uri_template),
        (b"{", b"}", b"{a}", b"{+a}", b"{?a,b}", b"{/a*}", b"/", b"file:///", b"\n", b"\xff", b"{a*}"),
        max_bytes=1024,
    ),
)  # fmt: skip
