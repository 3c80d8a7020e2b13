"""Services described by OpenAPI documents: the contract of all connectors, and what is theirs alone."""

import base64
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import msgspec
import pytest
from msgspec import Raw
from ruamel.yaml import YAML

from connectors.errors import ConnectorError, Misconfigured
from connectors.http_connection import Limits
from connectors.openapi import OpenApiConnector
from connectors.outcome import Failure, Result
from tests.contracts.connector_suite import (
    RESULTS,
    ConnectorSuite,
    Harness,
    Verbatim,
    text_of,
)
from tests.contracts.openapi_harness import Members, connected, described_by, document_of, tools_of
from tests.peers.petstore import PICTURE, described, json_body, operation, petstore
from tests.peers.raw_server import Received, Wire, raw_server
from tests.peers.serving import Peer


@pytest.fixture(scope="module")
def service() -> Iterator[Peer]:
    with petstore() as peer:
        yield peer


class TestOpenApi(ConnectorSuite):
    @pytest.fixture
    async def harness(self, service: Peer) -> AsyncIterator[Harness]:
        async with connected(service.url) as harness:
            yield harness

    @pytest.fixture
    def closing(self, service: Peer) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(service.url)

    @pytest.fixture
    def verbatim(self, tmp_path: Path) -> Verbatim:
        @asynccontextmanager
        async def answering(body: bytes) -> AsyncIterator[Harness]:
            async def answer(received: Received, wire: Wire) -> None:
                await wire.reply(200, body, headers={"Content-Type": "application/json"})

            file = anyio.Path(tmp_path / "openapi.json")
            await file.write_text(json.dumps(document_of("get", "/it", {})), encoding="utf-8")
            async with raw_server(answer) as raw:
                base_url = f"http://127.0.0.1:{raw.port}"
                async with connected(str(file), port=raw.port, base_url=base_url) as harness:
                    yield harness

        return answering

    @pytest.mark.parametrize("result", RESULTS)
    async def test_a_result_passes_byte_for_byte(self, verbatim: Verbatim, result: bytes) -> None:
        """As structured content: the result around it is Portico's."""
        async with verbatim(result) as harness:
            end = await harness.end(harness.tool("it"))
            assert isinstance(end, Result)
            members = msgspec.json.decode(end.body, type=dict[str, Raw])
            assert bytes(members["structuredContent"]) == result
            assert text_of(end) == result.decode()

    async def test_a_result_of_eight_megabytes_passes_byte_for_byte(
        self, verbatim: Verbatim
    ) -> None:
        body = b'{"text":"%b"}' % (b"x" * 8_000_000)
        async with verbatim(body) as harness:
            end = await harness.end(harness.tool("it", timeout_s=30.0))
            assert isinstance(end, Result)
            members = msgspec.json.decode(end.body, type=dict[str, Raw])
            assert bytes(members["structuredContent"]) == body

    async def test_a_tool_that_is_not_there_is_an_error(self, harness: Harness) -> None:
        end = await harness.end(harness.tool("no_such_tool"))
        assert isinstance(end, Failure)
        assert (end.kind, end.code) == ("error", -32602)
        end = await harness.end(harness.request("resources/read", {}))
        assert isinstance(end, Failure)
        assert (end.kind, end.code) == ("error", -32601)

    async def test_one_warm_call_is_one_request_on_a_kept_connection(
        self, harness: Harness
    ) -> None:
        await harness.text("echo", {"text": "1"})
        assert isinstance(harness.connector, OpenApiConnector)
        (pool,) = harness.connector._pools.values()
        opened, sent = pool.opened_count, pool.sent_count
        await harness.text("echo", {"text": "2"})
        assert (pool.opened_count - opened, pool.sent_count - sent) == (0, 1)


async def test_what_opening_tells_is_in_the_document(service: Peer) -> None:
    async with connected(service.url) as harness:
        identity = await harness.connector.open()
        assert identity.name == "Petstore"
        assert identity.version == "1.2.3"
        assert identity.instructions == "Pets, and a mirror."
        assert identity.revisions == ("2026-07-28", "2025-11-25")
        assert identity.transport == "openapi"
        assert msgspec.json.decode(identity.protocol_capabilities) == {"tools": {}}
        assert await harness.connector.watch(frozenset({"x:y"})) == frozenset()


