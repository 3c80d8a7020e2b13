"""Desired state as administrators meet it: plan, apply, export, single objects, keys."""

import json
import stat
from collections.abc import AsyncIterator, Mapping, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import text as sql

from hub.administration.answering import Administration, encoded
from hub.administration.authority import local_administrator
from hub.administration.desk import Desk
from hub.administration.keys import ensure_admin_key
from hub.administration.nouns import FUNCTIONS
from hub.administration.openapi_document import openapi_document
from hub.domain.desired import Desired, UpstreamSpec
from hub.domain.principal import Principal
from hub.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StoreUnavailableError,
)
from hub.identity.api_keys import digest_of, is_well_formed, new_key
from hub.stores.database import Database, open_database, sqlite_url
from hub.stores.epochs import Epochs
from hub.stores.keys import KeyStore
from hub.stores.objects import Change, ObjectStore, Stored

FILE = "/etc/portico/portico.yaml"
BASE = """\
version: 1
upstreams:
  files: {command: [npx, server], env: {LOG_LEVEL: info}}
  orders: {url: "https://orders.example/mcp", headers: {X-Key: "env:ORDERS_KEY"}}
principals: {ci-bot: {kind: service}}
groups: {engineers: {members: [ci-bot]}}
virtual_servers:
  dev: {title: Development, include: [{upstream: files}, {upstream: orders}]}
grants:
  - {group: engineers, virtual_server: dev, tools: [read, find]}
"""
TENANT_ADMIN = Principal(tenant="default", name="ann", kind="person", roles=frozenset(("admin",)))
VIEWER = replace(TENANT_ADMIN, name="vic", roles=frozenset(("viewer",)))


async def tools_named_in_grants(desired: Desired) -> Mapping[str, Set[tuple[str, str]]]:
    """Stands where the compiler is wired in: the tools that grants name, for each principal."""
    memberships = desired.memberships()
    return {
        principal.name: frozenset(
            (grant.virtual_server, tool)
            for grant in desired.grants
            for tool in grant.tools or ()
            if grant.principal == principal.name
            or grant.group in memberships.get(principal.name, ())
        )
        for principal in desired.principals
    }


class Portico(Struct):
    """A desk with its stores, and a clock that can be set."""

    database: Database
    desk: Desk
    revoked: list[str]
    ahead: timedelta = timedelta()

    async def ask(
        self, operation: str, *, by: Principal | None = None, tenant: str = "default", **given: Any
    ) -> Any:
        administrator = by or local_administrator(tenant)
        return await Administration(self.desk).answer(administrator, tenant, operation, given)

    async def apply(self, text: str = BASE, **given: Any) -> Any:
        return await self.ask("configuration.apply", text=text, path=FILE, **given)

    async def plan(self, text: str = BASE, **given: Any) -> Any:
        return await self.ask("configuration.plan", text=text, path=FILE, **given)

    async def desired(self, tenant: str = "default") -> Desired:
        return (await self.desk.objects.load(tenant)).desired


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.fixture
async def portico(tmp_path: Path) -> AsyncIterator[Portico]:
    async with open_database(sqlite_url(tmp_path)) as database:
        revoked: list[str] = []
        started = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
        desk = Desk(
            objects=ObjectStore(database),
            keys=KeyStore(database),
            now=lambda: started + here.ahead,
            views=tools_named_in_grants,
            revoked=revoked.append,
        )
        here = Portico(database, desk, revoked)
        yield here


def changes_of(plan: Any) -> list[str]:
    return [f"{change.action} {change.noun} {change.name}" for change in plan.changes]


async def test_a_plan_shows_what_applying_then_does(portico: Portico) -> None:
    planned = await portico.plan()
    assert (await portico.desired()).upstreams == ()
    applied = await portico.apply(revision=planned.revision)
    assert applied.changes == planned.changes
    assert changes_of(applied) == [
        "add upstream files",
        "add upstream orders",
        "add principal ci-bot",
        "add group engineers",
        "add virtual_server dev",
        "add grant group:engineers@dev[tools=find,read]",
    ]
    again = await portico.plan()
    assert (again.is_empty, again.changes, again.revision) == (True, (), applied.revision)


