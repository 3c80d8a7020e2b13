"""A running hub as the relay of standard streams sees it: where it is, and what its answers say."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from mcp_wire.sse import SseDecoder


class HttpAnswer(Protocol):
    """An answer whose body is still coming; ``httpx2.Response`` is one."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, whatever its case."""
        ...

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body, decoded, as it comes."""
        ...


class HttpClient(Protocol):
    """Sends requests; ``httpx2.AsyncClient`` is one, and must not time reading out."""

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes
    ) -> AbstractAsyncContextManager[HttpAnswer]:
        """Send one request; leaving the block gives the rest of its answer up."""
        ...


class Hub(Struct, frozen=True):
    """Where the hub is, and how it is spoken to."""

    client: HttpClient
    url: str
    headers: Mapping[str, str]
    """The credential."""
    failures: tuple[type[Exception], ...]
    """What the client raises when the hub cannot be reached or hangs up."""


class Answered:
    """Reads the messages of an answer, which may come on one stream after another."""

    def __init__(self) -> None:
        self.last_id = ""
        """Of the last event, after which the answer can be taken up again; empty where it cannot."""
        self.retry_ms: int | None = None
        """How long the hub wants to be left alone before that."""

    async def messages(self, answer: HttpAnswer) -> AsyncGenerator[bytes]:
        """JSON-RPC messages as they come. Raises SseError."""
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            decoder = SseDecoder()
            decoder.last_id = self.last_id
            async for chunk in answer.aiter_bytes():
                for event in decoder.feed(chunk):
                    self.last_id = event.id
                    yield event.data
                self.last_id, self.retry_ms = decoder.last_id, decoder.retry_ms or self.retry_ms
            return
        body = b"".join([chunk async for chunk in answer.aiter_bytes()])
        if kind == "application/json" and body:
            yield body
