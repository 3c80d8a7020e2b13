"""Tenants: made, disabled, removed; one file each; and nothing of one shows in the answers of another."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from hub.administration.nouns import OPERATIONS
from tests.peers.clients import connected, tool_names
from tests.peers.portico import PORTICO, portico, running_portico
from tests.peers.running import modern_server
from tests.peers.tenancy import Tenancy, legacy, masked, modern, tenancy

pytestmark = pytest.mark.anyio

UNKNOWN = "ptk_" + "A" * 49


def file_of(tenant: str, url: str, tool: str, more: str = "") -> str:
    return f"""
version: 1
tenant: {tenant}
{more}
upstreams: {{calc: {{url: "{url}"}}}}
principals: {{ann: {{kind: service}}}}
virtual_servers: {{dev: {{include: [{{upstream: calc, tools: [{tool}]}}]}}}}
grants: [{{principal: ann, virtual_server: dev}}]
"""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Tenancy]:
    async with tenancy(tmp_path / "data") as running:
        await running.furnish("acme")
        yield running


async def listed(hub: Tenancy, key: str) -> httpx2.Response:
    return await hub.http.post("/v/dev/mcp", **modern("tools/list", key=key))


async def test_each_file_is_another_tenant_and_is_followed(tmp_path: Path) -> None:
    second = tmp_path / "beta.yaml"
    data = tmp_path / "data"
    with modern_server() as peer:
        second.write_text(file_of("beta", peer.url, "echo"), encoding="utf-8")
        first = file_of("alpha", peer.url, "add", "server: {fast_lane: true}")
        async with running_portico(data, "--config", str(second), config=first) as running:
            keys = {
                tenant: await portico(
                    "key", "create", "--principal", "ann", "--tenant", tenant, data=data
                )
                for tenant in ("alpha", "beta")
            }
            for tenant, tool in (("alpha", "add"), ("beta", "echo")):
                for path in ("/v/dev/mcp", f"/t/{tenant}/v/dev/mcp"):
                    url = f"{running.origin}{path}"
                    async with connected(url, "modern", key=keys[tenant]["key"]) as client:
                        assert await tool_names(client) == [tool]
            second.write_text(file_of("beta", peer.url, "add"), encoding="utf-8")
            url = f"{running.origin}/v/dev/mcp"
            with anyio.fail_after(10):
                names: list[str] = []
                while names != ["add"]:
                    async with connected(url, "modern", key=keys["beta"]["key"]) as client:
                        names = await tool_names(client)
            # What may not stand beside the other file leaves the old state in force.
            second.write_text(file_of("alpha", peer.url, "echo"), encoding="utf-8")
            log = anyio.Path(data.with_name("data.log"))
            with anyio.fail_after(10):
                while "is described by" not in await log.read_text("utf-8"):
                    await anyio.lowlevel.checkpoint()
            async with connected(url, "modern", key=keys["beta"]["key"]) as client:
                assert await tool_names(client) == ["add"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("version: 1\ntenant: beta\nserver: {port: 1}\n", "server: settings of the process belong"),
        ("version: 1\ntenant: beta\nstore: {}\n", "store: settings of the process belong"),
        ("version: 1\n", "the tenant 'default' is described by"),
        ("version: 2\ntenant: beta\n", "must be 1"),
    ],
)
def test_files_that_do_not_go_together_are_refused(tmp_path: Path, second: str, said: str) -> None:
    words = [PORTICO, "up", "--data", str(tmp_path / "data"), "--port", "0"]
    for name, text in (("one", "version: 1\n"), ("two", second)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text, encoding="utf-8")
        words += ["--config", str(file)]
    done = subprocess.run(words, check=False, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 1
    assert said in done.stderr
    assert "two.yaml" in done.stderr


async def test_the_command_line_makes_disables_and_removes_tenants(hub: Tenancy) -> None:
    data = hub.portico.data
    made = await portico("tenant", "add", "beta", "--title", "Beta Ltd", data=data)
    assert (made["name"], made["title"], made["enabled"]) == ("beta", "Beta Ltd", True)
    assert (await portico("tenant", "disable", "beta", data=data))["title"] == "Beta Ltd"
    found = (await portico("tenant", "list", data=data))["tenants"]
    assert [(item["name"], item["enabled"]) for item in found] == [
        ("acme", True),
        ("beta", False),
        ("default", True),
    ]
    assert (await portico("tenant", "add", "beta", "--title", "B", data=data))["enabled"] is False
    assert (await portico("tenant", "enable", "beta", data=data))["enabled"] is True
    await portico("tenant", "remove", "beta", data=data)
    assert (await hub.ask("GET", "/tenants/beta")).status_code == 404


async def test_a_disabled_tenant_admits_nobody_as_if_no_credential_were_known(
    hub: Tenancy,
) -> None:
    made = await hub.key("ann", tenant="acme")
    admin = await hub.done("PUT", "/principals/boss", {"roles": ["admin"]}, tenant="acme")
    boss = await hub.key(admin["name"], tenant="acme")
    assert (await listed(hub, made["key"])).status_code == 200
    await hub.done("PUT", "/tenants/acme", {"enabled": False})
    assert masked(await listed(hub, made["key"])) == masked(await listed(hub, UNKNOWN))
    shut = await hub.ask("GET", "/upstreams", key=boss["key"])
    assert masked(shut) == masked(await hub.ask("GET", "/upstreams", key=UNKNOWN))
    # The platform still sees to it, and nothing was lost.
    assert (await hub.done("GET", "/upstreams", tenant="acme"))["upstreams"]
    await hub.done("PUT", "/tenants/acme", {"enabled": True})
    assert (await listed(hub, made["key"])).status_code == 200


async def test_removing_a_tenant_takes_its_keys_and_objects_and_leaves_the_record(
    hub: Tenancy,
) -> None:
    made = await hub.key("ann", tenant="acme")
    await listed(hub, made["key"])
    await hub.done("DELETE", "/tenants/acme")
    assert masked(await listed(hub, made["key"])) == masked(await listed(hub, UNKNOWN))
    assert (await hub.ask("GET", "/upstreams", tenant="acme")).status_code == 404
    assert [item["name"] for item in (await hub.done("GET", "/tenants"))["tenants"]] == ["default"]
    theirs = [entry for entry in hub.entries() if entry.tenant == "acme"]
    assert {entry.principal for entry in theirs} == {"ann", "admin"}
    assert [entry.principal for entry in theirs if entry.surface == "mcp"] == ["ann"]
    # Whoever is called the same later holds none of the old keys.
    await hub.furnish("acme")
    assert masked(await listed(hub, made["key"])) == masked(await listed(hub, UNKNOWN))
    states = [key["state"] for key in (await hub.done("GET", "/keys", tenant="acme"))["keys"]]
    assert states == ["revoked"]


async def test_a_tenant_that_files_describe_is_removed_with_force_only(hub: Tenancy) -> None:
    text = "version: 1\ntenant: filed\nprincipals: {ann: {}}\n"
    body = {"text": text, "path": "/etc/portico/filed.yaml"}
    await hub.done("POST", "/configuration/apply", body)
    refused = await hub.ask("DELETE", "/tenants/filed")
    assert refused.status_code == 409
    assert "/etc/portico/filed.yaml" in refused.json()["detail"]
    assert (await hub.ask("DELETE", "/tenants/filed?force=true")).status_code == 204
    assert (await hub.ask("GET", "/tenants/filed")).status_code == 404


async def test_the_tenant_of_the_platform_is_neither_disabled_nor_removed(hub: Tenancy) -> None:
    for method, body in (("PUT", {"enabled": False}), ("DELETE", None)):
        assert (await hub.ask(method, "/tenants/default", body)).status_code == 409
    titled = await hub.done("PUT", "/tenants/default", {"title": "Us"})
    assert titled["title"] == "Us"


async def test_members_join_and_leave_groups_one_by_one(hub: Tenancy) -> None:
    await hub.done("PUT", "/principals/robot", {"kind": "service"}, tenant="acme")
    joined = await hub.done("PUT", "/groups/team/members/robot", tenant="acme")
    assert joined["members"] == ["ann", "robot"]
    again = await hub.done("PUT", "/groups/team/members/robot", tenant="acme")
    assert again["members"] == ["ann", "robot"]
    robot = await hub.done("GET", "/principals/robot", tenant="acme")
    assert (robot["kind"], robot["member_of"]) == ("service", ["team"])
    await hub.done("DELETE", "/groups/team/members/robot", tenant="acme")
    gone = await hub.ask("DELETE", "/groups/team/members/robot", tenant="acme")
    assert gone.status_code == 404
    for path in ("/groups/team/members/nobody", "/groups/none/members/robot"):
        assert (await hub.ask("PUT", path, tenant="acme")).status_code == 404
    # From the principal's side as well, and where a file owns the group.
    await hub.done("PUT", "/principals/robot", {"groups": ["team"]}, tenant="acme")
    await hub.done("DELETE", "/groups/team/members/robot", tenant="acme")
    assert (await hub.done("GET", "/principals/robot", tenant="acme"))["member_of"] == []
    text = "version: 1\ntenant: acme\nprincipals: {pat: {}}\ngroups: {crew: {members: [pat]}}\n"
    body = {"text": text, "path": "/etc/acme.yaml"}
    await hub.done("POST", "/configuration/apply", body, tenant="acme")
    crew = await hub.done("PUT", "/groups/crew/members/robot", tenant="acme")
    assert crew["members"] == ["pat"]
    assert (await hub.done("GET", "/principals/robot", tenant="acme"))["member_of"] == ["crew"]
    owned = await hub.ask("DELETE", "/groups/crew/members/pat", tenant="acme")
    assert owned.status_code == 409
    assert "/etc/acme.yaml" in owned.json()["detail"]
    await hub.done("DELETE", "/groups/crew/members/robot", tenant="acme")


METHODS: dict[str, dict[str, Any]] = {
    "server/discover": {},
    "tools/list": {},
    "tools/call": {"name": "colour", "arguments": {}},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "ask://colour/hall"},
    "prompts/list": {},
    "prompts/get": {"name": "advice"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "advice"},
        "argument": {"name": "a", "value": "b"},
    },
    "subscriptions/listen": {"notifications": {"toolsListChanged": True}},
    "nonsense/method": {},
}
LEGACY_METHODS = (
    "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
    "tools/list", "tools/call", "notifications/initialized",
)  # fmt: skip


@pytest.fixture(scope="module")
async def neighbours(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenancy]:
    """``acme`` asks; ``bravo`` is its neighbour; ``nobdy`` does not exist."""
    async with tenancy(tmp_path_factory.mktemp("neighbours") / "data") as running:
        await running.furnish("acme")
        await running.furnish("bravo", server="bravo-srv", principal="bravo-pat")
        await running.done("PUT", "/principals/boss", {"roles": ["admin"]}, tenant="acme")
        yield running


class Prober:
    """Asks the same of a tenant that exists and of one that does not, and compares what comes."""

    def __init__(self, hub: Tenancy, key: str) -> None:
        self._hub = hub
        self._key = key
        self.statuses: set[int] = set()

    async def probe(self, method: str, path: str, **request: Any) -> None:
        """``NAME`` stands for a tenant in path, headers and body."""
        answers = []
        for name in ("bravo", "nobdy"):
            headers = {
                "Authorization": f"Bearer {self._key}",
                **{key: value.replace("NAME", name) for key, value in
                   request.get("headers", {}).items()},
            }  # fmt: skip
            content = request.get("content", "").replace("NAME", name)
            with anyio.fail_after(10):
                answer = await self._hub.http.request(
                    method, path.replace("NAME", name), content=content, headers=headers
                )
            answers.append(masked(answer, name))
            self.statuses.add(answer.status_code)
        assert answers[0] == answers[1], (method, path)


@pytest.fixture(scope="module")
async def prober(neighbours: Tenancy) -> Prober:
    return Prober(neighbours, (await neighbours.key("boss", tenant="acme"))["key"])


def endpoints() -> Iterator[tuple[str, dict[str, str]]]:
    """Every way to name another tenant, and what may be at it."""
    for path in ("/mcp", "/v/NAME-srv/mcp", "/v/dev/mcp"):
        yield f"/t/NAME{path}", {}
        yield path, {"X-Tenant-ID": "NAME"}
        yield f"/t/NAME{path}", {"X-Tenant-ID": "NAME"}
        yield f"/t/acme{path}", {"X-Tenant-ID": "NAME"}
    yield "/v/NAME-srv/mcp", {}


@pytest.mark.parametrize(("path", "named"), list(endpoints()))
async def test_no_mcp_method_tells_a_foreign_tenant_from_one_that_does_not_exist(
    prober: Prober, path: str, named: dict[str, str]
) -> None:
    for method, params in METHODS.items():
        request = modern(method, params, key="")
        headers = {**request["headers"], **named}
        del headers["Authorization"]
        await prober.probe("POST", path, content=request["content"], headers=headers)
    for method in LEGACY_METHODS:
        request = legacy(method, METHODS.get(method), key="")
        headers = {**request["headers"], **named, "Mcp-Session-Id": "NAME"}
        del headers["Authorization"]
        await prober.probe("POST", path, content=request["content"], headers=headers)
    for method in ("GET", "DELETE", "OPTIONS", "PUT"):
        await prober.probe(method, path, headers={**named, "Accept": "text/event-stream"})
    await prober.probe("GET", path.removesuffix("/mcp") + "/sse", headers=named)
    await prober.probe("POST", path.removesuffix("/mcp") + "/sse/messages", headers=named)
    assert 200 not in prober.statuses


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_no_operation_tells_a_foreign_tenant_from_one_that_does_not_exist(
    prober: Prober, operation: Any
) -> None:
    path = f"/api{operation.path}"
    for parameter in ("{name}", "{id}", "{principal}"):
        path = path.replace(parameter, "NAME-pat")
    query = "&".join(f"{name}=NAME-pat" for name in operation.query)
    path += f"?{query}" if query else ""
    body = "{}" if operation.body is not None else ""
    await prober.probe(operation.method, path, content=body, headers={"X-Tenant-ID": "NAME"})
    if operation.name not in ("principals.put", "groups.put"):  # it may have such ones of its own
        await prober.probe(operation.method, path, content=body)


async def test_no_object_of_a_foreign_tenant_is_known_by_its_name(
    neighbours: Tenancy, prober: Prober
) -> None:
    """Names that ``bravo`` has, asked for inside ``acme``."""
    documents = [
        ("/api/configuration/validate", "tenant: NAME"),
        ("/api/configuration/plan", "tenant: NAME"),
        ("/api/configuration/apply", "tenant: NAME"),
        ("/api/configuration/validate", "groups: {g: {members: [NAME-pat]}}"),
        ("/api/configuration/plan", "grants: [{principal: NAME-pat, virtual_server: NAME-srv}]"),
    ]
    for path, line in documents:
        await prober.probe("POST", path, content=f'{{"text": "version: 1\\n{line}\\n"}}')
    for noun, name in (
        ("upstreams", "NAME-asks"),
        ("virtual-servers", "NAME-srv"),
        ("principals", "NAME-pat"),
        ("tenants", "NAME"),
    ):
        await prober.probe("GET", f"/api/{noun}/{name}")
        await prober.probe("DELETE", f"/api/{noun}/{name}")
    await prober.probe("POST", "/api/keys", content='{"principal": "ann", "group": "NAME"}')
    theirs = await neighbours.key("bravo-pat", tenant="bravo")
    mine = (await neighbours.key("boss", tenant="acme"))["key"]
    for key_id in (theirs["id"], "key-000000000000"):
        for method, tail in (("DELETE", ""), ("POST", "/rotate")):
            answer = await neighbours.ask(method, f"/keys/{key_id}{tail}", key=mine)
            assert answer.status_code == 404
            assert answer.json()["detail"] == f"There is no key '{key_id}'."
    # A session of theirs is one that never was.
    hello = await neighbours.http.post(
        "/v/bravo-srv/mcp", **legacy("initialize", key=theirs["key"])
    )
    session = hello.headers["mcp-session-id"]
    for method in ("tools/list", "tools/call", "ping"):
        answers = []
        for given in (session, "x" * len(session)):
            request = legacy(method, METHODS.get(method), key=mine)
            request["headers"]["Mcp-Session-Id"] = given
            answers.append(masked(await neighbours.http.post("/v/bravo-srv/mcp", **request)))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


async def test_a_foreign_record_shows_nothing(neighbours: Tenancy) -> None:
    theirs = await neighbours.key("bravo-pat", tenant="bravo")
    asked = modern("tools/list", key=theirs["key"])
    await neighbours.http.post("/v/bravo-srv/mcp", **asked)
    mine = (await neighbours.key("boss", tenant="acme"))["key"]
    found = await neighbours.ask("GET", "/audit/entries?limit=1000", key=mine)
    assert found.status_code == 200
    assert "bravo-pat" not in found.text