async def test_applying_the_same_file_again_writes_nothing(portico: Portico) -> None:
    await portico.apply()
    before = await Epochs(portico.database).read()
    assert (await portico.apply()).is_empty
    assert await Epochs(portico.database).read() == before


async def test_a_plan_names_fields_before_and_after(portico: Portico) -> None:
    await portico.apply()
    changed = (
        BASE
        .replace("LOG_LEVEL: info", "LOG_LEVEL: debug, NEW: x")
        .replace("title: Development, ", "prefix: never, ")
        .replace("{upstream: files}", "{upstream: files, tools: [read]}")
        .replace("env:ORDERS_KEY", "env:OTHER_KEY")
    )
    planned = await portico.plan(changed)
    fields = {
        f"{change.name} {field.path}": (field.before, field.after)
        for change in planned.changes
        for field in change.fields
    }
    assert fields == {
        "files env.LOG_LEVEL": ("info", "debug"),
        "files env.NEW": (None, "x"),
        "orders headers.X-Key": ("env:ORDERS_KEY", "env:OTHER_KEY"),
        "dev include[0].tools": (None, ["read"]),
        "dev prefix": (None, "never"),
        "dev title": ("Development", None),
    }


async def test_a_plan_says_who_gains_and_loses_what(portico: Portico) -> None:
    await portico.apply()
    changed = BASE.replace("[read, find]", "[find, write]").replace(
        "{ci-bot: {kind: service}}", "{ci-bot: {kind: service}, dora: {groups: [engineers]}}"
    )
    access = (await portico.plan(changed)).access
    shown = {
        item.principal: ([r.name for r in item.gained], [r.name for r in item.lost])
        for item in access
    }
    assert shown == {"ci-bot": (["write"], ["read"]), "dora": (["find", "write"], [])}


async def test_what_a_file_no_longer_names_is_removed(portico: Portico) -> None:
    await portico.apply()
    planned = await portico.apply("version: 1\nprincipals: {ci-bot: {kind: service}}\n")
    assert {change.action for change in planned.changes} == {"remove"}
    desired = await portico.desired()
    assert (len(desired.principals), desired.upstreams, desired.grants) == (1, (), ())


async def test_a_bad_file_changes_nothing_and_says_all_that_is_wrong(portico: Portico) -> None:
    await portico.apply()
    before = await portico.desired()
    bad = BASE.replace("group: engineers", "group: engneers").replace("npx", "8")
    for verb in ("configuration.plan", "configuration.apply"):
        with pytest.raises(ConfigurationError) as raised:
            await portico.ask(verb, text=bad, path=FILE)
        assert raised.value.problems == (
            "portico.yaml:3:21: upstreams.files.command[0]: must be text; write it in quotes",
            "portico.yaml:10:13: grants[0].group: unknown group 'engneers'; "
            "did you mean 'engineers'?",
        )
    assert await portico.desired() == before
    checked = await portico.ask("configuration.validate", text=bad, path=FILE)
    assert (checked.valid, len(checked.problems)) == (False, 2)


async def test_a_plan_that_others_overtook_is_not_applied(portico: Portico) -> None:
    planned = await portico.plan()
    await portico.ask("groups.put", name="other", members=[])
    with pytest.raises(ConflictError, match="changed since the plan"):
        await portico.apply(revision=planned.revision)
    assert (await portico.desired()).upstreams == ()


async def test_objects_of_the_api_are_left_alone(portico: Portico) -> None:
    await portico.ask("upstreams.put", name="mine", url="https://mine.example/mcp")
    await portico.apply()
    await portico.apply("version: 1\n")
    assert [spec.name for spec in (await portico.desired()).upstreams] == ["mine"]


async def test_a_file_may_refer_to_what_the_api_owns(portico: Portico) -> None:
    await portico.ask("upstreams.put", name="mine", url="https://mine.example/mcp")
    text = "version: 1\nvirtual_servers: {v: {include: [{upstream: mine}]}}\n"
    assert (await portico.ask("configuration.validate", text=text)).valid
    assert changes_of(await portico.apply(text)) == ["add virtual_server v"]


