"""What is shipped to watch Portico with works: run by promtool, and against a real Prometheus."""

import json
import math
import re
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from mcp import MCPError
from ruamel.yaml import YAML

from hub.cli.main import app
from hub.domain.call import Call, CallerTraits, Target
from hub.domain.principal import Evidence
from hub.domain.record import Entry
from hub.telemetry.metrics import Metrics
from tests.peers.clients import connected
from tests.peers.portico import running_portico
from tests.peers.prometheus import Prometheus, program, running_prometheus
from tests.peers.running import modern_server
from tests.project import ROOT

FOLDER = ROOT / "deploy" / "observability"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/portico.json").read_text("utf-8"))
ALERTS: dict[str, Any] = YAML(typ="safe").load((FOLDER / "alerts.yml").read_text("utf-8"))
EXPRESSIONS = {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}
PANELS = {
    f"{panel['title']}: {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
FIRING = {
    "PorticoBudgetAlert",
    "PorticoBudgetSpent",
    "PorticoCountingRefused",
    "PorticoErrorRate",
    "PorticoUpstreamDown",
    "PorticoUpstreamErrors",
}
"""What is true of the traffic below; all other alerts are to return nothing."""

NOW_AND_AGAIN = 40
GRAFANA = {"$__rate_interval": "5s", "$__range": "1m", "$instance": ".*"}
"""What Grafana puts in."""


class _Ruled(BaseHTTPRequestHandler):
    """Shows metrics of calls on which rules acted: one more of each, the first times somebody looks."""

    metrics: Metrics
    left: list[None]

    def do_GET(self) -> None:
        rules = ("no-secrets=redact", "schema=block", "burst=refuse", "month=refuse", "month=alert")
        call = Call(
            id="c1",
            surface="mcp",
            operation="tools/call",
            action="call",
            target=Target("tool", "find_order"),
            evidence=Evidence(),
            traits=CallerTraits(revision="2026-07-28"),
        )
        entry = Entry(
            call="c1",
            at=datetime.now(UTC),
            tenant="default",
            surface="mcp",
            operation="tools/call",
            outcome="refused",
            rules=rules,
            cost=2_000,
            currency="USD",
        )
        if self.left:  # so few that no alert on their number fires
            self.left.pop()
            self.metrics.ended(self.metrics.started(call), entry, None)
        content, media_type = self.metrics.exposition()
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def ruled() -> Iterator[str]:
    """The address of a page of metrics as a hub with rules, a ledger and no Redis shows them."""
    metrics = Metrics(version="1")
    metrics.watch_rules(
        lambda: {
            "no-secrets": "guardrail",
            "schema": "guardrail",
            "burst": "rate",
            "month": "budget",
        }
    )
    metrics.watch_counting(lambda: "refused")
    metrics.watch("portico_ledger_lag_seconds", lambda: 3)
    metrics.watch("portico_record_obstructed", lambda: 0)
    metrics.watch("portico_record_uncovered_seconds", lambda: 4.5)
    page = type("_Page", (_Ruled,), {"metrics": metrics, "left": [None] * 15})
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(5)


def scrape_config(*targets: str) -> str:
    """The configuration as shipped, but for where to look, and how often."""
    config = YAML(typ="safe").load((FOLDER / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": list(targets)}]
    return json.dumps(config)


async def make_calls(url: str, count: int) -> None:
    """As many calls each that go well, fail, and are refused."""
    async with connected(url, "modern") as client:
        for _ in range(count):
            await client.call_tool("echo", {"text": "hello"})
            for failing in ("refuse", "no_such_tool"):
                with pytest.raises(MCPError):
                    await client.call_tool(failing, {})


@pytest.fixture(scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """It has scraped a running Portico before, during and after traffic."""
    with modern_server() as upstream, ruled() as page:
        config = f"""
version: 1
upstreams:
  modern: {{url: "{upstream.url}"}}
  away: {{url: "http://127.0.0.1:1/mcp"}}
"""
        data = tmp_path_factory.mktemp("observed") / "data"
        async with running_portico(data, config=config) as hub:
            await make_calls(hub.url, 1)
            target = urlsplit(hub.url).netloc
            with running_prometheus(scrape_config(target, page)) as server:
                await server.until("sum(up) == 2")
                await server.until('portico_upstream_state{upstream="away",state="down"}')
                await make_calls(hub.url, NOW_AND_AGAIN)
                await server.until(f'proxy_requests_total{{outcome="failed"}} > {NOW_AND_AGAIN}')
                await server.until("increase(portico_budget_alerts_total[1m]) > 0")
                await server.until('ALERTS{alertname="PorticoUpstreamErrors"}')
                yield server


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_has_nothing_to_say_against_it(words: tuple[str, ...]) -> None:
    done = subprocess.run([program("promtool"), *words], cwd=FOLDER, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_to_fire_and_not_to() -> None:
    tested = YAML(typ="safe").load((FOLDER / "alerts_test.yml").read_text("utf-8"))
    fires: set[str] = set()
    rests: set[str] = set()
    for one in tested["tests"]:
        for expected in one["alert_rule_test"]:
            (fires if expected["exp_alerts"] else rests).add(expected["alertname"])
    assert fires == rests == set(EXPRESSIONS)


def test_what_alerts_tell_people_to_type_exists() -> None:
    root: Any = typer.main.get_command(app)
    told = " ".join(
        rule["annotations"]["action"] for group in ALERTS["groups"] for rule in group["rules"]
    )
    commands = re.findall(r"portico ((?:audit )?[a-z]+)((?: --?[a-z]+)?)", told)
    assert len(commands) > 5
    for words, option in commands:
        command = root
        for word in words.split():
            command = command.commands[word]
        known = {name for one in command.params for name in one.opts}
        assert not option or option.strip() in known


@pytest.mark.parametrize("name", PANELS)
async def test_every_panel_shows_something(prometheus: Prometheus, name: str) -> None:
    expression = PANELS[name]
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    found = await prometheus.query(expression)
    assert found, expression
    assert any(math.isfinite(float(series["value"][1])) for series in found)


@pytest.mark.parametrize("name", EXPRESSIONS)
async def test_every_alert_returns_what_is_true(prometheus: Prometheus, name: str) -> None:
    assert bool(await prometheus.query(EXPRESSIONS[name])) == (name in FIRING)


@pytest.mark.parametrize("name", EXPRESSIONS)
async def test_every_alert_looks_at_metrics_that_exist(prometheus: Prometheus, name: str) -> None:
    metrics = re.findall(r"\b(?:up|(?:portico|proxy|process)_[a-z_]+)\b", EXPRESSIONS[name])
    assert metrics
    for metric in metrics:
        assert await prometheus.query(f"count({metric})"), metric


async def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    rules = await prometheus.rules()
    assert {rule["name"] for rule in rules} == set(EXPRESSIONS)
    assert {rule["health"] for rule in rules} == {"ok"}


async def test_the_dashboards_variables_and_annotations_are_answered(
    prometheus: Prometheus,
) -> None:
    (_, instance) = DASHBOARD["templating"]["list"]
    assert instance["definition"] == "label_values(portico_build_info, instance)"
    assert len(await prometheus.query("portico_build_info")) == 2
    (restarts,) = DASHBOARD["annotations"]["list"]
    expression = restarts["expr"].replace("$instance", ".*")
    assert await prometheus.query(expression) == [], "nothing restarted"
    assert await prometheus.query(expression.replace("> 0", ">= 0"))


async def test_what_prometheus_has_is_what_portico_counted(prometheus: Prometheus) -> None:
    found = await prometheus.query(
        'sum by (outcome) (proxy_requests_total{surface="mcp",operation="tools/call"}'
        ' and on (instance) portico_upstream_state{upstream="modern"})'
    )
    counts = {series["metric"]["outcome"]: float(series["value"][1]) for series in found}
    assert counts == dict.fromkeys(("ok", "failed", "refused"), NOW_AND_AGAIN + 1)


def test_it_is_said_which_metrics_there_are() -> None:
    readme = Path(FOLDER / "README.md").read_text("utf-8")
    used = "".join((*PANELS.values(), *EXPRESSIONS.values()))
    for metric in set(re.findall(r"\b(?:portico|proxy)_[a-z_]+\b", used)):
        assert f"`{re.sub('_(bucket|sum|count)$', '', metric)}`" in readme, metric
