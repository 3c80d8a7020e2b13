"""Tool calls as HTTP requests: what a service sees that an OpenAPI document describes."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import Raw

from connectors.address_guard import AddressGuard
from connectors.http_client import HttpClient
from connectors.openapi import OpenApiConnector, OpenApiSettings
from connectors.outcome import Result
from connectors.protocol import Credential
from tests.contracts.connector_suite import Changes, Harness, text_of
from tests.contracts.openapi_harness import Members, Mirror, described_by, document_of
from tests.peers.petstore import PICTURE, json_body, path, petstore, query
from tests.peers.serving import Peer


@pytest.fixture(scope="module")
def service() -> Iterator[Peer]:
    with petstore() as peer:
        yield peer


@pytest.fixture
def mirror(service: Peer, tmp_path: Path) -> Mirror:
    return Mirror(service, tmp_path)


def styled(place: str, style: str, explode: bool, name: str = "color") -> Members:
    return {
        "name": name,
        "in": place,
        "style": style,
        "explode": explode,
        "required": place == "path",
        "schema": {},
    }


ARRAY = ["blue", "black", "br&wn"]
OBJECT = {"R": 100, "G": 200}


@pytest.mark.parametrize(
    ("style", "explode", "value", "sent"),
    [
        ("form", True, "blue", "color=blue"),
        ("form", True, ARRAY, "color=blue&color=black&color=br%26wn"),
        ("form", False, ARRAY, "color=blue,black,br%26wn"),
        ("form", True, OBJECT, "R=100&G=200"),
        ("form", False, OBJECT, "color=R,100,G,200"),
        ("form", True, [], ""),
        ("form", True, None, ""),
        ("form", True, True, "color=true"),
        ("spaceDelimited", False, ARRAY, "color=blue%20black%20br%26wn"),
        ("pipeDelimited", False, ARRAY, "color=blue%7Cblack%7Cbr%26wn"),
        ("deepObject", True, OBJECT, "color%5BR%5D=100&color%5BG%5D=200"),
        ("deepObject", True, {"a": {"b": [1, 2]}}, "color%5Ba%5D%5Bb%5D=1&color%5Ba%5D%5Bb%5D=2"),
    ],
)
async def test_query_parameters_follow_their_style(
    mirror: Mirror, style: str, explode: bool, value: Any, sent: str
) -> None:
    seen = await mirror({"color": value}, styled("query", style, explode))
    assert seen["query"] == sent


@pytest.mark.parametrize(
    ("style", "explode", "value", "sent"),
    [
        ("simple", False, "bl/ue?", "bl%2Fue%3F"),
        ("simple", False, ["a", "b"], "a,b"),
        ("simple", False, OBJECT, "R,100,G,200"),
        ("simple", True, OBJECT, "R=100,G=200"),
        ("label", False, "blue", ".blue"),
        ("label", False, ["a", "b"], ".a,b"),
        ("label", True, ["a", "b"], ".a.b"),
        ("label", True, OBJECT, ".R=100.G=200"),
        ("matrix", False, "blue", ";color=blue"),
        ("matrix", False, ["a", "b"], ";color=a,b"),
        ("matrix", True, ["a", "b"], ";color=a;color=b"),
        ("matrix", False, OBJECT, ";color=R,100,G,200"),
        ("matrix", True, OBJECT, ";R=100;G=200"),
    ],
)
async def test_path_parameters_follow_their_style(
    mirror: Mirror, style: str, explode: bool, value: Any, sent: str
) -> None:
    parameter = styled("path", style, explode)
    seen = await mirror({"color": value}, parameter, at="/mirror/a b/{color}/end")
    assert seen["path"] == f"/mirror/a%20b/{sent}/end"


async def test_headers_and_cookies_are_set(mirror: Mirror) -> None:
    seen = await mirror(
        {"X-List": ["a", "b"], "X-Pairs": OBJECT, "theme": "dark & light", "flags": [1, 2]},
        styled("header", "simple", False, "X-List"),
        styled("header", "simple", True, "X-Pairs"),
        styled("cookie", "form", True, "theme"),
        styled("cookie", "form", False, "flags"),
        styled("header", "simple", False, "Host"),
    )
    assert seen["headers"]["x-list"] == "a,b"
    assert seen["headers"]["x-pairs"] == "R=100,G=200"
    assert seen["headers"]["cookie"] == "theme=dark%20%26%20light; flags=1%2C2"
    assert seen["headers"]["host"].startswith("127.0.0.1:")


async def test_a_parameter_with_a_media_type_is_sent_as_json(mirror: Mirror) -> None:
    parameter = {
        "name": "filter",
        "in": "query",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    seen = await mirror({"filter": {"a": [1]}}, parameter)
    assert seen["query"] == "filter=%7B%22a%22%3A%5B1%5D%7D"


async def test_numbers_cross_as_they_were_written(mirror: Mirror) -> None:
    arguments = Raw(b'{"n":1e400,"id":12345678901234567890,"amount":1.10}')
    body = json_body({"type": "object", "properties": {"amount": {"type": "number"}}})
    seen = await mirror(
        arguments, query("n", "number"), query("id", "integer"), method="post", requestBody=body
    )
    assert seen["query"] == "n=1e400&id=12345678901234567890"
    assert base64.b64decode(seen["body"]) == b'{"amount":1.10}'


async def test_names_that_clash_get_their_place_in_front(mirror: Mirror) -> None:
    body = json_body({"type": "object", "properties": {"id": {"type": "string"}}})
    seen = await mirror(
        {"id": "p", "query_id": "q", "header_id": "h", "body_id": "b", "filter_name": "f"},
        path("id"),
        query("id"),
        {"name": "id", "in": "header", "schema": {}},
        query("filter[name]"),
        method="post",
        at="/mirror/{id}",
        requestBody=body,
    )
    assert seen["path"] == "/mirror/p"
    assert seen["query"] == "id=q&filter%5Bname%5D=f"
    assert seen["headers"]["id"] == "h"
    assert json.loads(base64.b64decode(seen["body"])) == {"id": "b"}


async def test_a_body_that_is_no_plain_object_is_one_argument(mirror: Mirror) -> None:
    body = json_body({"type": "array", "items": {"type": "integer"}})
    seen = await mirror({"body": [1, 2]}, method="post", requestBody=body)
    assert base64.b64decode(seen["body"]) == b"[1,2]"
    assert seen["headers"]["content-type"] == "application/json"


async def test_an_explicit_null_stays_in_the_body(mirror: Mirror) -> None:
    body = json_body({"type": "object", "properties": {"note": {}, "other": {}}})
    seen = await mirror({"note": None}, method="patch", requestBody=body)
    assert base64.b64decode(seen["body"]) == b'{"note":null}'


async def test_an_optional_body_is_left_out(mirror: Mirror) -> None:
    body = json_body({"type": "object", "properties": {"note": {}}}, required=False)
    seen = await mirror({}, method="post", requestBody=body)
    assert seen["body"] == ""
    assert "content-type" not in seen["headers"]
    assert seen["headers"]["content-length"] == "0"


async def test_forms_are_encoded(mirror: Mirror) -> None:
    properties: Members = {"name": {}, "tags": {}, "where": {}, "deep": {}}
    content = {
        "application/x-www-form-urlencoded": {
            "schema": {"type": "object", "properties": properties},
            "encoding": {"deep": {"style": "deepObject"}},
        }
    }
    seen = await mirror(
        {"name": "a&b", "tags": ["x", "y"], "where": {"k": 1}, "deep": {"k": "v"}},
        method="post",
        requestBody={"content": content},
    )
    assert seen["headers"]["content-type"] == "application/x-www-form-urlencoded"
    expected = b"name=a%26b&tags=x&tags=y&where=%7B%22k%22%3A1%7D&deep%5Bk%5D=v"
    assert base64.b64decode(seen["body"]) == expected


async def test_multipart_forms_carry_files(mirror: Mirror) -> None:
    properties = {
        "title": {"type": "string"},
        "about": {"type": "object"},
        "file": {"type": "string", "format": "binary"},
    }
    content = {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": properties},
            "encoding": {"file": {"contentType": "image/png"}},
        }
    }
    picture = base64.b64encode(PICTURE).decode()
    seen = await mirror(
        {"title": "été", "about": {"a": 1}, "file": picture},
        method="post",
        requestBody={"content": content},
    )
    _, _, boundary = seen["headers"]["content-type"].partition("; boundary=")
    first, *parts, last = base64.b64decode(seen["body"]).split(f"--{boundary}".encode())
    assert (first, last) == (b"", b"--\r\n")
    assert parts == [
        b'\r\nContent-Disposition: form-data; name="title"\r\n'
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "été".encode() + b"\r\n",
        b'\r\nContent-Disposition: form-data; name="about"\r\n'
        b'Content-Type: application/json\r\n\r\n{"a":1}\r\n',
        b'\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        b"Content-Type: image/png\r\n\r\n" + PICTURE + b"\r\n",
    ]


async def test_other_bodies_are_text_or_base64(mirror: Mirror) -> None:
    text = {"content": {"application/xml": {"schema": {"type": "string"}}}}
    seen = await mirror({"body": "<a/>"}, method="put", requestBody=text)
    assert base64.b64decode(seen["body"]) == b"<a/>"
    assert seen["headers"]["content-type"] == "application/xml; charset=utf-8"
    binary: Members = {"content": {"application/zip": {}}}
    picture = base64.b64encode(PICTURE).decode()
    seen = await mirror({"body": picture}, method="put", requestBody=binary)
    assert base64.b64decode(seen["body"]) == PICTURE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Missing argument: id."),
        ({"id": None}, "Missing argument: id."),
        ({"id": ""}, "must not be empty"),
        ({"id": ".."}, "must not be empty or dots"),
        ({"id": "1", "limti": 3}, "Unknown argument: limti."),
        ({"id": "1", "X-Note": "a\r\nX-Admin: 1"}, "cannot be sent"),
        ({"id": "1", "file": "not base64!"}, "must be base64"),
    ],
)
async def test_arguments_that_cannot_be_sent_are_told_and_nothing_is_sent(
    service: Peer, tmp_path: Path, arguments: Members, words: str
) -> None:
    file = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
    described_operation = {
        "parameters": [path("id"), {"name": "X-Note", "in": "header", "schema": {}}],
        "requestBody": {"content": {"multipart/form-data": {"schema": file}}},
    }
    document = document_of("post", "/mirror/{id}", described_operation)
    async with described_by(document, service, tmp_path) as harness:
        end = await harness.end(harness.tool("it", arguments))
        assert isinstance(end, Result)
        assert json.loads(bytes(end.body))["isError"] is True
        assert words in text_of(end)
        assert isinstance(harness.connector, OpenApiConnector)
        assert not harness.connector._pools


async def test_path_arguments_cannot_lead_elsewhere(mirror: Mirror) -> None:
    seen = await mirror({"id": "../../admin"}, path("id"), at="/mirror/{id}/x")
    assert seen["path"] == "/mirror/..%2F..%2Fadmin/x"
    seen = await mirror({"a": "{b}", "b": "x"}, path("a"), path("b"), at="/mirror/{a}/{b}")
    assert seen["path"] == "/mirror/%7Bb%7D/x"


SCHEMES = {
    "query_key": {"type": "apiKey", "in": "query", "name": "api_key"},
    "cookie_key": {"type": "apiKey", "in": "cookie", "name": "sid"},
    "header_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "token": {"type": "http", "scheme": "bearer"},
    "login": {"type": "http", "scheme": "basic"},
    "oauth": {"type": "oauth2", "flows": {}},
}


@pytest.mark.parametrize(
    ("scheme", "headers", "where", "sent"),
    [
        ("query_key", {"query_key": "s&cret"}, "query", "api_key=s%26cret"),
        ("query_key", {"api_key": "x"}, "query", "api_key=x"),
        ("cookie_key", {"sid": "x"}, "cookie", "sid=x"),
        ("header_key", {"header_key": "x"}, "x-api-key", "x"),
        ("header_key", {"x-api-key": "x"}, "x-api-key", "x"),
        ("token", {"token": "x"}, "authorization", "Bearer x"),
        ("token", {"Authorization": "Bearer y"}, "authorization", "Bearer y"),
        ("login", {"login": "ann:pw"}, "authorization", "Basic YW5uOnB3"),
        ("oauth", {"oauth": "x"}, "authorization", "Bearer x"),
        (None, {"X-Any": "x"}, "x-any", "x"),
        (None, {"token": "x"}, "authorization", None),
        (None, {"api_key": "x"}, "query", ""),
    ],
)
async def test_secrets_go_where_the_security_scheme_wants_them(
    service: Peer,
    tmp_path: Path,
    scheme: str | None,
    headers: dict[str, str],
    where: str,
    sent: str | None,
) -> None:
    document = document_of(
        "get",
        "/mirror",
        {"security": [{scheme: []}] if scheme else []},
        components={"securitySchemes": SCHEMES},
        security=[{name: []} for name in SCHEMES],
    )
    async with described_by(document, service, tmp_path, headers=headers) as harness:
        seen = json.loads(await harness.text("it"))
    assert (seen["query"] if where == "query" else seen["headers"].get(where)) == sent


async def test_a_credential_takes_precedence_over_settings(service: Peer, tmp_path: Path) -> None:
    document = document_of("get", "/mirror", {})
    async with described_by(document, service, tmp_path, headers={"X-Key": "own"}) as harness:
        harness.credential = Credential("ann", 1, headers={"x-key": "hers"})
        assert json.loads(await harness.text("it"))["headers"]["x-key"] == "hers"


async def test_secrets_stay_with_the_services_own_origin(service: Peer, tmp_path: Path) -> None:
    other = {"servers": [{"url": f"http://localhost:{service.port}"}]}
    document = document_of(
        "get", "/mirror", other, servers=[{"url": f"http://127.0.0.1:{service.port}"}]
    )
    file = anyio.Path(tmp_path / "openapi.json")
    await file.write_text(json.dumps(document), encoding="utf-8")
    written = frozenset({("localhost", service.port), ("127.0.0.1", service.port)})
    async with HttpClient() as client:
        settings = OpenApiSettings(source=str(file), headers={"X-Key": "secret"})
        connector = OpenApiConnector(settings, client=client, resolve=AddressGuard(written))
        harness = Harness(connector, Changes())
        seen = json.loads(await harness.text("it"))
        await connector.close()
    assert seen["headers"]["host"].startswith("localhost:")
    assert "x-key" not in seen["headers"]


async def test_a_fetched_document_cannot_lead_secrets_away() -> None:
    document = document_of("get", "/mirror", {})
    with petstore(lambda: document) as peer:
        document["servers"] = [{"url": f"http://localhost:{peer.port}"}]
        written = frozenset({("localhost", peer.port), ("127.0.0.1", peer.port)})
        async with HttpClient() as client:
            settings = OpenApiSettings(source=peer.url, headers={"X-Key": "secret"})
            connector = OpenApiConnector(settings, client=client, resolve=AddressGuard(written))
            seen = json.loads(await Harness(connector, Changes()).text("it"))
            await connector.close()
    assert seen["headers"]["host"].startswith("localhost:")
    assert "x-key" not in seen["headers"]
    assert connector.problems == (
        "headers are not sent: set 'base_url' to the server that the document names",
    )