async def test_what_the_api_owns_otherwise_is_a_conflict_by_name(portico: Portico) -> None:
    await portico.ask("upstreams.put", name="orders", url="https://elsewhere.example/mcp")
    planned = await portico.plan()
    assert (planned.conflicts, planned.is_empty) == (("upstream 'orders'",), False)
    with pytest.raises(ConflictError, match="upstream 'orders'"):
        await portico.apply()
    assert len((await portico.desired()).upstreams) == 1
    adopted = await portico.apply(adopt=True)
    assert "adopt upstream orders" in changes_of(adopted)
    spec = (await portico.desired()).upstreams[1]
    assert (spec.url, spec.source) == ("https://orders.example/mcp", "file")


async def test_what_the_api_owns_just_so_is_no_conflict(portico: Portico) -> None:
    await portico.ask(
        "upstreams.put",
        name="orders",
        url="https://orders.example/mcp",
        headers={"X-Key": "env:ORDERS_KEY"},
    )
    applied = await portico.apply()
    assert "orders" not in " ".join(changes_of(applied))
    assert (await portico.plan()).is_empty
    assert (await portico.desired()).upstreams[1].source == "api"


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("upstreams.put", {"name": "files", "url": "https://a.example/mcp"}),
        ("upstreams.delete", {"name": "files"}),
        ("upstreams.disable", {"name": "files"}),
        ("virtual_servers.put", {"name": "dev"}),
        ("groups.put", {"name": "engineers", "members": []}),
        ("principals.put", {"name": "ci-bot", "kind": "agent"}),
        ("principals.delete", {"name": "ci-bot"}),
        ("grants.delete", {"name": "group:engineers@dev[tools=find,read]"}),
    ],
)
async def test_what_a_file_owns_is_changed_in_the_file(
    portico: Portico, operation: str, given: dict[str, Any]
) -> None:
    await portico.apply()
    before = await portico.desired()
    with pytest.raises(
        ConflictError, match=r"owned by /etc/portico/portico\.yaml; change it there"
    ):
        await portico.ask(operation, **given)
    assert await portico.desired() == before


async def test_an_object_altered_behind_the_file_is_shown_as_drifted(portico: Portico) -> None:
    await portico.apply()
    async with portico.database.write() as connection:
        await connection.execute(
            sql("UPDATE configured_object SET document = replace(document, 'npx', 'bash')")
        )
    (change,) = (await portico.plan()).changes
    assert (change.name, change.drifted) == ("files", True)
    listed = await portico.ask("upstreams.list")
    assert [item.drifted for item in listed.upstreams] == [True, False]
    await portico.apply()
    assert (await portico.plan()).is_empty


async def test_what_will_dangle_is_warned_of(portico: Portico) -> None:
    await portico.apply()
    await portico.ask("grants.add", principal="ci-bot", virtual_server="dev")
    await portico.ask("keys.create", principal="ci-bot")
    planned = await portico.apply("version: 1\n")
    assert planned.warnings == (
        "grant 'principal:ci-bot@dev' (API): virtual_server: unknown virtual server 'dev'",
        "grant 'principal:ci-bot@dev' (API): principal: unknown principal 'ci-bot'",
        "the keys of principal 'ci-bot' (1) stop working",
    )


async def test_an_export_reads_like_a_file_somebody_wrote(portico: Portico) -> None:
    await portico.apply()
    exported = await portico.ask("configuration.export")
    assert (
        exported.text
        == """\
version: 1
tenant: default
upstreams:
  files:
    command:
      - npx
      - server
    env:
      LOG_LEVEL: info
  orders:
    url: "https://orders.example/mcp"
    headers:
      X-Key: "env:ORDERS_KEY"
principals:
  ci-bot:
    kind: service
groups:
  engineers:
    members:
      - ci-bot
virtual_servers:
  dev:
    title: Development
    include:
      - upstream: files
      - upstream: orders
grants:
  - virtual_server: dev
    group: engineers
    tools:
      - find
      - read
"""
    )
    assert (await portico.plan(exported.text)).is_empty