async def test_tools_tell_arguments_answers_and_what_their_method_promises(service: Peer) -> None:
    async with connected(service.url) as harness:
        tools = await tools_of(harness)
    get = tools["getPet"]
    assert get["title"] == get["description"] == "Find a pet"
    assert get["annotations"]["readOnlyHint"] is True
    assert get["inputSchema"]["properties"] == {"petId": {"type": "integer"}}
    assert get["inputSchema"]["required"] == ["petId"]
    assert get["outputSchema"]["type"] == "object"
    assert set(get["outputSchema"]["properties"]) == {"id", "name", "mother"}
    delete = tools["deletePet"]
    assert delete["description"] == "DELETE /pets/{petId}"
    assert delete["annotations"]["destructiveHint"] is True
    assert "outputSchema" not in delete
    put = tools["replacePet"]
    assert put["annotations"]["idempotentHint"] is True
    assert put["annotations"]["readOnlyHint"] is False
    assert set(put["inputSchema"]["properties"]) == {"petId", "name", "mother", "secret"}
    assert put["inputSchema"]["required"] == ["petId", "name"]
    assert put["inputSchema"]["properties"]["mother"] == {"$ref": "#/$defs/Pet"}
    assert "id" not in put["inputSchema"]["$defs"]["Pet"]["properties"]
    assert tools["hasPet"]["annotations"]["readOnlyHint"] is True
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        jsonschema.Draft202012Validator.check_schema(tool.get("outputSchema", {}))


async def test_answers_become_content_of_their_kind(service: Peer) -> None:
    async with connected(service.url, revision="2026-07-28") as harness:

        async def result(name: str, arguments: Members | None = None) -> Members:
            end = await harness.end(harness.tool(name, arguments))
            assert isinstance(end, Result)
            value = json.loads(bytes(end.body))
            assert value["resultType"] == "complete"
            assert isinstance(value, dict)
            return value

        pet = await result("getPet", {"petId": 7})
        assert pet["structuredContent"]["big"] == 12345678901234567890
        assert json.loads(pet["content"][0]["text"])["name"] == "Rex"
        assert "isError" not in pet
        gone = await result("deletePet", {"petId": 7})
        assert gone["content"] == [{"type": "text", "text": "HTTP 204 No Content"}]
        assert "structuredContent" not in gone
        picture = (await result("picture"))["content"][0]
        assert (picture["type"], picture["mimeType"]) == ("image", "image/png")
        assert base64.b64decode(picture["data"]) == PICTURE
        archive = (await result("archive"))["content"][0]
        assert archive["type"] == "resource"
        assert archive["resource"]["mimeType"] == "application/zip"
        assert base64.b64decode(archive["resource"]["blob"]) == PICTURE
        with anyio.fail_after(2):
            head = await result("hasPet", {"petId": 7})
        assert "content-length" in head["content"][0]["text"]
        missing = await result("getPet", {"petId": 404})
        assert missing["isError"] is True
        assert missing["content"][0]["text"].startswith("HTTP 404 Not Found\n")
        assert "no such pet" in missing["content"][0]["text"]
        assert "structuredContent" not in missing
        assert missing["_meta"]["io.portico/http_status"] == 404


async def test_redirects_are_told_and_not_followed(service: Peer) -> None:
    async with connected(service.url) as harness:
        end = await harness.end(harness.tool("moved"))
        assert isinstance(end, Result)
        assert json.loads(bytes(end.body))["isError"] is True
        assert text_of(end) == "HTTP 307 Temporary Redirect"


async def test_an_answer_in_a_content_coding_is_read_and_bounded(tmp_path: Path) -> None:
    async def answer(received: Received, wire: Wire) -> None:
        words = b"x" * (500 if "small" in received.path else 5_000_000)
        headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
        await wire.reply(200, gzip.compress(words), headers=headers)

    paths = {f"/{name}": {"get": operation(name)} for name in ("small", "bomb")}
    document = {"openapi": "3.0.3", "info": {}, "paths": paths}
    file = anyio.Path(tmp_path / "openapi.json")
    await file.write_text(json.dumps(document), encoding="utf-8")
    async with raw_server(answer) as raw:
        base_url = f"http://127.0.0.1:{raw.port}"
        limits = Limits(max_body_bytes=1_000_000)
        settings: Mapping[str, Any] = {"base_url": base_url, "limits": limits}
        async with connected(str(file), port=raw.port, **settings) as harness:
            assert await harness.text("small") == "x" * 500
            end = await harness.end(harness.tool("bomb"))
            assert isinstance(end, Failure)
            assert end.kind == "violation"


