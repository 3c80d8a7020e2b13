"""The command line's way to the admin API: of the running hub, else of one started in process.

Both ways are the same requests through the same pipeline, with the key from the data directory.
"""

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from hub.cli.printing import EXIT_ERROR, EXIT_REFUSED, fail
from hub.data_directory import holder_of

_REFUSED_STATUS = frozenset((401, 403, 409))


class Administration:
    """Requests to the admin API. A problem ends the command with its text."""

    def __init__(self, client: httpx2.AsyncClient, *, in_process: bool) -> None:
        self.client = client
        """The client itself, for requests beside the admin API."""
        self.in_process = in_process
        """No hub is running: what was asked is done, and nothing goes on afterwards."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """What is at ``path`` below ``/api``."""
        return await self._request("GET", path, query=query)

    async def put(self, path: str, body: Any) -> Any:
        """Make or replace what is at ``path``."""
        return await self._request("PUT", path, body=body)

    async def post(
        self, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """Have something done."""
        return await self._request("POST", path, query=query, body=body)

    async def delete(self, path: str) -> None:
        """Remove what is at ``path``."""
        await self._request("DELETE", path)

    async def _request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Any:
        try:
            response = await self.client.request(
                method, f"/api{path}", params=dict(query or {}), json=body
            )
        except httpx2.ConnectError:
            fail("The hub that holds the data directory does not answer; is it shutting down?")
        if not response.is_success:
            problem = _problem_in(response)
            code = EXIT_REFUSED if response.status_code in _REFUSED_STATUS else EXIT_ERROR
            fail(problem.get("detail") or problem.get("title") or response.reason_phrase, code=code)
        return response.json() if response.content else None


@asynccontextmanager
async def administration(data: Path) -> AsyncIterator[Administration]:
    """The admin API of ``data``: over HTTP when a hub runs there, else in process."""
    holder = holder_of(data)
    if holder is not None and holder.url:
        async with _client(holder.url, _key_in(data), None) as client:
            yield Administration(client, in_process=False)
        return
    # The application is heavy: it is loaded when no running hub can be asked.
    app = importlib.import_module("hub.app")
    async with app.composed(app.Settings(data=data)) as hub:
        transport = httpx2.ASGITransport(hub.asgi)
        async with _client("http://127.0.0.1", _key_in(data), transport) as client:
            yield Administration(client, in_process=True)


def _problem_in(response: httpx2.Response) -> Any:
    """The problem that a response describes; one without a description has its status."""
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        return response.json()
    return {"title": f"{response.status_code} {response.reason_phrase}"}


def _key_in(data: Path) -> str:
    try:
        return (data / "admin.key").read_text(encoding="utf-8").strip()
    except OSError as error:
        fail(f"The administrator's key cannot be read: {error}.")


def _client(url: str, key: str, transport: httpx2.AsyncBaseTransport | None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"},
        transport=transport,
        timeout=120.0,
        trust_env=False,
    )
