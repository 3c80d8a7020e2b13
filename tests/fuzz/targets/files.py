"""Files that people hand in: the configuration, clients' files, OpenAPI documents, the key ring."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httptools
import msgspec

from connectors.errors import Misconfigured
from connectors.http_message import Response, endpoint_of
from connectors.openapi_answer import answer_of
from connectors.openapi_compile import compile_document
from connectors.openapi_document import read_document
from connectors.openapi_operation import Operation
from connectors.openapi_request import Authentication, BadArgumentsError, build_request
from connectors.outcome import Failure, Result
from hub.administration.imported import Imported
from hub.administration.imports import read_foreign
from hub.config.conversion import desired_of, document_of, section_of
from hub.config.loading import MAX_PROBLEMS, load
from hub.config.yaml_text import to_yaml
from hub.errors import ConfigurationError, DataDirectoryError
from hub.vault.key_ring import FILE_NAME, load_or_create
from hub.vault.sealed import Sealer
from mcp_wire.jsonrpc import raw
from tests.fuzz.mutation import JSON_WORDS
from tests.fuzz.target import Check, Target, pure, tried

WHEN: Final = datetime(2026, 11, 21, tzinfo=UTC)
ENDPOINT: Final = endpoint_of("http://pets.example:8080/base/")
VALUES: Final = tuple(
    raw(value)
    for value in (
        "x", "", "..", "a/b?c#d\r\n\0é🚀", 7, 1e9, True, None, [], ["a", None, {"b": [1]}], {},
        {"a": {"b": {"c": ["d"]}}, "": None},
    )
)  # fmt: skip
ANSWERS: Final = tuple(
    Response(status, [(b"content-type", kind)], body)
    for status, kind, body in (
        (200, b"application/json", b'{"a":1}'),
        (200, b"application/json", b'{"a":"\xff"}'),
        (204, b"", b""),
        (500, b"text/plain; charset=nope", b"\xff"),
    )
)


def configuration(text: bytes) -> None:
    """Any bytes are a configuration or problems with places; what is read can be written again."""
    loaded = load(text)
    assert (loaded.file is None) == bool(loaded.problems)
    assert len(loaded.problems) <= MAX_PROBLEMS + 1
    assert len(loaded.warnings) <= MAX_PROBLEMS + 1
    for problem in (*loaded.problems, *loaded.warnings):
        assert problem.line >= 1
        assert problem.column >= 1
        assert str(problem).encode()
    if loaded.file is not None:
        desired = desired_of(loaded.file, Path("/base"))
        again = load(to_yaml(document_of(desired)))
        assert again.file is not None, again.problems
        assert desired_of(again.file) == desired


def client_file(text: bytes) -> None:
    """A client's file gives upstreams that the configuration could hold, or says what is wrong."""
    for name in ("", "x.json", "x.toml", "x.yaml"):
        path = Path("/somewhere", name) if name else None
        found = tried(partial(_imported, text.decode("utf-8", "replace"), path), ConfigurationError)
        if isinstance(found, ConfigurationError):
            continue
        assert all(note.message for note in found.notes)
        section = {spec.name: section_of(spec) for spec in found.upstreams}
        loaded = load(to_yaml({"version": 1, "upstreams": section}))
        assert loaded.file is not None, loaded.problems


def _imported(text: str, path: Path | None) -> Imported:
    return read_foreign(text, path=path, environ={"HOME": "/home/me"})


def openapi(text: bytes) -> None:
    """A document gives tools, or is refused with the place; every call of one is one request."""
    service = tried(lambda: compile_document(read_document(text)), Misconfigured)
    if isinstance(service, Misconfigured):
        assert str(service).startswith("#")
        return
    for name, operation in service.operations.items():
        tool = msgspec.json.decode(operation.definition)
        assert tool["name"] == name
        assert set(tool["inputSchema"]["properties"]) == operation.arguments
        for value in VALUES:
            _called(operation, dict.fromkeys(operation.arguments, value))
        for answer in ANSWERS:
            end = answer_of(operation, answer, "2026-07-28", 1000)
            assert isinstance(end, Result | Failure)
            if isinstance(end, Result):
                bytes(end.body).decode()
    assert all(problem.encode() for problem in service.problems)