async def test_an_export_can_be_narrowed_to_one_owner(portico: Portico) -> None:
    await portico.apply()
    await portico.ask("upstreams.put", name="mine", url="https://mine.example/mcp")
    text = (await portico.ask("configuration.export", source="api")).text
    assert "mine" in text
    assert "orders" not in text


async def test_tenants_have_files_of_their_own(portico: Portico) -> None:
    await portico.apply()
    acme = BASE.replace("version: 1", "version: 1\ntenant: acme")
    assert (await portico.apply(acme)).tenant == "acme"
    await portico.ask("configuration.apply", text="version: 1\n", tenant="acme")
    assert (await portico.desired("acme")).upstreams == ()
    assert len((await portico.desired()).upstreams) == 2


async def test_objects_are_put_listed_got_and_deleted(portico: Portico) -> None:
    await portico.ask("upstreams.put", name="u", url="https://u.example/mcp", timeout_s=5)
    await portico.ask("virtual_servers.put", name="v", include=[{"upstream": "u"}])
    await portico.ask("principals.put", name="p", roles=["viewer"])
    await portico.ask("groups.put", name="g", members=["p"])
    grant = await portico.ask("grants.add", group="g", virtual_server="v", tools=["b", "a"])
    assert grant.name == "group:g@v[tools=a,b]"
    shown = encoded(await portico.ask("upstreams.get", name="u")).decode()
    assert '"name":"u"' in shown
    assert '"timeout_s":5.0' in shown
    assert '"max_in_flight"' not in shown
    assert (await portico.ask("principals.get", name="p")).member_of == ("g",)
    for noun in ("upstreams", "virtual_servers", "principals", "groups", "grants"):
        assert len(getattr(await portico.ask(f"{noun}.list"), noun)) == 1
    for noun, name in (
        ("grants", grant.name), ("groups", "g"), ("principals", "p"), ("virtual_servers", "v"),
        ("upstreams", "u"),
    ):  # fmt: skip
        await portico.ask(f"{noun}.delete", name=name)
    assert await portico.desired() == Desired()


