"""``explain``: which layer and rule let somebody in, or keep somebody out, from the door to the grant."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.peers.portico import portico
from tests.peers.tenancy import Tenancy, modern, tenancy

pytestmark = pytest.mark.anyio

GRANT = "group:team@dev"


@pytest.fixture
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenancy]:
    async with tenancy(tmp_path_factory.mktemp("explain") / "data") as running:
        await running.furnish("acme")
        await running.done("PUT", "/principals/bob", {}, tenant="acme")
        yield running


async def why(hub: Tenancy, principal: str, capability: str, **more: str) -> dict[str, Any]:
    query = {"principal": principal, "capability": capability, "virtual_server": "dev", **more}
    found: dict[str, Any] = await hub.done("GET", f"/explain?{urlencode(query)}", tenant="acme")
    return found


async def test_a_grant_and_the_group_it_came_through_are_named(hub: Tenancy) -> None:
    found = await why(hub, "ann", "colour")
    assert (found["allowed"], found["layer"], found["rule"]) == (True, "grant", GRANT)
    assert (found["grants"], found["groups"]) == ([GRANT], ["team"])
    assert found["reason"] == f"Grant {GRANT} names it, and ann is in the group team."
    own = {"principal": "bob", "virtual_server": "dev", "tools": ["places"]}
    await hub.done("POST", "/grants", own, tenant="acme")
    found = await why(hub, "bob", "places")
    assert (found["layer"], found["groups"]) == ("grant", [])
    assert found["rule"] == "principal:bob@dev[tools=places]"


async def test_what_no_grant_names_is_denied_by_layer_and_says_whose_grants_would(
    hub: Tenancy,
) -> None:
    found = await why(hub, "bob", "colour")
    assert (found["allowed"], found["layer"]) == (False, "virtual_server")
    assert found["other_grants"] == [GRANT]
    own = {"principal": "bob", "virtual_server": "dev", "tools": ["places"]}
    await hub.done("POST", "/grants", own, tenant="acme")
    found = await why(hub, "bob", "colour")
    assert (found["allowed"], found["layer"], found["other_grants"]) == (False, "grant", [GRANT])
    assert found["reason"] == "No grant of bob, who is in no group, names 'colour'."
    absent = await why(hub, "bob", "no_such_tool")
    assert (absent["allowed"], absent["rule"]) == (False, "absent")


async def test_a_key_is_part_of_the_explanation(hub: Tenancy) -> None:
    wide = await hub.key("ann", tenant="acme", cidrs=["192.0.2.0/24"], ttl_s=3_600)
    found = await why(hub, "ann", "colour", key=wide["id"])
    assert found["allowed"]
    assert found["conditions"] == ["from 192.0.2.0/24", f"until {wide['expires_at']}"]
    assert (await why(hub, "ann", "colour", key=wide["id"], peer="192.0.2.9"))["allowed"]
    found = await why(hub, "ann", "colour", key=wide["id"], peer="198.51.100.1")
    assert (found["allowed"], found["layer"], found["rule"]) == (False, "credential", wide["id"])
    assert "192.0.2.0/24 only, not from 198.51.100.1" in found["reason"]

    narrow = await hub.key("ann", tenant="acme", virtual_servers=["default"])
    found = await why(hub, "ann", "colour", key=narrow["id"])
    assert (found["allowed"], found["layer"]) == (False, "key_scope")
    assert found["reason"] == "The key is limited to default."

    short = await hub.key("ann", tenant="acme", ttl_s=0.001)
    found = await why(hub, "ann", "colour", key=short["id"])
    assert found["layer"] == "credential"
    assert found["reason"].startswith("The key expired at ")
    await hub.done("DELETE", f"/keys/{wide['id']}", tenant="acme")
    found = await why(hub, "ann", "colour", key=wide["id"])
    assert found["reason"].startswith("The key was revoked at ")
    found = await why(hub, "bob", "colour", key=narrow["id"])
    assert found["reason"] == "The key is one of ann."
    unknown = await hub.ask("GET", "/explain?principal=ann&capability=x&key=key-0", tenant="acme")
    assert unknown.status_code == 404


async def test_roles_are_named_for_capabilities_and_for_operations(hub: Tenancy) -> None:
    await hub.done("PUT", "/principals/root", {"roles": ["platform_admin"]}, tenant="acme")
    found = await why(hub, "root", "colour")
    assert (found["allowed"], found["layer"], found["rule"]) == (True, "role", "platform_admin")
    await hub.done("PUT", "/principals/bob", {"roles": ["operator"]}, tenant="acme")
    found = await why(hub, "bob", "upstreams.refresh")
    assert (found["allowed"], found["layer"], found["rule"]) == (True, "role", "operator")
    found = await why(hub, "bob", "upstreams.put")
    assert (found["allowed"], found["layer"], found["rule"]) == (False, "role", "configure")
    assert found["reason"] == (
        "It takes the role admin or platform_admin; the roles of bob: operator."
    )


async def test_a_disabled_tenant_is_the_reason_for_everything(hub: Tenancy) -> None:
    made = await hub.key("ann", tenant="acme")
    await hub.done("PUT", "/tenants/acme", {"enabled": False})
    found = await why(hub, "ann", "colour", key=made["id"])
    assert (found["allowed"], found["layer"], found["rule"]) == (False, "tenant", "disabled")
    refused = await hub.http.post("/v/dev/mcp", **modern("tools/list", key=made["key"]))
    assert refused.status_code == 401


async def test_the_command_line_says_it_in_a_sentence(hub: Tenancy) -> None:
    made = await hub.key("ann", tenant="acme", cidrs=["192.0.2.0/24"])
    words = ("explain", "ann", "colour", "-v", "dev", "--tenant", "acme", "--key", made["id"])
    found = await portico(*words, "--from", "198.51.100.1", data=hub.portico.data)
    assert (found["allowed"], found["layer"]) == (False, "credential")
    found = await portico(*words, "--kind", "tool", data=hub.portico.data)
    assert found["rule"] == GRANT