class _Read:
    """Counts the requests a server reads."""

    complete = 0
    target = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_message_complete(self) -> None:
        self.complete += 1


def _called(operation: Operation, arguments: dict[str, Any]) -> None:
    try:
        message = build_request(operation, arguments, ENDPOINT, Authentication())
    except BadArgumentsError:
        return
    read = _Read()
    parser = httptools.HttpRequestParser(read)
    parser.feed_data(message)
    assert read.complete == 1
    assert read.target.startswith(b"/base/")


@contextmanager
def key_ring() -> Iterator[Check]:
    """A key ring is read, or found damaged; a ring that was read seals and signs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE_NAME)
        path.touch(mode=0o600)

        def check(content: bytes) -> None:
            path.write_bytes(content)
            try:
                ring = load_or_create(path.parent, WHEN)
            except DataDirectoryError:
                return
            sealer = Sealer(ring.sealing, lambda: 0.0)
            token = sealer.seal(b"content", purpose="fuzz")
            assert sealer.unseal(token, purpose="fuzz") == b"content"
            assert ring.public_keys_pem()
            ring.signer().sign(b"content")
            assert len(ring.digest_key("default")) == 32

        yield check


YAML_WORDS: Final = (
    b"\n", b"  ", b": ", b"- ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"!!int ", b"!!binary ",
    b"!!python/object:os.system ", b"!", b"%YAML 1.1\n", b"%TAG ! tag:x,2000:\n", b"---\n", b"...\n",
    b"<<: ", b"? ", b"|\n", b">-\n", b"'", b'"', b'"\\u', b'"\\ud800"', b'"\\U00110000"', b"\t", b"#",
    b"null", b"no", b".inf", b".nan", b"1e999", b"9" * 390, b"9" * 5000, b"0x", b"0o7", b"\x00",
    b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"[" * 60, b"{a: " * 60,
    b"&a [*a, *a]", b"2001-99-99", b"12:30:45",
)  # fmt: skip
SHORT_WORDS: Final = tuple(word for word in (*JSON_WORDS, *YAML_WORDS) if len(word) < 200)
"""Without what takes seconds to read as YAML."""
TARGETS: Final = (
    Target(
        "configuration",
        pure(configuration),
        (
            *YAML_WORDS, b"version: 1\n", b"upstreams:", b"include:", b"portico", b"env:X", b"file:/x",
            b"https://u:p@h", b"grants: [{}]", b"timeout_s: ", b"virtual_servers:", b"override:",
            b"anonymous: true", b"members:", b"arguments:", b"fix: ", b"headers:", b"command:",
        ),
        max_bytes=2048,
    ),
    Target(
        "client_file",
        pure(client_file),
        (
            *JSON_WORDS, *YAML_WORDS, b"mcpServers", b"mcp_servers", b"[mcp_servers.a]\n", b"servers",
            b"extensions", b"command", b"args", b"env", b"url", b"headers", b"timeout", b"${X:-y}",
            b"${input:x}", b"packages", b"remotes", b"registryType", b"identifier", b"variables",
            b"//", b"/*", b"*/", b"type", b"sse", b"openapi", b"a.b.c = 1\n", b"1979-05-27T07:32:00Z",
        ),
        max_bytes=2048,
    ),
    Target(
        "openapi",
        pure(openapi),
        (
            *SHORT_WORDS, b"openapi", b"3.1.0", b"3.0.3", b"paths", b"/a/{b}", b"get",
            b"post", b"parameters", b"schema", b"$ref", b"#/components/schemas/A", b"#/paths", b"#",
            b"allOf", b"anyOf", b"properties", b"required", b"enum", b"nullable", b"requestBody",
            b"content", b"application/json", b"multipart/form-data", b"*/*", b"servers", b"security",
            b"pattern", b"(a+)+$", b"[[a]", b"in", b"path", b"query", b"deepObject", b"style",
        ),
    ),
    Target(
        "key_ring",
        key_ring,
        (*JSON_WORDS, b"sealing", b"signing", b"digest", b"created_at", b"secret", b"00" * 8),
        max_bytes=1024,
    ),
)  # fmt: skip