@pytest.mark.parametrize(
    ("operation", "given", "problem"),
    [
        ("groups.put", {"name": "g", "members": ["x"]}, "groups.g.members[0]: unknown principal"),
        ("grants.add", {"group": "x", "virtual_server": "v"}, "unknown group 'x'"),
        ("grants.add", {"virtual_server": "default"}, "exactly one of 'group' and 'principal'"),
        ("virtual_servers.put", {"name": "v", "include": [{"upstream": "x"}]}, "unknown upstream"),
        ("upstreams.put", {"name": "u", "url": "x"}, "url: must be a URL"),
        ("upstreams.put", {"name": "u", "url": "http://u", "x": 1}, "x: unknown key"),
        ("upstreams.put", {"name": "portico", "url": "http://u"}, "reserved"),
        ("upstreams.put", {"name": "a/b", "url": "http://u"}, "a name has letters"),
        ("keys.create", {"principal": "p", "virtual_servers": ["x"]}, "no virtual server 'x'"),
        ("keys.create", {"principal": "p", "ttl_s": 0}, "must be more than 0"),
        ("keys.create", {}, "principal: is missing"),
    ],
)
async def test_an_object_that_cannot_work_is_refused(
    portico: Portico, operation: str, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        await portico.ask(operation, **given)
    assert problem in str(raised.value)
    assert await portico.desired() == Desired()


async def test_an_absent_object_is_not_found_with_what_was_meant(portico: Portico) -> None:
    await portico.apply()
    with pytest.raises(NotFoundError, match="no upstream 'order'; did you mean 'orders'"):
        await portico.ask("upstreams.get", name="order")
    with pytest.raises(NotFoundError, match="no virtual server 'x'"):
        await portico.ask("virtual_servers.delete", name="x")


async def test_what_is_in_use_is_not_deleted(portico: Portico) -> None:
    await portico.ask("upstreams.put", name="u", url="https://u.example/mcp")
    await portico.ask("virtual_servers.put", name="v", include=[{"upstream": "u"}])
    with pytest.raises(ConflictError, match="upstream 'u' is used by virtual server 'v'"):
        await portico.ask("upstreams.delete", name="u")
    await portico.ask("virtual_servers.put", name="v")
    await portico.ask("upstreams.delete", name="u")


async def test_an_upstream_is_disabled_and_enabled(portico: Portico) -> None:
    await portico.ask("upstreams.put", name="u", url="https://u.example/mcp")
    assert (await portico.ask("upstreams.disable", name="u")).state == "disabled"
    assert not (await portico.desired()).upstreams[0].enabled
    assert (await portico.ask("upstreams.enable", name="u")).state == "pending"
    assert (await portico.desired()).upstreams[0].enabled


async def test_administrators_at_once_do_not_undo_each_other(portico: Portico) -> None:
    async def put(number: int) -> None:
        await portico.ask("upstreams.put", name=f"u{number}", url="https://u.example/mcp")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(put, number)
    assert len((await portico.desired()).upstreams) == 4


async def test_literal_values_are_hidden_and_survive_being_put_back(portico: Portico) -> None:
    headers = {"Authorization": "Bearer abc", "X-Ref": "env:X", "X-Region": "eu"}
    given: dict[str, Any] = {"name": "u", "url": "https://u.example/mcp"}
    await portico.ask("upstreams.put", **given, headers=headers)
    seen = (await portico.ask("upstreams.get", name="u")).headers
    assert seen == {"Authorization": "(hidden)", "X-Ref": "env:X", "X-Region": "eu"}
    less = (await portico.ask("upstreams.get", by=VIEWER, name="u")).headers
    assert less == {"Authorization": "(hidden)", "X-Ref": "env:X", "X-Region": "(hidden)"}
    await portico.ask("upstreams.put", **given, headers={**seen, "X-Region": "us"})
    kept = (await portico.desired()).upstreams[0].headers
    assert kept == {**headers, "X-Region": "us"}
    with pytest.raises(ConfigurationError, match="no hidden value to keep"):
        await portico.ask("upstreams.put", **given, headers={"Y": "(hidden)"})


async def test_arguments_of_commands_are_for_those_who_may_read_values(portico: Portico) -> None:
    command = ["npx", "server", "--token", "hunter2"]
    text = BASE.replace("[npx, server]", json.dumps(command))
    await portico.apply(text)
    await portico.ask("upstreams.put", name="own", command=command)
    await portico.ask("upstreams.put", name="bare", command=["server"])
    for by, arguments in ((None, command[1:]), (TENANT_ADMIN, command[1:]), (VIEWER, ["(hidden)"])):
        listed = (await portico.ask("upstreams.list", by=by)).upstreams
        shown = {one.name: one.command and list(one.command) for one in listed}
        assert shown.pop("orders") is None
        assert shown.pop("bare") == ["server"]
        assert shown == {name: ["npx", *arguments] for name in ("files", "own")}
        found = await portico.ask("upstreams.get", by=by, name="own")
        assert list(found.command) == ["npx", *arguments]
    changed = await portico.plan(text.replace("hunter2", "hunter3"), by=VIEWER)
    assert b"hunter" not in encoded(changed)
    (field,) = changed.changes[0].fields
    assert (field.path, field.after) == ("command", ["npx", "(hidden)"])

    hidden: dict[str, Any] = {"name": "own", "command": ["npx", "(hidden)"], "max_children": 2}
    await portico.ask("upstreams.put", **hidden)
    (own,) = [one for one in (await portico.desired()).upstreams if one.name == "own"]
    assert (list(own.command), own.max_children) == (command, 2)
    for wrong in (["other", "(hidden)"], ["npx", "server", "(hidden)"]):
        with pytest.raises(ConfigurationError, match="no hidden arguments to keep"):
            await portico.ask("upstreams.put", **{**hidden, "command": wrong})


async def test_a_plan_shows_no_secret(portico: Portico) -> None:
    text = BASE.replace("env:ORDERS_KEY", "0123456789abcdef")
    planned = await portico.apply(text)
    assert b"0123456789abcdef" not in encoded(planned)
    assert "X-Key: looks like a secret" in planned.warnings[0]
    changed = await portico.plan(text.replace("0123456789abcdef", "fedcba9876543210"))
    (field,) = changed.changes[0].fields
    assert (field.path, field.before, field.after) == ("headers.X-Key", "(hidden)", "(hidden)")


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("upstreams.put", {"name": "u", "command": ["bash"]}),
        ("upstreams.put", {"name": "u", "openapi": "/etc/passwd"}),
        ("upstreams.put", {"name": "u", "url": "http://u", "headers": {"A": "env:PATH"}}),
        ("upstreams.put", {"name": "u", "url": "http://u", "headers": {"A": "file:/etc/shadow"}}),
        ("upstreams.import", {"text": '{"mcpServers": {"u": {"command": "bash"}}}'}),
        ("configuration.apply", {"text": BASE}),
        ("principals.put", {"name": "p", "roles": ["platform_admin"]}),
        ("principals.put", {"name": "root", "roles": []}),
        ("principals.delete", {"name": "root"}),
        ("keys.create", {"principal": "root"}),
    ],
)
async def test_a_tenants_administrator_cannot_reach_the_machine(
    portico: Portico, operation: str, given: dict[str, Any]
) -> None:
    await portico.ask("principals.put", name="root", roles=["platform_admin"])
    before = await portico.desired()
    with pytest.raises(ForbiddenError):
        await portico.ask(operation, by=TENANT_ADMIN, **given)
    assert await portico.desired() == before


