"""Files that other programs wrote become upstreams."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.administration.answering import Administration
from hub.administration.authority import local_administrator
from hub.administration.desk import Desk
from hub.administration.imports import read_foreign
from hub.domain.desired import UpstreamSpec
from hub.errors import ConfigurationError, ConflictError
from hub.stores.database import open_database, sqlite_url
from hub.stores.keys import KeyStore
from hub.stores.objects import ObjectStore


def read(
    content: Any, path: str | None = None, environ: dict[str, str] | None = None, **options: Any
) -> tuple[dict[str, UpstreamSpec], list[str]]:
    """Upstreams by name, and notes."""
    text = content if isinstance(content, str) else json.dumps(content)
    imported = read_foreign(
        text, path=Path(path) if path else None, environ=environ or {}, **options
    )
    specs = {spec.name: spec for spec in imported.upstreams}
    assert len(specs) == len(imported.upstreams)
    return specs, [f"{note.name}: {note.message}" for note in imported.notes]


def test_claude_codes_file_is_taken() -> None:
    specs, notes = read(
        {
            "mcpServers": {
                "files": {
                    "type": "stdio",
                    "command": "npx",
                    "args": ["-y", "@modelcontextprotocol/server-filesystem", "${HOME}/docs"],
                    "env": {"LOG": "info", "TOKEN": "${FILES_TOKEN}", "N": 3},
                    "timeout": 90_000,
                },
                "orders": {
                    "type": "http",
                    "url": "${BASE:-https://orders.example}/mcp",
                    "headers": {"Authorization": "Bearer ${ORDERS_TOKEN}"},
                },
                "old": {"type": "sse", "url": "https://old.example/sse", "disabled": True},
            }
        },
        environ={"HOME": "/home/ann"},
    )
    assert specs["files"] == UpstreamSpec(
        name="files",
        command=("npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/ann/docs"),
        env={"LOG": "info", "TOKEN": "env:FILES_TOKEN", "N": "3"},
        timeout_s=90.0,
        timeout_cap_s=600.0,
    )
    assert specs["orders"].url == "https://orders.example/mcp"
    assert specs["orders"].headers == {"Authorization": "Bearer env:ORDERS_TOKEN"}
    assert (specs["orders"].transport, specs["old"].transport) == ("http", "sse")
    assert not specs["old"].enabled
    assert notes == []


def test_vs_codes_file_with_comments_inputs_and_folders_is_taken() -> None:
    text = """{
      // servers of this workspace
      "inputs": [{"type": "promptString", "id": "api-key", "password": true}],
      "servers": {
        "local": {
          "command": "python", /* any */
          "args": ["${workspaceFolder}/server.py", "http://not/a//comment"],
          "envFile": "${workspaceFolder}/.env",
        },
        "remote": {
          "type": "http", "url": "https://r.example/mcp",
          "headers": {"X-Key": "${input:api-key}"},
        },
      },
    }"""
    specs, notes = read(text, "/srv/app/.vscode/mcp.json")
    assert specs["local"].command == ("python", "/srv/app/server.py", "http://not/a//comment")
    assert specs["remote"].headers == {"X-Key": "env:API_KEY"}
    assert notes == ["local: 'envFile' is not read; name its variables in 'env'"]


def test_cursors_and_geminis_files_are_taken() -> None:
    specs, notes = read({
        "theme": "dark",
        "mcpServers": {
            "a": {"httpUrl": "https://a.example/mcp", "timeout": 5000, "trust": True},
            "b": {"url": "https://b.example/sse", "includeTools": ["x"]},
            "c": {"command": "c", "env": {"KEY": "$MY_KEY", "PRICE": "5$"}, "cwd": "./c"},
        },
    }, "/home/ann/.gemini/settings.json")  # fmt: skip
    assert (specs["a"].url, specs["a"].timeout_s) == ("https://a.example/mcp", 5.0)
    assert specs["b"].transport == "auto"
    assert specs["c"].env == {"KEY": "env:MY_KEY", "PRICE": "5$"}
    assert specs["c"].cwd == "/home/ann/c"
    assert notes == ["b: 'includeTools' is not taken over; a virtual server chooses tools"]


def test_gooses_file_is_taken() -> None:
    text = """
GOOSE_MODEL: some-model
extensions:
  developer: {type: builtin, name: developer, enabled: true}
  github:
    type: stdio
    cmd: npx
    args: [-y, "@modelcontextprotocol/server-github"]
    env_keys: [GITHUB_TOKEN]
    envs: {DEBUG: "1"}
    timeout: 300
    enabled: false
  remote: {type: streamable_http, uri: "https://r.example/mcp", headers: {X-A: b}, timeout: 30}
  older: {enabled: true, config: {type: stdio, cmd: uvx, args: [a]}}
