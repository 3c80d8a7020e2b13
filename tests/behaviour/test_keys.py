"""API keys: where and until when they are good, what replaces them, and when they were used."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from hub.identity.uses import KeyUses
from hub.stores.database import open_database, sqlite_url
from hub.stores.epochs import Epochs
from hub.stores.keys import KeyStore, KeyUse
from tests.contracts.store_suite import a_key
from tests.peers.clients import connected, tool_names
from tests.peers.portico import portico, running_portico
from tests.peers.tenancy import Tenancy, masked, modern, tenancy

pytestmark = pytest.mark.anyio

UNKNOWN = "ptk_" + "A" * 49
ELSEWHERE = "192.0.2.0/24"


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenancy]:
    async with tenancy(tmp_path_factory.mktemp("keys") / "data") as running:
        await running.furnish("acme")
        yield running


async def posted(hub: Tenancy, key: str, server: str = "dev") -> httpx2.Response:
    return await hub.http.post(f"/v/{server}/mcp", **modern("tools/list", key=key))


async def test_a_key_presented_from_elsewhere_is_an_unknown_key(hub: Tenancy) -> None:
    far = await hub.key("ann", tenant="acme", cidrs=[ELSEWHERE, "2001:db8::/32"])
    near = await hub.key("ann", tenant="acme", cidrs=[ELSEWHERE, "127.0.0.0/8"])
    assert (await posted(hub, near["key"])).status_code == 200
    refused, unknown = await posted(hub, far["key"]), await posted(hub, UNKNOWN)
    assert refused.status_code == 401
    assert masked(refused) == masked(unknown)
    listed = (await hub.done("GET", "/keys", tenant="acme"))["keys"]
    assert {item["id"]: item["cidrs"] for item in listed}[far["id"]] == far["cidrs"]


async def test_where_a_key_is_found_elsewhere_not_even_its_end_is_told(hub: Tenancy) -> None:
    made = await hub.key("ann", tenant="acme", cidrs=[ELSEWHERE], ttl_s=0.001)
    assert masked(await posted(hub, made["key"])) == masked(await posted(hub, UNKNOWN))


async def test_the_address_behind_trusted_proxies_is_what_counts(tmp_path: Path) -> None:
    config = "version: 1\nserver: {trusted_proxies: [127.0.0.1]}\n"
    async with (
        running_portico(tmp_path / "data", config=config) as running,
        httpx2.AsyncClient(base_url=running.origin, headers=running.admin_headers) as http,
    ):
        body = {"principal": "ann", "cidrs": ["192.0.2.7"]}
        made = (await http.post("/api/keys", json=body)).json()
        assert made["cidrs"] == ["192.0.2.7/32"]
        request = modern("tools/list", key=made["key"])
        for address, status in (("192.0.2.7", 403), ("192.0.2.8", 401), ("::ffff:192.0.2.7", 403)):
            headers = {**request["headers"], "X-Forwarded-For": address}
            answer = await http.post("/mcp", content=request["content"], headers=headers)
            # Whoever is known has no grant here, which is the next thing that is looked at.
            assert answer.status_code == status, address


@pytest.mark.parametrize("cidr", ["10.0.0.0/33", "anywhere", ""])
async def test_a_network_that_is_none_is_refused(hub: Tenancy, cidr: str) -> None:
    refused = await hub.ask("POST", "/keys", {"principal": "ann", "cidrs": [cidr]}, tenant="acme")
    assert refused.status_code == 400


async def test_a_key_reaches_the_virtual_servers_it_is_limited_to(hub: Tenancy) -> None:
    other: dict[str, Any] = {"include": [{"upstream": "acme-asks", "tools": ["places"]}]}
    await hub.done("PUT", "/virtual-servers/calm", other, tenant="acme")
    await hub.done("POST", "/grants", {"group": "team", "virtual_server": "calm"}, tenant="acme")
    made = await hub.key("ann", tenant="acme", virtual_servers=["calm"])
    url = f"{hub.portico.origin}/v/calm/mcp"
    async with connected(url, "modern", key=made["key"]) as client:
        assert await tool_names(client) == ["places"]
    denied, absent = await posted(hub, made["key"]), await posted(hub, made["key"], "gone")
    assert denied.status_code == absent.status_code == 403
    assert (
        denied.json()["error"]["message"].replace("dev", "gone")
        == (absent.json()["error"]["message"])
    )


async def test_a_rotated_key_overlaps_with_the_old_one_and_is_good_for_the_same(
    hub: Tenancy,
) -> None:
    old = await hub.key(
        "ann", tenant="acme", virtual_servers=["dev"], cidrs=["127.0.0.0/8"], ttl_s=3_600
    )
    new = await hub.done("POST", f"/keys/{old['id']}/rotate?overlap_s=60", tenant="acme")
    for part in ("principal", "virtual_servers", "cidrs", "tenant"):
        assert new[part] == old[part]
    assert new["key"] != old["key"]
    assert (await posted(hub, old["key"])).status_code == 200
    assert (await posted(hub, new["key"])).status_code == 200
    listed = (await hub.done("GET", "/keys", tenant="acme"))["keys"]
    ends = {item["id"]: datetime.fromisoformat(item["expires_at"]) for item in listed
            if item["expires_at"]}  # fmt: skip
    now = datetime.now(UTC)
    assert now + timedelta(seconds=50) < ends[old["id"]] < now + timedelta(seconds=61)
    assert now + timedelta(seconds=3_500) < ends[new["id"]]

    last = await hub.done("POST", f"/keys/{new['id']}/rotate?overlap_s=0", tenant="acme")
    assert (await posted(hub, new["key"])).status_code == 401
    assert (await posted(hub, last["key"])).status_code == 200
    again = await hub.ask("POST", f"/keys/{new['id']}/rotate", tenant="acme")
    assert again.status_code == 409


async def test_the_command_line_makes_lists_rotates_and_revokes_keys(hub: Tenancy) -> None:
    data = hub.portico.data
    words: tuple[str, ...] = ("--principal", "ci-bot", "--group", "team", "--virtual-server", "dev")
    words += ("--cidr", "127.0.0.1", "--cidr", ELSEWHERE, "--days", "1", "--tenant", "acme")
    made = await portico("key", "create", *words, data=data)
    assert (made["tenant"], made["cidrs"]) == ("acme", ["127.0.0.1/32", ELSEWHERE])
    assert (await posted(hub, made["key"])).status_code == 200
    turned = await portico(
        "key", "rotate", made["id"], "--overlap", "0", "--tenant", "acme", data=data
    )
    listed = await portico("key", "list", "--tenant", "acme", data=data)
    states = {item["id"]: item["state"] for item in listed["keys"]}
    assert (states[made["id"]], states[turned["id"]]) == ("revoked", "active")
    await portico("key", "revoke", turned["id"], "--tenant", "acme", data=data)
    assert (await posted(hub, turned["key"])).status_code == 401
    assert "acme" not in str(await portico("key", "list", data=data))


async def test_when_and_from_where_a_key_was_last_used_is_known_after_a_stop(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    async with running_portico(data) as running:
        made = await portico("key", "create", "--principal", "ann", data=data)
        idle = await portico("key", "create", "--principal", "bob", data=data)
        async with httpx2.AsyncClient(base_url=running.origin) as http:
            before = datetime.now(UTC).replace(second=0, microsecond=0)
            for _ in range(20):
                await http.post("/mcp", **modern("tools/list", key=made["key"]))
        await running.stop()
    listed = (await portico("key", "list", data=data))["keys"]
    used = {item["id"]: (item["used_at"], item["used_from"]) for item in listed}
    at, peer = used[made["id"]]
    assert peer == "127.0.0.1"
    assert before <= datetime.fromisoformat(at) <= datetime.now(UTC)
    assert used[idle["id"]] == (None, None)


class Written:
    """Where uses are written down, and how often."""

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self.batches: list[list[KeyUse]] = []
        self.came = anyio.Event()

    async def used(self, uses: Any) -> None:
        self.batches.append(list(uses))
        await self.store.used(uses)
        self.came.set()


async def test_uses_are_written_together_and_change_no_epoch(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 21, 9, 30, 40, tzinfo=UTC)
    clock = 100.0
    async with open_database(sqlite_url(tmp_path)) as database:
        store = KeyStore(database)
        await store.add(a_key("key-1"))
        await store.add(a_key("key-2"))
        epoch = await Epochs(database).read()
        written = Written(store)
        uses = KeyUses(written, now=lambda: moment, clock=lambda: clock, write_every_s=0.01)
        for _ in range(1000):
            uses.note("key-1", "192.0.2.1")
        uses.note("key-2", "192.0.2.2")
        clock += 50.0  # it is written down 50 s after it was used
        async with uses.running():
            with anyio.fail_after(5):
                await written.came.wait()
            uses.note("key-2", "192.0.2.3")
        first, *_, last = written.batches
        assert [use.id for use in first] == ["key-1", "key-2"]
        assert [use.peer for use in last] == ["192.0.2.3"]
        found = {key.id: (key.used_at, key.used_from) for key in await store.list()}
        assert found == {
            "key-1": ("2026-11-21T09:29:00.000Z", "192.0.2.1"),
            "key-2": ("2026-11-21T09:30:00.000Z", "192.0.2.3"),
        }
        assert await Epochs(database).read() == epoch


async def test_uses_are_kept_while_the_database_is_away(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    async with open_database(sqlite_url(tmp_path)) as database:
        store = KeyStore(database)
        await store.add(a_key("key-1"))
        uses = KeyUses(store, now=lambda: moment, clock=lambda: 0.0)
        uses.note("key-1", "192.0.2.1")
        async with database.write() as connection:
            await connection.exec_driver_sql("ALTER TABLE api_key RENAME TO away")
        await uses.write()
        async with database.write() as connection:
            await connection.exec_driver_sql("ALTER TABLE away RENAME TO api_key")
        await uses.write()
        assert (await store.get("default", "key-1")).used_from == "192.0.2.1"
