"""Requests off the data path: documents that are fetched (OpenAPI, registries, metadata), alerts.

One client for the whole process. Every hop passes the address guard and is connected to the address
that was judged; bodies are bounded; headers never follow a redirect to another origin.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import httpx2
from msgspec import Struct

from connectors.errors import ConnectorError, ProtocolViolation, Unreachable
from connectors.http_message import endpoint_of, header_lines, resolved
from connectors.http_pool import Resolve, default_tls

MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
MAX_REDIRECTS: Final = 5
TOTAL_S: Final = 60.0
_GUARD: Final = "io.portico.guard"
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))


class Document(Struct, frozen=True):
    """What was fetched, and from where in the end."""

    url: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class UnexpectedStatusError(ConnectorError):
    """The server answered with another status than 2xx."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class HttpClient:
    """The shared client; an async context manager that closes its connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._client = httpx2.AsyncClient(
            transport=_GuardedTransport(tls or default_tls()),
            timeout=httpx2.Timeout(30.0, connect=10.0),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        await self._client.aclose()

    async def fetch(
        self,
        url: str,
        *,
        guard: Resolve,
        headers: Mapping[str, str] | None = None,
        accept: str = "*/*",
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> Document:
        """GET a document within 60 s, following redirects.

        Raises UnexpectedStatusError, Unreachable, AddressRefused, Misconfigured for an address that
        cannot be used, and ProtocolViolation for a document that is too large or never settles.
        """
        origin = endpoint_of(url).origin
        header_lines(headers or {})
        try:
            async with asyncio.timeout(TOTAL_S):
                for _ in range(MAX_REDIRECTS + 1):
                    own = headers if endpoint_of(url).origin == origin else None
                    found = await self._get(
                        url, guard, {"Accept": accept, **(own or {})}, max_bytes
                    )
                    if isinstance(found, Document):
                        return found
                    url = found
        except TimeoutError:
            raise Unreachable(f"{endpoint_of(url).url} did not answer in time") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Unreachable(f"{endpoint_of(url).url}: {type(error).__name__}") from error
        raise ProtocolViolation(f"{endpoint_of(url).url} redirects too often")

    async def post(
        self, url: str, body: bytes, *, guard: Resolve, content_type: str, within_s: float
    ) -> int:
        """POST a body and return the status of the answer, whose body is not read.

        Redirects are not followed. Raises as :meth:`fetch` does, but for the status.
        """
        endpoint = endpoint_of(url)
        headers = {"Content-Type": content_type}
        try:
            async with (
                asyncio.timeout(within_s),
                self._client.stream(
                    "POST", url, content=body, headers=headers, extensions={_GUARD: guard}
                ) as answer,
            ):
                return answer.status_code
        except TimeoutError:
            raise Unreachable(f"{endpoint.url} did not answer in time") from None
        except httpx2.TransportError as error:
            raise Unreachable(f"{endpoint.url}: {type(error).__name__}") from error

    async def _get(
        self, url: str, guard: Resolve, headers: Mapping[str, str], max_bytes: int
    ) -> Document | str:
        """The document, or where it has moved."""
        extensions = {_GUARD: guard}
        async with self._client.stream(
            "GET", url, headers=dict(headers), extensions=extensions
        ) as answer:
            location = answer.headers.get("location")
            if answer.status_code in _REDIRECTS and location is not None:
                moved = resolved(endpoint_of(url), location)
                return f"{moved.scheme}://{moved.authority}{moved.target}"
            if not answer.is_success:
                raise UnexpectedStatusError(
                    f"{endpoint_of(url).url} answered with status {answer.status_code}",
                    status=answer.status_code,
                )
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise ProtocolViolation(
                        f"{endpoint_of(url).url} is larger than {max_bytes} bytes"
                    )
            content_type = answer.headers.get("content-type", "")
            return Document(url, content_type, bytes(body), tuple(answer.headers.multi_items()))


class _GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects to an address that the request's own guard has judged, and to no other."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        # No keep-alive: an idle connection to an address would serve any name that leads there.
        limits = httpx2.Limits(max_connections=32, max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        guard: Resolve = request.extensions[_GUARD]
        endpoint = endpoint_of(str(request.url))
        addresses = await guard(endpoint.host, endpoint.port)
        return await self._first_that_connects(request, endpoint.host, addresses)

    async def _first_that_connects(
        self, request: httpx2.Request, host: str, addresses: Sequence[str]
    ) -> httpx2.Response:
        failure: httpx2.TransportError = httpx2.ConnectError("no address")
        for address in addresses:
            pinned = httpx2.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()