async def test_servers_of_a_document_are_only_discovered_addresses(tmp_path: Path) -> None:
    document = document_of("get", "/x", {}, servers=[{"url": "http://127.0.0.1:9"}])
    file = anyio.Path(tmp_path / "openapi.json")
    await file.write_text(json.dumps(document), encoding="utf-8")
    async with connected(str(file), port=1) as harness:
        end = await harness.end(harness.tool("it"))
        assert isinstance(end, Failure)
        assert end.kind == "unreachable"
        assert "no public address" in end.message


async def test_a_document_without_an_address_needs_a_base_url(tmp_path: Path) -> None:
    file = anyio.Path(tmp_path / "openapi.json")
    await file.write_text(json.dumps(document_of("get", "/x", {})), encoding="utf-8")
    async with connected(str(file), port=1) as harness:
        end = await harness.end(harness.tool("it"))
        assert isinstance(end, Failure)
        assert "set 'base_url'" in end.message


async def test_server_variables_and_paths_are_filled_in(service: Peer, tmp_path: Path) -> None:
    servers = [
        {
            "url": "http://{host}:{port}/mirror/{version}/",
            "variables": {
                "host": {"default": "127.0.0.1"},
                "port": {"default": service.port},
                "version": {"default": "v2"},
            },
        }
    ]
    document = document_of("get", "/pets", {}, servers=servers)
    async with described_by(document, service, tmp_path, base_url=None) as harness:
        assert json.loads(await harness.text("it"))["path"] == "/mirror/v2/pets"


async def test_yaml_is_read_like_json(service: Peer, tmp_path: Path) -> None:
    file = tmp_path / "petstore.yaml"
    with file.open("w", encoding="utf-8") as stream:
        document = described()
        document["paths"]["/echo"]["get"]["responses"] = {200: {"description": "yes"}}
        YAML(typ="safe", pure=True).dump(document, stream)
    base_url = f"http://127.0.0.1:{service.port}"
    async with connected(str(file), port=service.port, base_url=base_url) as harness:
        assert await harness.text("echo", {"text": "hi"}) == "hi"
        async with connected(service.url) as other:
            assert await tools_of(harness) == await tools_of(other)


async def test_a_listing_takes_a_changed_document_over_and_keeps_the_old_one_on_failure() -> None:
    documents: list[Members] = [described(), described(), described()]
    documents[1]["paths"]["/echo"]["get"]["operationId"] = "shout"
    documents[2]["paths"] = None
    current = [documents[0]]
    with petstore(lambda: current[0]) as peer:
        async with connected(peer.url) as harness:
            assert "echo" in await tools_of(harness)
            current[0] = documents[1]
            assert "shout" in await tools_of(harness)
            current[0] = documents[2]
            with pytest.raises(Misconfigured, match=r"openapi\.json#/paths: "):
                await harness.connector.list()
            assert await harness.text("shout", {"text": "hi"}) == "hi"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "neither JSON nor YAML"),
        ("a: [", "line 1"),
        ("[]", "#: the document is no object"),
        ('{"swagger": "2.0"}', "Swagger 2.0 has to be converted"),
        ('{"openapi": "2.9"}', "no OpenAPI 3.0 or 3.1 document"),
        ('{"openapi": "3.1.0"}', "#/paths: "),
        ("&a [*a]", "nested too deeply"),
    ],
)
async def test_a_bad_document_is_refused_with_the_place(
    tmp_path: Path, text: str, words: str
) -> None:
    file = anyio.Path(tmp_path / "openapi.yaml")
    await file.write_text(text, encoding="utf-8")
    async with connected(str(file), port=1) as harness:
        with pytest.raises(Misconfigured) as raised:
            await harness.connector.open()
        assert words in str(raised.value)
        assert str(raised.value).startswith(str(file))


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with connected(str(tmp_path / "none.yaml"), port=1) as harness:
        with pytest.raises(Misconfigured, match=r"none\.yaml: there is no such file"):
            await harness.connector.open()
        end = await harness.end(harness.tool("it"))
        assert isinstance(end, Failure)
        assert end.kind == "unreachable"


async def test_a_document_that_cannot_be_fetched_is_an_error(service: Peer) -> None:
    async with connected(service.url.replace("openapi.json", "none.json")) as harness:
        with pytest.raises(ConnectorError, match="status 404"):
            await harness.connector.open()


