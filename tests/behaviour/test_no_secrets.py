"""A run with secrets in arguments, headers, environment and keys: none of them is anywhere afterwards."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import MCPError
from msgspec import Struct

from tests.peers.clients import connected
from tests.peers.portico import Portico, running_portico
from tests.peers.running import modern_server

ENVIRONMENT = {
    "UPSTREAM_TOKEN": "Bearer up-5f3a9c1e7b2d4486",
    "UPSTREAM_HEADER": "hd-90c2ab47de113f5a",
    "CHILD_PASSWORD": "ch-77ab01cd92ef4433",
}
GUARDED = "AKIAQYLPMN5HHHFPZAM2"
"""What a guardrail blocks and redacts: it looks like a key of a cloud."""
IN_ARGUMENTS = ("ar-1d2c3b4a59687706", GUARDED)
IN_HEADERS = ("cookie-4e5f6a7b8c9d0e1f", "query-0f1e2d3c4b5a6978", "ptk_wr0ngwr0ngwr0ng")
ENTRIES, LOGS = "/api/audit/entries", "/api/upstreams/child/logs"
CHILD = """
import os, sys
print("my password is", os.environ["PASSWORD"], file=sys.stderr)
sys.exit(3)
"""
CONFIG = """
version: 1
telemetry: {{log_level: debug, log_format: json}}
upstreams:
  modern:
    url: "{url}"
    headers: {{Authorization: "env:UPSTREAM_TOKEN", X-Secret: "env:UPSTREAM_HEADER"}}
  away: {{url: "http://127.0.0.1:1/mcp", headers: {{X-Secret: "env:UPSTREAM_HEADER"}}}}
  child: {{command: {command}, env: {{PASSWORD: "env:CHILD_PASSWORD"}}}}
virtual_servers:
  dev: {{include: [{{upstream: modern}}]}}
principals:
  ann: {{kind: person}}
grants:
  - {{virtual_server: dev, principal: ann}}
guardrails:
  - {{name: no-secrets-out, check: secrets, on: [request], action: block, attach: {{tool: dev/echo}}}}
  - {{name: no-secrets-back, check: secrets, on: [response], action: redact, attach: {{virtual_server: dev}}}}
  - {{name: only-looking, check: secrets, on: [request], action: block, mode: monitor, attach: {{virtual_server: dev}}}}
limits:
  - {{name: few, rate: "1/h", per: principal, attach: {{tool: dev/add}}}}
"""


class Traces(Struct, frozen=True):
    """What a run leaves: text by where it is."""

    secrets: tuple[str, ...]
    texts: dict[str, str]


@pytest.fixture(scope="module")
async def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    data = tmp_path_factory.mktemp("secretive") / "data"
    with modern_server() as upstream:
        command = json.dumps([sys.executable, "-c", CHILD])
        config = CONFIG.format(url=upstream.url, command=command)
        async with (
            running_portico(data, config=config, env=ENVIRONMENT) as hub,
            httpx2.AsyncClient(
                base_url=hub.origin, headers=hub.admin_headers, trust_env=False
            ) as admin,
        ):
            made = await admin.post("/api/keys", json={"principal": "ann"})
            key, admin_key = made.json()["key"], hub.admin_key
            texts = await answers(hub, key)
            for url in (ENTRIES, LOGS, "/api/upstreams", "/metrics"):
                texts[url] = (await admin.get(url)).raise_for_status().text
            exported = await admin.post("/api/configuration/export", json={})
            texts["export"] = exported.raise_for_status().text
    texts["log"] = await anyio.Path(data.with_name("data.log")).read_text("utf-8")
    for path in data.rglob("*"):
        if path.is_file() and path.name != "admin.key":
            texts[str(path.relative_to(data))] = path.read_bytes().decode("latin-1")
    tokens = [value.rpartition(" ")[2] for value in ENVIRONMENT.values()]
    secrets = (*tokens, *IN_ARGUMENTS, *IN_HEADERS, key, admin_key)
    return Traces(secrets, texts)


async def answers(hub: Portico, key: str) -> dict[str, str]:
    """Calls that end in every way there is; what Portico itself answered to them."""
    told: dict[str, str] = {}
    url = f"{hub.origin}/v/dev/mcp"
    async with connected(url, "modern", key=key) as client:
        calls: tuple[tuple[str, dict[str, Any]], ...] = (
            ("echo", {"text": IN_ARGUMENTS[0]}),
            ("headers", {}),
            ("fail", {"reason": GUARDED}),
            ("refuse", {"code": -32050, "more": IN_ARGUMENTS[0]}),
        )
        for tool, arguments in calls:
            await _called(client, tool, arguments)
        calls = (
            ("echo", {"text": GUARDED}),
            ("no_such_tool", {"text": IN_ARGUMENTS[0]}),
            ("add", {"a": 1, "b": 1, "c": IN_ARGUMENTS[0]}),
            ("add", {"a": 1, "b": 1, "c": GUARDED}),
        )
        for number, (tool, arguments) in enumerate(calls):
            told[f"answer {number}"] = await _called(client, tool, arguments)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    async with httpx2.AsyncClient(trust_env=False) as http:
        requests: tuple[tuple[str, dict[str, str], str], ...] = (
            ("/mcp", {"Authorization": f"Bearer {IN_HEADERS[2]}"}, body),
            ("/mcp", {"X-API-Key": IN_HEADERS[2], "Cookie": f"s={IN_HEADERS[0]}"}, body),
            (f"/mcp?token={IN_HEADERS[1]}", {"Authorization": f"Basic {IN_HEADERS[0]}"}, body),
            ("/v/none/mcp", {"Authorization": f"Bearer {key}"}, body),
            ("/mcp", {"Authorization": f"Bearer {key}"}, f'{{"x": "{IN_ARGUMENTS[0]}'),
            (f"/api/upstreams?secret={IN_HEADERS[1]}", {"X-API-Key": key}, body),
        )
        for number, (path, headers, content) in enumerate(requests):
            sent = {"Content-Type": "application/json", "Accept": "application/json", **headers}
            answer = await http.post(hub.origin + path, headers=sent, content=content)
            assert answer.status_code >= 400
            told[f"refusal {number}"] = answer.text + json.dumps(dict(answer.headers))
    return told


async def _called(client: Any, tool: str, arguments: dict[str, Any]) -> str:
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as error:
        return str(error.error.model_dump_json())
    return str(result.model_dump_json())


async def test_no_secret_is_in_logs_metrics_entries_answers_or_files(traces: Traces) -> None:
    assert len(traces.secrets) > 7
    found = [
        (secret[:6], where)
        for where, text in traces.texts.items()
        for secret in traces.secrets
        if secret in text
    ]
    assert found == []


async def test_the_run_was_one_that_had_something_to_hide(traces: Traces) -> None:
    entries = json.loads(traces.texts[ENTRIES])["items"]
    assert {"ok", "failed", "refused"} <= {entry["outcome"] for entry in entries}
    notes = {note for entry in entries for note in entry.get("rules", ())}
    assert notes >= {
        "no-secrets-out=block",
        "no-secrets-back=redact",
        "only-looking=monitor",
        "few=refuse",
    }
    assert "my password is [redacted]" in traces.texts[LOGS]
    assert any(Path(name).suffix == ".jsonl" for name in traces.texts)