async def test_a_tenants_administrator_stays_in_the_tenant(portico: Portico) -> None:
    with pytest.raises(ForbiddenError, match="another tenant"):
        await portico.ask("upstreams.list", by=TENANT_ADMIN, tenant="acme")
    text = "version: 1\ntenant: acme\n"
    with pytest.raises(ForbiddenError, match="another tenant"):
        await portico.ask("configuration.apply", by=TENANT_ADMIN, text=text)


async def test_a_tenants_addresses_stay_under_guard(portico: Portico) -> None:
    given: dict[str, Any] = {"name": "u", "url": "http://10.0.0.1/mcp"}
    await portico.ask("upstreams.put", by=TENANT_ADMIN, **given)
    text = "version: 1\nupstreams: {v: {url: 'http://10.0.0.1/mcp'}}\n"
    await portico.ask("configuration.apply", by=TENANT_ADMIN, text=text)
    assert [spec.guarded for spec in (await portico.desired()).upstreams] == [True, True]
    await portico.ask("upstreams.put", **given)
    assert not (await portico.desired()).upstreams[0].guarded


async def test_a_key_is_shown_once_and_kept_nowhere(portico: Portico, tmp_path: Path) -> None:
    await portico.apply()
    made = await portico.ask("keys.create", principal="alice", group="engineers")
    assert is_well_formed(made.key)
    (listed,) = (await portico.ask("keys.list")).keys
    assert (listed.id, listed.principal, listed.state) == (made.id, "alice", "active")
    principal = await portico.ask("principals.get", name="alice")
    assert (principal.kind, principal.member_of, principal.source) == (
        "service", ("engineers",), "api",
    )  # fmt: skip
    assert made.key.encode() not in bytes_below(tmp_path)
    assert (await portico.plan()).is_empty


async def test_a_key_puts_its_principal_into_a_group_where_it_may(portico: Portico) -> None:
    await portico.apply(BASE.replace("{engineers: ", "{ops: {}, engineers: "))
    await portico.ask("keys.create", principal="ci-bot", group="engineers")
    await portico.ask("keys.create", principal="alice")
    await portico.ask("keys.create", principal="alice", group="ops")
    await portico.ask("keys.create", principal="alice", group="engineers")
    shown = await portico.ask("principals.get", name="alice")
    assert shown.member_of == ("engineers", "ops")
    with pytest.raises(ConflictError, match="principal 'ci-bot' is owned by /etc/portico"):
        await portico.ask("keys.create", principal="ci-bot", group="ops")
    with pytest.raises(NotFoundError, match="no group 'engneers'; did you mean 'engineers'"):
        await portico.ask("keys.create", principal="bob", group="engneers")
    assert len((await portico.ask("keys.list")).keys) == 4


