"""HTTP services described by an OpenAPI document: each operation a tool.

The document is read again with every listing; a version that cannot be used leaves the one before
in force.
"""

import hashlib
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec
from msgspec import Raw, Struct

from connectors.errors import ConnectorError, Misconfigured, Unreachable
from connectors.http_client import HttpClient
from connectors.http_connection import Limits
from connectors.http_exchange import fetch
from connectors.http_message import Endpoint, endpoint_of, header_lines, resolved
from connectors.http_pool import HttpPool, Resolve
from connectors.openapi_answer import answer_of, tool_result
from connectors.openapi_compile import compile_document
from connectors.openapi_document import MAX_JSON_BYTES, read_document
from connectors.openapi_head import fetch_head
from connectors.openapi_operation import Described, Operation
from connectors.openapi_request import (
    Authentication,
    BadArgumentsError,
    authentication,
    build_request,
)
from connectors.outcome import Event, Failure, Result
from connectors.protocol import Credential, Listing, Request, ServerIdentity
from mcp_wire.codes import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_wire.jsonrpc import members_of, raw, string_of
from mcp_wire.revisions import LATEST_LEGACY, LATEST_MODERN

MAX_ORIGINS: Final = 16
"""Servers on different origins that one document may lead to."""
_CAPABILITIES: Final = raw({"tools": {}})
_ACCEPT: Final = "application/json, application/yaml, text/yaml, */*;q=0.5"


class OpenApiSettings(Struct, frozen=True, kw_only=True):
    """Where a service and its description are, and how it is called."""

    source: str
    """Path or http(s) URL of the document, JSON or YAML."""
    base_url: str | None = None
    """Instead of the servers that the document names."""
    headers: Mapping[str, str] = {}
    """Sent with calls; one named like a security scheme goes where the scheme wants it.

    They go to ``base_url`` or, without one, to the origin of a fetched document, or to the server
    that a document in a file names first.
    """
    timeout_cap_s: float = 600.0
    limits: Limits = Limits()

    def __repr__(self) -> str:
        return f"OpenApiSettings({self.source.partition('?')[0]!r})"


