"""The command line's way to the admin API: of the running hub, else of one started in process.

Both ways are the same requests through the same pipeline, with the key from the data directory.
"""

import importlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2

from hub.cli.printing import EXIT_ERROR, EXIT_REFUSED, fail
from hub.config.references import resolve
from hub.data_directory import Holder, holder_of, remembered_store

TENANT_VARIABLE = "PORTICO_TENANT"
_REFUSED_STATUS = frozenset((401, 403, 409))
_LOOKS = 100
_LOOK_AGAIN_S = 0.1


class Administration:
    """Requests to the admin API. A problem ends the command with its text."""

    def __init__(self, client: httpx2.AsyncClient, key_file: Path, *, in_process: bool) -> None:
        self._key_file = key_file
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
        response = await self.client.request(
            method, f"/api{path}", params=dict(query or {}), json=body
        )
        if not response.is_success:
            problem = _problem_in(response)
            code = EXIT_REFUSED if response.status_code in _REFUSED_STATUS else EXIT_ERROR
            told = problem.get("detail") or problem.get("title") or response.reason_phrase
            if response.status_code == httpx2.codes.UNAUTHORIZED:
                told += f" It is the one in {self._key_file}; put an administrator's key there."
            fail(told, code=code)
        return response.json() if response.content else None


@asynccontextmanager
async def administration(
    data: Path, *, upstreams: bool = False, tenant: str | None = None
) -> AsyncIterator[Administration]:
    """The admin API of ``data``: over HTTP when a hub runs there, else in process.

    ``upstreams``: what is asked needs them, so that they run in process too, until the end.
    ``tenant``: whose objects are meant; None: the variable ``PORTICO_TENANT``, else the key's own.
    """
    tenant = tenant or os.environ.get(TENANT_VARIABLE)
    holder = await serving(data)
    if holder is not None:
        async with _client(holder.url, _key_in(data), tenant) as client:
            try:
                yield Administration(client, _key_file(data), in_process=False)
            except httpx2.TransportError:
                fail("The hub that holds the data directory does not answer; is it shutting down?")
        return
    # The application is heavy: it is loaded when no running hub can be asked.
    app = importlib.import_module("hub.app")
    written = remembered_store(data)
    store_url = resolve(written, os.environ) if written is not None else None
    settings = app.Settings(data=data, store_url=store_url)
    async with app.composed(settings) as hub, AsyncExitStack() as stack:
        if upstreams:
            await stack.enter_async_context(hub.control.running())
            await stack.enter_async_context(hub.upstreams.running())
        transport = httpx2.ASGITransport(hub.asgi)
        async with _client("http://127.0.0.1", _key_in(data), tenant, transport) as client:
            yield Administration(client, _key_file(data), in_process=True)


async def serving(data: Path) -> Holder | None:
    """The process that serves ``data``; None when nobody holds it.

    One that starts, or another command that works on the data itself, is waited for. Ends the
    command when that takes longer than 10 s.
    """
    holder = holder_of(data)
    for _ in range(_LOOKS):
        if holder is None or holder.url:
            break
        await anyio.sleep(_LOOK_AGAIN_S)
        holder = holder_of(data)
    else:
        fail(
            f"{data} is held by {holder}, which serves no URL; end it, start 'portico up' in its "
            "place, or choose another directory with --data."
        )
    return holder


def _problem_in(response: httpx2.Response) -> Any:
    """The problem that a response describes; one without a description has its status."""
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        return response.json()
    return {"title": f"{response.status_code} {response.reason_phrase}"}


def _key_file(data: Path) -> Path:
    return data / "admin.key"


def _key_in(data: Path) -> str:
    file = _key_file(data)
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}. Put an administrator's key there.")


def _client(
    url: str, key: str, tenant: str | None, transport: httpx2.AsyncBaseTransport | None = None
) -> httpx2.AsyncClient:
    named = {"X-Tenant-ID": tenant} if tenant else {}
    return httpx2.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}", **named},
        transport=transport,
        timeout=120.0,
        trust_env=False,
    )
