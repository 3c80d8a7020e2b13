"""Start the example and assert what its rules do: two tenants, three groups, limits, a redaction, a block."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

HERE = Path(__file__).parent
TOP = HERE.parent.parent
sys.path.insert(0, str(TOP))

from examples.starting import free_port, wait_until_listening  # noqa: E402 -- found from here on

PORTICO = Path(sys.executable).with_name("portico")
PORT = 9103
"""Where the files say that the upstream is."""
MODERN = "2026-07-28"


class Hub:
    """The running Portico as its administrator sees it."""

    def __init__(self, url: str, admin_key: str) -> None:
        self.origin = url.removesuffix("/mcp")
        self._headers = {"Authorization": f"Bearer {admin_key}"}

    async def key(self, tenant: str, principal: str) -> str:
        """A new key."""
        headers = {**self._headers, "X-Tenant-ID": tenant}
        async with httpx2.AsyncClient(base_url=self.origin, headers=headers) as http:
            made = await http.post("/api/keys", json={"principal": principal})
        return str(made.raise_for_status().json()["key"])

    async def ask(self, tenant: str, path: str, **query: str) -> Any:
        """What the admin API says about a tenant."""
        headers = {**self._headers, "X-Tenant-ID": tenant}
        async with httpx2.AsyncClient(base_url=self.origin, headers=headers) as http:
            answer = await http.get(path, params=query)
        return answer.raise_for_status().json()


def main() -> int:
    """Run the example; 0 when all assertions held."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port(PORT)
        stack.enter_context(upstream(port))
        files = [written(scratch, name, port) for name in ("acme.yaml", "globex.yaml")]
        url = stack.enter_context(portico(files, scratch / "data"))
        key = (scratch / "data" / "admin.key").read_text(encoding="utf-8").strip()
        anyio.run(check, Hub(url, key))
    return 0


async def check(hub: Hub) -> None:
    """Call as people of all three groups, and look at what is recorded and spent."""
    sue, eve = await hub.key("acme", "sue"), await hub.key("acme", "eve")
    ann = await hub.key("globex", "ann")
    await what_support_sees(hub, sue)
    await what_engineers_may_do(hub, eve)
    await what_the_other_tenant_sees(hub, ann, sue)
    await what_is_on_record(hub)


async def what_support_sees(hub: Hub, key: str) -> None:
    """A redaction, and a limit."""
    async with client(f"{hub.origin}/v/desk/mcp", key) as desk:
        customer = await desk.call_tool("get_customer", {"number": 7})
        assert customer.structured_content is not None, customer
        assert customer.structured_content["name"] == "Ada King", customer
        assert customer.structured_content["email"] == "[email]", customer
        assert customer.structured_content["card"] == "[credit_card]", customer
        assert "ada@example.com" not in text_of(customer), customer
        told("support sees the customer without address and card")
        answers = [await desk.call_tool("get_customer", {"number": n}) for n in range(4)]
        refusals = [answer for answer in answers if answer.is_error]
        assert len(refusals) == 2, answers
        assert refusal_of(refusals[0])["rule"] == "burst", refusals[0]
        told(f"after three calls at once: {text_of(refusals[0])}")


async def what_engineers_may_do(hub: Hub, key: str) -> None:
    """A block, secrets cut out, and a budget that is spent."""
    async with client(f"{hub.origin}/v/dev/mcp", key) as dev:
        dropped = await dev.call_tool("run_report", {"query": "DROP  TABLE customers"})
        assert dropped.is_error, dropped
        assert refusal_of(dropped)["rule"] == "reports-only-read", dropped
        told(f"a report that writes: {text_of(dropped)}")
        line = await dev.call_tool("read_log", {"line": 3})
        assert text_of(line) == "3: connected with [aws_access_key]", line
        told(f"a line of the log: {text_of(line)}")
        reports = [await dev.call_tool("run_report", {"query": f"top {n}"}) for n in range(5)]
        assert [report.is_error for report in reports] == [False] * 4 + [True], reports
        assert refusal_of(reports[4])["rule"] == "reports", reports[4]
        told(f"the fifth report: {text_of(reports[4])}")


async def what_the_other_tenant_sees(hub: Hub, own: str, foreign: str) -> None:
    """Its own virtual server and nothing else, as if there were nothing else."""
    async with client(f"{hub.origin}/v/shop/mcp", own) as shop:
        assert [tool.name for tool in (await shop.list_tools()).tools] == ["find_customer"]
        customer = await shop.call_tool("find_customer", {"number": 7})
        assert customer.structured_content is not None, customer
        assert customer.structured_content["email"] == "ada@example.com", customer
    bodies = []
    async with httpx2.AsyncClient(base_url=hub.origin) as http:
        for server, key in (("desk", own), ("nowhere", own), ("shop", foreign)):
            headers = {"Authorization": f"Bearer {key}"}
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            answer = await http.post(f"/v/{server}/mcp", json=ping, headers=headers)
            bodies.append((answer.status_code, answer.json()["error"]["code"]))
    assert len(set(bodies)) == 1, bodies
    told("each tenant's virtual servers do not exist for the other")


async def what_is_on_record(hub: Hub) -> None:
    """What the rules did, and what was spent."""
    blocked = await hub.ask("acme", "/api/audit/entries", rule="reports-only-read")
    assert [entry["outcome"] for entry in blocked["items"]] == ["refused"], blocked
    usage = await hub.ask("acme", "/api/usage", by="tool")
    assert [cost["amount"] for cost in usage["total"]["costs"]] == ["1.00 USD"], usage
    told("the record names each rule that acted; usage says 1.00 USD were spent")


def client(url: str, key: str) -> Client:
    """A client of the official SDK with a key."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"})
    return Client(streamable_http_client(url, http_client=http), mode=MODERN)


def text_of(result: CallToolResult) -> str:
    """The text of an answer."""
    return str(getattr(result.content[0], "text", ""))


def refusal_of(result: CallToolResult) -> Mapping[str, Any]:
    """Why a call was turned down, for programs."""
    found: Mapping[str, Any] = (result.meta or {})["io.portico/refusal"]
    return found


def told(sentence: str) -> None:
    """Say what was seen."""
    sys.stdout.write(f"- {sentence}\n")


@contextmanager
def upstream(port: int) -> Iterator[None]:
    """The customer database, listening."""
    words = [sys.executable, str(HERE / "crm.py"), "--port", str(port)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_listening(process, "crm", port)
            yield
        finally:
            process.terminate()


@contextmanager
def portico(files: list[Path], data: Path) -> Iterator[str]:
    """Portico on a free port with these files; its MCP URL."""
    words = [str(PORTICO), "up", "--data", str(data), "--port", "0", "--json"]
    for file in files:
        words += ["--config", str(file)]
    with subprocess.Popen(words, cwd=TOP, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "Portico did not start"
            yield json.loads(line)["url"]
        finally:
            process.terminate()


def written(scratch: Path, name: str, port: int) -> Path:
    """A file as it is, or a copy where the upstream had to move to another port."""
    file = HERE / name
    if port == PORT:
        return file
    copy = scratch / name
    text = file.read_text(encoding="utf-8").replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{port}")
    copy.write_text(text, encoding="utf-8")
    return copy


if __name__ == "__main__":
    sys.exit(main())