class OpenApiConnector:
    """One described service; see :class:`connectors.protocol.Connector`.

    ``resolve`` says which addresses may be connected to: what a document names is only discovered.
    ``client`` fetches documents.
    """

    def __init__(
        self,
        settings: OpenApiSettings,
        *,
        client: HttpClient,
        resolve: Resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._resolve = resolve
        self._tls = tls
        self._reading = anyio.Lock()
        self._digest = b""
        self._described: Described | None = None
        self._pools: dict[tuple[str, str, int], HttpPool] = {}
        self._is_closed = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Operations that were left out, and why; and what else an administrator should know."""
        described = self._described
        if described is None:
            return ()
        return (*self._warnings(described), *described.problems)

    async def open(self) -> ServerIdentity:
        """Read the document once. Raises ConnectorError; Misconfigured names the place in it."""
        if self._is_closed:
            raise Unreachable("The upstream was closed.")
        described = self._described or await self._read()
        return ServerIdentity(
            revisions=(LATEST_MODERN, LATEST_LEGACY),
            name=described.title,
            version=described.version,
            instructions=described.description,
            protocol_capabilities=_CAPABILITIES,
            transport="openapi",
        )

    async def list(self) -> Listing:
        """Read the document again; its operations as tools. Raises ConnectorError."""
        described = await self._read()
        return Listing(tools=tuple(one.definition for one in described.operations.values()))

    async def invoke(self, request: Request, credential: Credential) -> AsyncGenerator[Event]:
        """Call an operation; see :meth:`connectors.protocol.Connector.invoke`."""
        if request.method != "tools/call":
            yield Failure("error", "This upstream has tools only.", code=METHOD_NOT_FOUND)
            return
        try:
            described = self._described or await self._read()
        except ConnectorError as error:
            yield Failure("unreachable", str(error))
            return
        name = request.name or string_of(request.params.get("name")) or ""
        operation = described.operations.get(name)
        if operation is None:
            yield Failure("error", "This upstream has no such tool.", code=INVALID_PARAMS)
            return
        try:
            yield await self._call(described, operation, request, credential)
        except BadArgumentsError as error:
            yield tool_result(str(error), request.revision, is_error=True)
        except ConnectorError as error:
            yield Failure("unreachable", str(error))

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """None: a described service has no resources."""
        return uris & frozenset()

    async def close(self) -> None:
        """Close the connections; bounded to 5 s. Idempotent."""
        self._is_closed = True
        async with anyio.create_task_group() as closing:
            for pool in self._pools.values():
                closing.start_soon(pool.close)

    async def _call(
        self, described: Described, operation: Operation, request: Request, credential: Credential
    ) -> Result | Failure:
        """One HTTP request. Raises BadArgumentsError or ConnectorError when none was sent."""
        endpoint = self._endpoint(operation.server)
        own = self._authentication(described, operation, endpoint, credential)
        message = build_request(
            operation, _arguments(request), endpoint, own, traceparent=request.traceparent
        )
        send = fetch_head if operation.method == "HEAD" else fetch
        answer = await send(
            self._pool(endpoint),
            message,
            key=(credential.id, credential.version),
            timeout_s=min(request.timeout_s, self._settings.timeout_cap_s),
        )
        if isinstance(answer, Failure):
            return answer
        max_bytes = self._settings.limits.max_body_bytes
        return answer_of(operation, answer, request.revision, max_bytes)

    async def _read(self) -> Described:
        """The document as it is now; compiled anew only when it has changed."""
        async with self._reading:
            text = await self._fetch()
            digest = hashlib.sha256(text).digest()
            if self._described is None or digest != self._digest:
                header_lines(self._settings.headers)
                try:
                    self._described = await anyio.to_thread.run_sync(_compiled, text)
                except Misconfigured as error:
                    shown = self._settings.source.partition("?")[0]
                    raise Misconfigured(f"{shown}{error}") from error
                self._digest = digest
            return self._described

    async def _fetch(self) -> bytes:
        source = self._settings.source
        if not _is_url(source):
            return await anyio.to_thread.run_sync(_file_content, Path(source))
        origins = {endpoint_of(url).origin for url in (source, self._settings.base_url or source)}
        document = await self._client.fetch(
            source,
            guard=self._resolve,
            headers=self._settings.headers if len(origins) == 1 else None,
            accept=_ACCEPT,
            max_bytes=MAX_JSON_BYTES,
        )
        return document.body

    def _endpoint(self, server: str) -> Endpoint:
        """Where a server of the document is. Raises Misconfigured."""
        if self._settings.base_url is not None:
            return endpoint_of(self._settings.base_url)
        if _is_url(server):
            return endpoint_of(server)
        if _is_url(self._settings.source):
            return resolved(endpoint_of(self._settings.source), server or "/")
        raise Misconfigured("the document names no server with an address; set 'base_url'")

    def _warnings(self, described: Described) -> Iterator[str]:
        if self._settings.headers and self._settings.base_url is None:
            try:
                endpoint = self._endpoint(described.server)
            except Misconfigured:
                return
            if endpoint.origin != self._own_origin(described.server):
                yield "headers are not sent: set 'base_url' to the server that the document names"

    def _own_origin(self, server: str) -> tuple[str, str, int]:
        """The origin that secrets are for: the one that was written, not one that was fetched."""
        written = self._settings.base_url or self._settings.source
        return (endpoint_of(written) if _is_url(written) else self._endpoint(server)).origin

    def _authentication(
        self, described: Described, operation: Operation, endpoint: Endpoint, credential: Credential
    ) -> Authentication:
        """Secrets go to one origin only, wherever else the document leads."""
        if endpoint.origin != self._own_origin(described.server):
            return Authentication()
        given = {name.lower(): (name, value) for name, value in self._settings.headers.items()}
        given |= {name.lower(): (name, value) for name, value in credential.headers.items()}
        return authentication(dict(given.values()), operation.schemes, described.schemes)

    def _pool(self, endpoint: Endpoint) -> HttpPool:
        if self._is_closed:
            raise Unreachable("The upstream was closed.")
        pool = self._pools.get(endpoint.origin)
        if pool is None:
            if len(self._pools) >= MAX_ORIGINS:
                raise Misconfigured("the document leads to too many servers")
            pool = HttpPool(endpoint, self._settings.limits, self._resolve, self._tls)
            self._pools[endpoint.origin] = pool
        return pool


def _compiled(text: bytes) -> Described:
    return compile_document(read_document(text))


def _file_content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise Misconfigured(f"{path}: there is no such file")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise Misconfigured(f"{path}: the document is larger than {MAX_JSON_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror or 'it cannot be read'}") from error


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _arguments(request: Request) -> Mapping[str, Raw]:
    try:
        return members_of(request.params.get("arguments"))
    except msgspec.DecodeError as error:
        raise BadArgumentsError("'arguments' must be an object.") from error