async def test_a_key_ends_when_it_expires_or_is_revoked(portico: Portico) -> None:
    short = await portico.ask("keys.create", principal="a", ttl_s=60)
    long = await portico.ask("keys.create", principal="a")
    assert short.expires_at == "2026-11-21T09:31:00.000Z"
    portico.ahead = timedelta(seconds=61)
    assert (await portico.ask("keys.revoke", id=long.id)).state == "revoked"
    assert portico.revoked == [long.id]
    states = {key.id: key.state for key in (await portico.ask("keys.list")).keys}
    assert states == {short.id: "expired", long.id: "revoked"}
    with pytest.raises(NotFoundError):
        await portico.ask("keys.revoke", id="key-0")
    for ended in (short, long):
        with pytest.raises(ConflictError, match="has ended"):
            await portico.ask("keys.rotate", id=ended.id)


async def test_a_rotated_key_goes_on_for_the_overlap(portico: Portico) -> None:
    await portico.ask("virtual_servers.put", name="v")
    old = await portico.ask("keys.create", principal="a", virtual_servers=["v"], ttl_s=86_400)
    portico.ahead = timedelta(hours=1)
    new = await portico.ask("keys.rotate", id=old.id, overlap_s="60")
    assert new.key != old.key
    assert (new.principal, new.virtual_servers) == ("a", ("v",))
    assert new.expires_at == "2026-11-22T10:30:00.000Z"
    keys = {key.id: key for key in (await portico.ask("keys.list")).keys}
    assert keys[old.id].expires_at == "2026-11-21T10:31:00.000Z"
    await portico.ask("keys.rotate", id=new.id, overlap_s=0)
    assert portico.revoked == [new.id]


async def test_a_deleted_principals_keys_are_revoked(portico: Portico) -> None:
    made = await portico.ask("keys.create", principal="a")
    await portico.ask("principals.delete", name="a")
    assert portico.revoked == [made.id]
    assert (await portico.ask("keys.list")).keys[0].state == "revoked"


async def test_keys_are_revoked_before_their_principal_is_deleted(portico: Portico) -> None:
    """Where it breaks off in between, no key waits for the next principal of that name."""
    made = await portico.ask("keys.create", principal="a")

    class Interrupted(ObjectStore):
        async def change(self, tenant: str, change: Change, *, expected: int | None = None) -> int:
            raise StoreUnavailableError(f"as asked: {tenant}, {change.remove}, {expected}")

    interrupted = replace(portico.desk, objects=Interrupted(portico.database))
    with pytest.raises(StoreUnavailableError):
        await Administration(interrupted).answer(
            local_administrator("default"), "default", "principals.delete", {"name": "a"}
        )
    assert portico.revoked == [made.id]
    await portico.ask("principals.delete", name="a")
    assert [key.state for key in (await portico.ask("keys.list")).keys] == ["revoked"]


async def test_keys_of_a_principal_that_is_in_use_go_on(portico: Portico) -> None:
    await portico.ask("keys.create", principal="a")
    await portico.ask("groups.put", name="g", members=["a"])
    with pytest.raises(ConflictError, match="used by group 'g'"):
        await portico.ask("principals.delete", name="a")
    assert [key.state for key in (await portico.ask("keys.list")).keys] == ["active"]