"""
    specs, notes = read(text, "/home/ann/.config/goose/config.yaml")
    assert specs["github"].command == ("npx", "-y", "@modelcontextprotocol/server-github")
    assert specs["github"].env == {"DEBUG": "1", "GITHUB_TOKEN": "env:GITHUB_TOKEN"}
    assert (specs["github"].enabled, specs["github"].timeout_s) == (False, 300.0)
    assert (specs["remote"].url, specs["remote"].timeout_s) == ("https://r.example/mcp", 30.0)
    assert specs["older"].command == ("uvx", "a")
    assert notes == ["developer: left out: type 'builtin' cannot be an upstream"]


def test_codexs_file_is_taken() -> None:
    text = """
model = "some-model"
[mcp_servers.docs]
url = "https://docs.example/mcp"
bearer_token_env_var = "DOCS_TOKEN"
http_headers = { "X-Region" = "eu" }
env_http_headers = { "X-Team" = "TEAM" }
tool_timeout_sec = 45
[mcp_servers.local]
command = "uvx"
args = ["mcp-server-git"]
env_vars = ["GIT_DIR"]
enabled = false
[mcp_servers.local.env]
A = "b"
"""
    for path in ("/home/ann/.codex/config.toml", None):
        specs, _ = read(text, path)
        assert specs["docs"].headers == {
            "X-Region": "eu",
            "X-Team": "env:TEAM",
            "Authorization": "Bearer env:DOCS_TOKEN",
        }
        assert specs["docs"].timeout_s == 45.0
        assert specs["local"].env == {"A": "b", "GIT_DIR": "env:GIT_DIR"}
        assert not specs["local"].enabled


def test_one_bad_entry_does_not_hinder_the_others() -> None:
    specs, notes = read({
        "mcpServers": {
            "good": {"command": "a"},
            "empty": {},
            "socket": {"type": "ws", "url": "ws://x"},
            "broken": {"url": "not a url"},
            "inside": {"url": "http://a", "headers": {"A": "x-${B}-y"}},
            "unknown": {"command": "a", "args": ["${NOWHERE}"]},
            "listed": {"command": "a", "env": {"A": ["b"]}},
        }
    })
    assert list(specs) == ["good"]
    assert notes == [
        "empty: left out: it has neither a command nor a URL",
        "socket: left out: type 'ws' cannot be an upstream",
        "broken: left out: url: must be a URL with http or https and a host",
        "inside: left out: a variable inside of other text cannot be referred to; "
        "put the whole in one",
        "unknown: left out: '${NOWHERE}' has no value here; write it out",
        "listed: left out: text is expected where list stands",
    ]


def test_names_become_ours_and_stay_apart() -> None:
    servers = {
        name: {"command": "a"} for name in ("my server", "my/server", "portico", "ü", "x" * 60)
    }
    specs, notes = read({"mcpServers": servers})
    assert list(specs) == ["my_server", "my_server_2", "portico_", "imported", "x" * 48]
    assert notes[0] == "my_server: was called 'my server'"


def test_literal_secrets_are_pointed_at_and_not_shown() -> None:
    _, notes = read({"mcpServers": {"a": {"command": "a", "env": {"API_KEY": "hunter2hunter2"}}}})
    assert notes == ["a: env.API_KEY looks like a secret; 'env:NAME' would keep it out"]


def test_a_server_beside_its_file_runs_in_that_folder() -> None:
    entry = {"mcpServers": {"a": {"command": "python", "args": ["./server.py"]}}}
    assert read(entry, "/srv/app/.mcp.json")[0]["a"].cwd == "/srv/app"
    assert read(entry)[0]["a"].cwd is None


SERVER_JSON: dict[str, Any] = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    "name": "io.github.example/weather-mcp",
    "description": "Weather",
    "version": "0.5.0",
    "packages": [
        {
            "registryType": "pypi",
            "identifier": "weather-mcp-server",
            "version": "0.5.0",
            "runtimeHint": "uvx",
            "transport": {"type": "stdio"},
            "packageArguments": [
                {"type": "positional", "value": "serve"},
                {"type": "named", "name": "--units", "default": "celsius"},
                {"type": "named", "name": "--port", "description": "optional"},
            ],
            "environmentVariables": [
                {"name": "WEATHER_API_KEY", "isRequired": True, "isSecret": True},
                {"name": "CITY", "isRequired": True},
                {"name": "LANGUAGE", "default": "en"},
                {"name": "OPTIONAL"},
            ],
        }
    ],
    "remotes": [
        {"type": "sse", "url": "https://weather.example/sse"},
        {
            "type": "streamable-http",
            "url": "https://{region}.weather.example/mcp",
            "variables": {"region": {"default": "eu"}},
            "headers": [
                {
                    "name": "Authorization",
                    "value": "Bearer {token}",
                    "variables": {"token": {"isSecret": True, "isRequired": True}},
                },
                {"name": "X-Key", "isSecret": True, "isRequired": True},
                {"name": "X-Region", "value": "{region}", "variables": {"region": {"value": "eu"}}},
            ],
        },
    ],
}


def test_a_registry_entrys_remote_is_taken() -> None:
    specs, notes = read(SERVER_JSON)
    assert specs["weather-mcp"] == UpstreamSpec(
        name="weather-mcp",
        url="https://eu.weather.example/mcp",
        transport="http",
        headers={"Authorization": "Bearer env:TOKEN", "X-Key": "env:X_KEY", "X-Region": "eu"},
    )
    assert notes == ["weather-mcp: set in Portico's environment: TOKEN, X_KEY"]


def test_a_registry_entrys_package_is_taken() -> None:
    specs, notes = read(SERVER_JSON, prefer="package")
    assert specs["weather-mcp"] == UpstreamSpec(
        name="weather-mcp",
        command=("uvx", "weather-mcp-server@0.5.0", "serve", "--units", "celsius"),
        env={"WEATHER_API_KEY": "env:WEATHER_API_KEY", "CITY": "env:CITY", "LANGUAGE": "en"},
    )
    assert notes == ["weather-mcp: set in Portico's environment: WEATHER_API_KEY, CITY"]


@pytest.mark.parametrize(
    ("package", "command"),
    [
        (
            {"registry_type": "npm", "identifier": "@a/b", "version": "1.0.2"},
            "npx -y @a/b@1.0.2",
        ),
        (
            {
                "registryType": "npm",
                "identifier": "b",
                "runtimeArguments": [{"type": "named", "name": "--registry", "value": "http://r"}],
            },
            "npx -y --registry http://r b",
        ),
        (
            {
                "registry_type": "oci",
                "identifier": "mcp/files",
                "version": "1.0",
                "runtime_arguments": [
                    {
                        "type": "named",
                        "name": "--mount",
                        "value": "type=bind,src={source},dst={target}",
                        "variables": {"source": {"default": "/srv"}, "target": {"value": "/data"}},
                    }
                ],
                "package_arguments": [{"type": "positional", "value": "/data"}],
                "environment_variables": [{"name": "LOG", "default": "info"}],
            },
            "docker run -i --rm -e LOG --mount type=bind,src=/srv,dst=/data mcp/files:1.0 /data",
        ),
        (
            {"registryType": "oci", "identifier": "ghcr.io/a/b:2.1"},
            "docker run -i --rm ghcr.io/a/b:2.1",
        ),
        (
            {
                "registryType": "nuget",
                "identifier": "A.B",
                "version": "1",
                "packageArguments": [{"type": "positional", "value": "mcp"}],
            },
            "dnx A.B@1 --yes -- mcp",
        ),
    ],
)
def test_packages_of_every_kind_become_commands(package: dict[str, Any], command: str) -> None:
    specs, _ = read({"name": "a/b", "packages": [package]})
    assert " ".join(specs["b"].command) == command


def test_what_has_to_be_filled_in_keeps_an_upstream_disabled() -> None:
    package = {
        "registryType": "npm",
        "identifier": "files",
        "packageArguments": [
            {
                "type": "positional",
                "valueHint": "target_dir",
                "isRequired": True,
                "isRepeated": True,
            }
        ],
    }
    specs, notes = read({"name": "a/files", "packages": [package]})
    assert specs["files"].command == ("npx", "-y", "files", "<target_dir>")
    assert not specs["files"].enabled
    assert notes == ["files: disabled until <target_dir> is written out"]


def test_the_answer_of_a_registry_is_taken_entry_by_entry() -> None:
    other = {"name": "com.example/other", "remotes": [{"transport_type": "sse", "url": "http://o"}]}
    bundle = {"name": "a/bundle", "packages": [{"registryType": "mcpb", "identifier": "http://b"}]}
    answer = {"servers": [{"server": SERVER_JSON, "_meta": {}}, {"server": other}, bundle]}
    specs, notes = read(answer)
    assert list(specs) == ["weather-mcp", "other"]
    assert specs["other"].transport == "sse"
    assert (
        "a/bundle: left out: it has no remote, and no npm, PyPI, OCI or NuGet package" in notes[-1]
    )


def test_an_openapi_document_is_an_upstream() -> None:
    specs, _ = read({"openapi": "3.1.0", "paths": {}}, "/srv/pet store.json")
    assert specs == {"pet_store": UpstreamSpec(name="pet_store", openapi="/srv/pet store.json")}


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("{}", None, "No servers are in this file"),
        ("[]", None, "No servers are in this file"),
        ('{"mcpServers": []}', None, "No servers are in this file"),
        ('{"mcpServers": {"a": 1}}', None, "No servers are in this file"),
        ('{"mcpServers": {', "a.json", r"a\.json:1:17"),
        ("{'a': 1}", "a.json", r"a\.json:1:2"),
        ("a = [", "a.toml", r"a\.toml"),
        ("a: [", "a.yaml", r"a\.yaml:1:5"),
        ("[" * 100_000, "a.json", "not JSON that can be read"),
        ('{"mcpServers": {"a\\ud800": {"command": "a"}}}', "a.json", "not JSON that can be read"),
        ("", None, "the file is empty"),
        ('{"name": "a/b", "packages": []}', None, "it has no remote"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    text: str, path: str | None, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(text, path)


@pytest.mark.parametrize(
    "text",
    [
        "{" + '\\"' * 100_000,
        "{" + "/* " * 100_000,
        '{"mcpServers": {"a": {"url": "' + "${a:-" * 100_000 + '"}}}',
        "\n" * 100_000 + "\t[",
    ],
    ids=["strings", "comments", "variables", "lines"],
)
def test_what_is_never_closed_is_not_looked_for_again_and_again(text: str) -> None:
    began = perf_counter()
    with suppress(ConfigurationError):
        read(text)
    assert perf_counter() - began < 5


def test_a_timeout_of_any_length_is_too_long() -> None:
    text = '{"mcpServers": {"a": {"url": "http://a/mcp", "timeout": %s}}}'
    for number in ("9" * 400, "1e400"):
        assert "at most 86400" in read(text % number)[1][0]


WORDS = (
    "mcpServers", "servers", "server", "name", "packages", "remotes", "type", "url", "command",
    "args", "env", "headers", "variables", "registryType", "identifier", "value", "default",
    "isRequired", "cwd", "environmentVariables", "packageArguments", "timeout", "openapi",
    "extensions",
)  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(WORDS) | st.text(max_size=3),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from(("mcpServers", "servers", "packages", "remotes", "extensions")),
)
def test_no_document_makes_importing_fail_otherwise(document: Any, key: str) -> None:
    for content in (document, {"name": "a/b", key: document}, {key: {"a": document}}):
        with suppress(ConfigurationError):
            read(content)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_database(sqlite_url(tmp_path)) as database:
        yield Desk(objects=ObjectStore(database), keys=KeyStore(database))


async def ask(desk: Desk, operation: str, **given: Any) -> Any:
    administrator = local_administrator("default")
    return await Administration(desk).answer(administrator, "default", operation, given)


async def test_imported_upstreams_are_kept_and_kept_up_to_date(desk: Desk) -> None:
    text = '{"mcpServers": {"a": {"command": "a"}, "b": {"url": "http://b/mcp"}}}'
    shown = await ask(desk, "upstreams.import", text=text, dry_run=True)
    assert [item.outcome for item in shown.upstreams] == ["added", "added"]
    assert (await ask(desk, "upstreams.list")).upstreams == ()
    await ask(desk, "upstreams.import", text=text)
    changed = text.replace('"command": "a"', '"command": "c"')
    again = await ask(desk, "upstreams.import", text=changed)
    outcomes = {item.name: item.outcome for item in again.upstreams}
    assert outcomes == {"a": "changed", "b": "unchanged"}
    listed = (await ask(desk, "upstreams.list")).upstreams
    assert [(item.name, item.command, item.url) for item in listed] == [
        ("a", ("c",), None),
        ("b", None, "http://b/mcp"),
    ]


async def test_an_import_does_not_touch_what_a_file_owns(desk: Desk) -> None:
    await ask(desk, "configuration.apply", text="version: 1\nupstreams: {a: {url: 'http://a'}}\n")
    text = '{"mcpServers": {"b": {"command": "b"}, "a": {"command": "a"}}}'
    with pytest.raises(ConflictError, match=r"upstream 'a' is owned by portico\.yaml"):
        await ask(desk, "upstreams.import", text=text)
    assert len((await ask(desk, "upstreams.list")).upstreams) == 1
