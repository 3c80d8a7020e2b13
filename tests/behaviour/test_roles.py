"""Administrative roles: what each may have done, denied unless it is written down."""

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
import pytest

from hub.administration.nouns import OPERATIONS
from hub.domain.administration import Operation
from hub.policy.roles import NEEDED, RIGHTS
from tests.peers.tenancy import Tenancy, tenancy

pytestmark = pytest.mark.anyio

ROLES: Final = ("viewer", "operator", "auditor", "admin", "platform_admin")
ALLOWED: Final = {
    "read": {"viewer", "operator", "admin", "platform_admin"},
    "explain": {"viewer", "operator", "auditor", "admin", "platform_admin"},
    "record": {"auditor", "admin", "platform_admin"},
    "operate": {"operator", "admin", "platform_admin"},
    "configure": {"admin", "platform_admin"},
    "platform": {"platform_admin"},
}
CHANGING: Final = ("put", "delete", "add", "create", "rotate", "import", "apply", "export")
"""Verbs that only administrators have, whatever the noun."""


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenancy]:
    async with tenancy(tmp_path_factory.mktemp("roles") / "data") as running:
        await running.furnish("acme")
        for role in ROLES:
            await running.done("PUT", f"/principals/{role}", {"roles": [role]}, tenant="acme")
        yield running


@pytest.fixture(scope="module")
async def keys(hub: Tenancy) -> dict[str, str]:
    names = [*ROLES, "ann"]
    return {name: (await hub.key(name, tenant="acme"))["key"] for name in names}


async def asked(hub: Tenancy, operation: Operation, key: str) -> httpx2.Response:
    """An operation about things that do not exist, with a body that is empty."""
    path = operation.path.replace("{name}", "absent").replace("{id}", "absent")
    path = path.replace("{principal}", "nobody")
    body: dict[str, Any] | None = {} if operation.body is not None else None
    return await hub.ask(operation.method, path, body, key=key)


def test_every_operation_has_its_right_and_every_role_its_rights() -> None:
    assert {operation.name for operation in OPERATIONS} <= NEEDED.keys()
    assert set(ROLES) == RIGHTS.keys()
    for role, rights in RIGHTS.items():
        assert rights == {right for right, roles in ALLOWED.items() if role in roles}


def test_what_changes_who_may_do_what_takes_more_than_operating() -> None:
    for operation, right in NEEDED.items():
        if operation.partition(".")[2] in CHANGING:
            assert right in {"configure", "platform"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_a_role_may_have_done_what_is_written_and_nothing_else(
    hub: Tenancy, keys: dict[str, str], operation: Operation
) -> None:
    allowed = ALLOWED[NEEDED[operation.name]]
    for role in ROLES:
        answer = await asked(hub, operation, keys[role])
        assert (answer.status_code != 403) is (role in allowed), (role, answer.text)
        assert answer.status_code < 500, answer.text
    assert (await asked(hub, operation, keys["ann"])).status_code == 403


async def test_an_operator_works_upstreams_and_withdraws_keys(
    hub: Tenancy, keys: dict[str, str]
) -> None:
    spare = await hub.key("ann", tenant="acme")
    key = keys["operator"]
    for verb in ("disable", "enable", "refresh", "test"):
        done = await hub.ask("POST", f"/upstreams/acme-asks/{verb}", key=key)
        assert done.status_code == 200, done.text
    gone = await hub.ask("DELETE", f"/keys/{spare['id']}", key=key)
    assert gone.json()["state"] == "revoked"
    listed = await hub.ask("GET", "/keys", key=key)
    assert "ptk_" not in listed.text


async def test_an_operator_cannot_become_more(hub: Tenancy, keys: dict[str, str]) -> None:
    admins = await hub.key("admin", tenant="acme")
    own = (await hub.ask("GET", "/principals/operator", key=keys["operator"])).json()
    attempts: list[tuple[str, str, Any]] = [
        ("PUT", "/principals/operator", {"roles": ["admin"]}),
        ("POST", "/keys", {"principal": "admin"}),
        ("POST", "/keys", {"principal": "operator"}),
        ("POST", f"/keys/{admins['id']}/rotate", None),
        ("PUT", "/groups/team/members/operator", None),
        ("PUT", "/groups/team", {"members": ["operator"]}),
        ("POST", "/grants", {"principal": "operator", "virtual_server": "dev"}),
        ("POST", "/configuration/apply", {"text": "version: 1\n"}),
        ("PUT", "/tenants/acme", {}),
        ("DELETE", "/tenants/acme", None),
    ]
    for method, path, body in attempts:
        refused = await hub.ask(method, path, body, key=keys["operator"])
        assert refused.status_code == 403, (method, path, refused.text)
    assert (await hub.ask("GET", "/principals/operator", key=keys["viewer"])).json() == own


async def test_a_tenants_administrator_reaches_neither_the_platform_nor_other_tenants(
    hub: Tenancy, keys: dict[str, str]
) -> None:
    key = keys["admin"]
    roots = await hub.key("platform_admin", tenant="acme")
    root: dict[str, Any] = {"roles": ["platform_admin"]}
    theirs = {"text": "version: 1\ntenant: default\nprincipals: {eve: {roles: [admin]}}\n"}
    attempts: list[tuple[str, str, Any]] = [
        ("PUT", "/principals/admin", root),
        ("PUT", "/principals/eve", root),
        ("PUT", "/principals/platform_admin", {}),
        ("DELETE", "/principals/platform_admin", None),
        ("POST", "/keys", {"principal": "platform_admin"}),
        ("POST", f"/keys/{roots['id']}/rotate", None),
        ("DELETE", f"/keys/{roots['id']}", None),
        ("PUT", "/upstreams/shell", {"command": ["sh"]}),
        ("POST", "/configuration/apply", theirs),
        ("GET", "/tenants", None),
    ]
    for method, path, body in attempts:
        refused = await hub.ask(method, path, body, key=key)
        assert refused.status_code == 403, (method, path, refused.text)
    for tenant in ("default", "nowhere"):
        refused = await hub.ask("GET", "/upstreams", tenant=tenant, key=key)
        assert refused.status_code == 401
        assert refused.json()["detail"] == "The API key belongs to another tenant."


async def test_what_is_refused_says_which_roles_may(hub: Tenancy, keys: dict[str, str]) -> None:
    refused = await hub.ask("DELETE", "/upstreams/acme-asks", key=keys["viewer"])
    assert refused.json()["detail"] == "This needs the role admin or platform_admin."
    nobody = await hub.ask("GET", "/upstreams", key=keys["ann"])
    assert "administrator's key" in nobody.json()["detail"]


async def test_a_platform_administrator_names_the_tenant_that_is_meant(
    hub: Tenancy, keys: dict[str, str]
) -> None:
    here = await hub.done("GET", "/upstreams")
    there = await hub.done("GET", "/upstreams", tenant="acme")
    assert [item["name"] for item in here["upstreams"]] == []
    assert [item["name"] for item in there["upstreams"]] == ["acme-asks"]
    unknown = await hub.ask("PUT", "/principals/bob", {}, tenant="nowhere")
    assert unknown.status_code == 404
    assert "There is no tenant 'nowhere'" in unknown.json()["detail"]
    # A key that is limited to virtual servers administers nothing, here or there.
    limited = await hub.key("platform_admin", tenant="acme", virtual_servers=["dev"])
    refused = await hub.ask("GET", "/upstreams", tenant="default", key=limited["key"])
    assert refused.status_code == 401