async def test_one_bad_operation_is_left_out_with_a_reason(service: Peer, tmp_path: Path) -> None:
    good = operation("good", at="/mirror")
    bad: dict[str, Members] = {
        "remote": {"parameters": [{"$ref": "https://evil.example/p.json"}]},
        "lost": {"requestBody": {"$ref": "#/components/requestBodies/None"}},
        "circle": {"requestBody": json_body({"$ref": "#/components/schemas/Loop"})},
        "itself": {"requestBody": json_body({"$ref": "#/components/schemas/Self"})},
        "cookie": {"parameters": [{"name": "a b", "in": "cookie", "schema": {}}]},
        "string": {"requestBody": json_body("text")},
    }
    paths = {f"/{name}": {"get": {"operationId": name, **one}} for name, one in bad.items()}
    schemas = {
        "Loop": {"$ref": "#/components/schemas/Loop2"},
        "Loop2": {"$ref": "#/components/schemas/Loop"},
        "Self": {"allOf": [{"$ref": "#/components/schemas/Self"}]},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {"/mirror": {"get": good}, **paths, "/null": None, "/text": {"get": "x"}},
        "components": {"schemas": schemas},
    }
    async with described_by(document, service, tmp_path) as harness:
        assert set(await tools_of(harness)) == {"good"}
        assert isinstance(harness.connector, OpenApiConnector)
        problems = harness.connector.problems
        assert json.loads(await harness.text("good"))["path"] == "/mirror"
    assert len(problems) == len(bad)
    for name, problem in zip(bad, problems, strict=True):
        assert problem.startswith(f"GET /{name}: #/")


async def test_names_are_made_unique_and_safe(service: Peer, tmp_path: Path) -> None:
    document = {
        "openapi": "3.1.0",
        "info": {},
        "paths": {
            "/a": {"get": {"operationId": "list pets!"}, "post": {"operationId": "list pets?"}},
            "/b/{c}": {"get": {}, "delete": {"operationId": "x" * 200}},
            "/b_{c}": {"get": {}},
            "/b.{c}": {"get": {}},
        },
    }
    async with described_by(document, service, tmp_path) as harness:
        names = list(await tools_of(harness))
    assert names[:3] == ["list_pets", "post_a", "get_b_c"]
    assert names[4:] == ["get_b__c", "get_b_c_2"]
    assert names[3].startswith("xxx")
    assert len(names[3]) == 64


async def test_schemas_of_3_0_become_json_schema(service: Peer, tmp_path: Path) -> None:
    properties = {
        "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "nullable": True},
        "colour": {"type": "string", "enum": ["red"], "nullable": True, "example": "red"},
        "id": {"type": "string", "readOnly": True},
        "x": {"type": "file", "required": True, "pattern": "(", "x-mcp-header": "Evil"},
    }
    schema = {"type": "object", "properties": properties, "required": ["id", "age"]}
    document = document_of("post", "/mirror", {"requestBody": json_body(schema)})
    document["openapi"] = "3.0.3"
    async with described_by(document, service, tmp_path) as harness:
        tool = (await tools_of(harness))["it"]
    assert tool["inputSchema"] == {
        "type": "object",
        "properties": {
            "age": {"type": ["integer", "null"], "exclusiveMinimum": 0},
            "colour": {
                "type": ["string", "null"],
                "enum": ["red", None],
                "examples": ["red"],
            },
            "x": {},
        },
        "required": ["age"],
        "additionalProperties": False,
    }


async def test_references_that_would_explode_are_kept_as_definitions(
    service: Peer, tmp_path: Path
) -> None:
    schemas: Members = {"L0": {"type": "object", "properties": {"leaf": {"type": "string"}}}}
    for level in range(1, 30):
        reference = {"$ref": f"#/components/schemas/L{level - 1}"}
        schemas[f"L{level}"] = {"type": "object", "properties": {"a": reference, "b": reference}}
    body = json_body({"$ref": "#/components/schemas/L29"})
    document = document_of(
        "post", "/mirror", {"requestBody": body}, components={"schemas": schemas}
    )
    async with described_by(document, service, tmp_path) as harness:
        with anyio.fail_after(5):
            tool = (await tools_of(harness))["it"]
    assert len(tool["inputSchema"]["$defs"]) == 30
    assert len(json.dumps(tool)) < 10_000
