"""A small MCP client, as much as ``portico call`` needs: one modern request, one answer."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import msgspec
from msgspec import Raw

from mcp_wire.codes import META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_REVISION
from mcp_wire.headers import build_param_headers, encode_header_value, param_header_map
from mcp_wire.jsonrpc import raw
from mcp_wire.revisions import LATEST_MODERN
from mcp_wire.sse import SseDecoder

_META: Final = {
    META_REVISION: LATEST_MODERN,
    META_CLIENT_CAPABILITIES: {},
    META_CLIENT_INFO: {"name": "portico-cli", "version": "1"},
}


async def call_tool(
    client: httpx2.AsyncClient,
    virtual_server: str,
    tool: str,
    arguments: Mapping[str, Raw],
    key: str | None,
) -> dict[str, Any]:
    """Call a tool and give the answer, a JSON-RPC message with ``result`` or ``error``.

    Arguments that the tool wants mirrored in headers are (2026-07-28 transports, custom headers).
    """
    path = "/mcp" if virtual_server == "default" else f"/v/{virtual_server}/mcp"
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    listed = await _request(client, path, "tools/list", {}, headers)
    tools: list[dict[str, Any]] = listed.get("result", {}).get("tools", [])
    schema = next((item["inputSchema"] for item in tools if item["name"] == tool), None)
    mirrored = build_param_headers(param_header_map(schema), raw(arguments))
    params = {"name": tool, "arguments": arguments}
    headers |= {"Mcp-Name": encode_header_value(tool), **dict(mirrored)}
    return await _request(client, path, "tools/call", params, headers)


async def _request(
    client: httpx2.AsyncClient,
    path: str,
    method: str,
    params: Mapping[str, Any],
    headers: Mapping[str, str],
) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": _META}}
    # A tool may take as long as its upstream's settings allow, which the hub sees to.
    response = await client.post(
        path,
        timeout=httpx2.Timeout(None, connect=10.0),
        content=msgspec.json.encode(body),
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": LATEST_MODERN,
            "Mcp-Method": method,
            **headers,
        },
    )
    content = response.content
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        content = SseDecoder().feed(content)[-1].data
    answer: dict[str, Any] = msgspec.json.decode(content)
    return answer