@pytest.mark.parametrize(
    ("operation", "given"),
    [("principals.put", {"name": "p", "kind": "agent"}), ("principals.delete", {"name": "p"})],
)
async def test_a_principal_is_judged_as_it_is_when_it_changes(
    portico: Portico, operation: str, given: dict[str, Any]
) -> None:
    """Somebody becomes a platform administrator while a tenant's administrator changes them."""
    await portico.ask("principals.put", name="p")

    class Overtaken(ObjectStore):
        overtaken = False

        async def load(self, tenant: str) -> Stored:
            stored = await super().load(tenant)
            if not self.overtaken:
                self.overtaken = True
                await portico.ask("principals.put", name="p", roles=["platform_admin"])
            return stored

    desk = replace(portico.desk, objects=Overtaken(portico.database))
    with pytest.raises(ForbiddenError):
        await Administration(desk).answer(TENANT_ADMIN, "default", operation, given)
    assert (await portico.ask("principals.get", name="p")).roles == ("platform_admin",)


async def test_the_first_start_makes_one_administrators_key(
    portico: Portico, tmp_path: Path
) -> None:
    file = tmp_path / "admin.key"
    assert await ensure_admin_key(portico.desk, file)
    key = file.read_text(encoding="utf-8").strip()
    assert is_well_formed(key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    admin = await portico.ask("principals.get", name="admin")
    assert admin.roles == ("platform_admin",)
    (spec,) = await portico.desk.keys.list()
    assert (spec.bootstrap, spec.principal) == (True, "admin")
    file.unlink()
    assert not await ensure_admin_key(portico.desk, file)
    assert not file.exists()
    made = await portico.ask("keys.create", principal="admin")
    specs = {spec.id: spec.bootstrap for spec in await portico.desk.keys.list()}
    assert specs[made.id] is False


async def test_a_start_on_another_store_leaves_the_first_administrators_key_good(
    portico: Portico, tmp_path: Path
) -> None:
    file, other = tmp_path / "admin.key", tmp_path / "other"
    other.mkdir()
    await ensure_admin_key(portico.desk, file)
    key = file.read_text(encoding="utf-8").strip()
    async with open_database(sqlite_url(other)) as database:
        desk = replace(portico.desk, objects=ObjectStore(database), keys=KeyStore(database))
        assert await ensure_admin_key(desk, file)
        assert file.read_text(encoding="utf-8").strip() == key
        for store in (KeyStore(database), KeyStore(portico.database)):
            assert [spec.digest for spec in await store.list()] == [digest_of(key)]


@pytest.mark.parametrize("content", [b"", b"ptk_broken\n", b"\xff", None])
async def test_a_file_that_holds_no_private_key_gets_one(
    portico: Portico, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "admin.key"
    open_to_others = new_key().encode()
    file.write_bytes(open_to_others if content is None else content)
    file.chmod(0o644 if content is None else 0o600)
    assert await ensure_admin_key(portico.desk, file)
    key = file.read_text(encoding="utf-8").strip()
    assert is_well_formed(key)
    assert key.encode() != open_to_others
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_state_made_by_hand_is_read(portico: Portico) -> None:
    """Nothing but the store is between the objects and whoever compiles them."""
    spec = UpstreamSpec(name="u", url="https://u.example/mcp")
    await portico.desk.objects.change("default", Change(put=(spec,), at=""))
    assert (await portico.desired()).upstreams == (spec,)


def test_the_table_of_functions_describes_itself() -> None:
    names = [item.operation.name for item in FUNCTIONS]
    routes = [(item.operation.method, item.operation.path) for item in FUNCTIONS]
    assert len(set(names)) == len(set(routes)) == len(FUNCTIONS)
    for item in FUNCTIONS:
        assert item.operation.summary.endswith(".")
        assert "Raises" not in item.operation.summary
    administered = {item.operation.name for item in FUNCTIONS if item.operation.action == "inspect"}
    assert "configuration.export" not in administered
    assert {"configuration.plan", "configuration.validate"} <= administered


def test_every_reference_in_the_openapi_document_leads_somewhere() -> None:
    document = openapi_document("1.0")
    schemas = document["components"]["schemas"]

    def references(value: Any) -> list[str]:
        if isinstance(value, list):
            return [found for item in value for found in references(item)]
        if not isinstance(value, dict):
            return []
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]

    named = references(document)
    assert len(named) > 50
    assert {name.removeprefix("#/components/schemas/") for name in named} <= set(schemas)
    assert document["paths"]["/api/keys"]["post"]["operationId"] == "keys.create"
