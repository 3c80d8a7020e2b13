"""A running Portico with rules: what they did is in its metrics, shown and pushed."""

from contextlib import suppress
from pathlib import Path

import httpx2
from mcp import MCPError

from tests.peers.clients import connected
from tests.peers.collector import running_collector
from tests.peers.portico import running_portico
from tests.peers.running import modern_server

CONFIG = """
version: 1
record: {{retention_days: 1}}
telemetry: {{otlp_endpoint: "{collector}"}}
upstreams: {{modern: {{url: "{upstream}"}}}}
virtual_servers: {{dev: {{include: [{{upstream: modern}}], anonymous: true}}}}
guardrails:
  - {{name: no-secrets, check: secrets, on: [request], action: block, attach: {{tool: dev/echo}}}}
limits:
  - {{name: few, rate: "1/h", per: principal, attach: {{tool: dev/add}}}}
prices: [{{upstream: modern, tool: add, per_call: "0.002 USD"}}]
"""


async def test_what_rules_did_is_shown_and_pushed(tmp_path: Path) -> None:
    with modern_server() as upstream, running_collector() as collector:
        config = CONFIG.format(collector=collector.url, upstream=upstream.url)
        async with running_portico(tmp_path / "data", config=config) as hub:
            async with connected(f"{hub.origin}/v/dev/mcp", "modern") as client:
                for tool, arguments in (
                    ("echo", {"text": "AKIAQYLPMN5HHHFPZAM2"}),
                    ("add", {"a": 1, "b": 1}),
                    ("add", {"a": 1, "b": 1}),
                ):
                    with suppress(MCPError):
                        await client.call_tool(tool, arguments)
            async with httpx2.AsyncClient(trust_env=False) as http:
                shown = (await http.get(f"{hub.origin}/metrics")).text
            await hub.stop()
    assert 'proxy_guardrail_blocks_total{action="block",rule="no-secrets"} 1.0' in shown
    assert 'portico_refusals_total{reason="rate",rule="few"} 1.0' in shown
    assert 'portico_cost_total{currency="USD"} 0.002' in shown
    assert "portico_record_obstructed 0.0" in shown
    pushed = collector.metrics()
    (refused,) = pushed["portico_refusals"].sum.data_points
    assert refused.as_double == 1
    assert "portico_record_uncovered_seconds" in pushed
