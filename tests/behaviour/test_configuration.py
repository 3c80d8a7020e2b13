"""What people see of a configuration file that is read, right or wrong."""

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from hub.config.conversion import desired_of
from hub.config.json_schema import schema, schema_text
from hub.config.loading import Loaded, load
from hub.config.models import PorticoFile
from hub.config.references import resolve
from hub.domain.desired import Desired, UpstreamSpec, VirtualServerSpec
from hub.errors import ConfigurationError

ROOT = Path(__file__).parents[2]

CONTRACT = """\
version: 1
tenant: default
server: {bind: 127.0.0.1, port: 8080, public_url: null, allowed_hosts: [], allowed_origins: [], trusted_proxies: []}
upstreams:
  files:  {command: [npx, -y, "@modelcontextprotocol/server-filesystem", /data], env: {}}
  orders: {url: "https://orders.example/mcp", transport: auto, headers: {X-Key: "env:ORDERS_KEY"}}
  pets:   {openapi: "./petstore.yaml", base_url: "https://pets.example"}
principals: {ci-bot: {kind: service}}
groups: {engineers: {members: [ci-bot]}, support: {members: []}}
virtual_servers:
  dev:
    title: Development
    prefix: auto
    anonymous: false                    # true: no credential needed, loopback only
    include:                            # patterns and override keys are upstream names
      - {upstream: files, tools: ["read_*", list_directory], resources: ["*"]}
      - upstream: orders
        tools: [get_order]
        override: {get_order: {name: find_order, description: "…", arguments: {tenant: {fix: acme, hide: true}}}}
grants:                                 # grants name exposed names
  - {group: engineers, virtual_server: dev}
  - {group: support, virtual_server: dev, tools: [find_order]}
"""


def problems(text: str) -> list[str]:
    """What is wrong with a file that begins with ``version: 1``; line 2 is the text's first."""
    loaded = load(f"version: 1\n{text}")
    assert loaded.file is None
    return [str(problem).removeprefix("portico.yaml:") for problem in loaded.problems]


def accepted(text: str) -> PorticoFile:
    loaded = load(f"version: 1\n{text}")
    assert loaded.file is not None, [str(problem) for problem in loaded.problems]
    return loaded.file


def warnings(text: str) -> list[str]:
    loaded: Loaded = load(f"version: 1\n{text}")
    assert loaded.problems == ()
    return [str(warning).removeprefix("portico.yaml:") for warning in loaded.warnings]


def desired(text: str, base: Path | None = None) -> Desired:
    return desired_of(accepted(text), base)


def test_the_format_of_the_contract_is_read_as_it_is_meant() -> None:
    loaded = load(CONTRACT)
    assert (loaded.problems, loaded.warnings) == ((), ())
    assert loaded.file is not None
    wanted = desired_of(loaded.file, Path("/etc/portico"))
    files, orders, pets = wanted.upstreams
    assert files.command == ("npx", "-y", "@modelcontextprotocol/server-filesystem", "/data")
    assert orders.headers == {"X-Key": "env:ORDERS_KEY"}
    assert pets.openapi == "/etc/portico/petstore.yaml"
    assert {spec.source for spec in wanted.upstreams} == {"file"}
    (dev,) = wanted.virtual_servers
    assert dev.include[0].prompts is None
    override = dev.include[1].override["get_order"]
    assert (override.name, override.description) == ("find_order", "…")
    assert bytes(override.arguments["tenant"].fix or b"") == b'"acme"'
    assert wanted.memberships() == {"ci-bot": frozenset(("engineers",))}
    assert [grant.name for grant in wanted.grants] == [
        "group:engineers@dev",
        "group:support@dev[tools=find_order]",
    ]


def test_what_a_file_leaves_out_is_what_the_rest_of_the_hub_assumes() -> None:
    """Defaults are written once for people and once for the hub: they must be the same."""
    (upstream,) = desired("upstreams: {a: {url: 'http://a'}}").upstreams
    assert upstream == UpstreamSpec(name="a", url="http://a", source="file")
    (server,) = desired("virtual_servers: {v: {}}").virtual_servers
    assert server == VirtualServerSpec(name="v", source="file")
    section = accepted("upstreams: {a: {url: 'http://a'}}").upstreams["a"]
    for name, value in section.model_dump(exclude={"command"}).items():
        assert getattr(upstream, name) == value, name


def test_every_problem_is_told_at_once_with_its_place() -> None:
    found = problems("""\
server: {port: "80", bind: somewhere}
upstreams:
  files: {command: [npx], url: "http://x"}
  orders: {url: "http://x", hedaers: {}}
virtual_servers:
  dev:
    prefix: allways
    include:
      - {upstream: file}
      - upstream: orders
        overide: {}
grants:
  - {group: engineer, virtual_server: dve}
""")
    assert found == [
        "2:16: server.port: must be a whole number; take the quotes away",
        "2:28: server.bind: must be an IP address or 'localhost'",
        "4:10: upstreams.files: an upstream has exactly one of command, url and openapi; "
        "here are command and url",
        "5:29: upstreams.orders.hedaers: unknown key; did you mean 'headers'?",
        "8:13: virtual_servers.dev.prefix: must be 'auto', 'always' or 'never'; "
        "did you mean 'always'?",
        "10:20: virtual_servers.dev.include[0].upstream: unknown upstream 'file'; "
        "did you mean 'files'?",
        "12:9: virtual_servers.dev.include[1].overide: unknown key; did you mean 'override'?",
        "14:13: grants[0].group: unknown group 'engineer'",
        "14:39: grants[0].virtual_server: unknown virtual server 'dve'; did you mean 'dev'?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "not YAML"),
        ("version: 1", "2:1: version: key is given twice; the first is in line 1"),
        ("groups: {g: {}, g: {}}", "2:17: groups.g: key is given twice; the first is in line 2"),
        ("groups: !!map {}", "tags are not used here"),
        ("groups: {<<: {}}", "merge keys ('<<') are not part of YAML 1.2"),
        ("? [a]\n: 1", "a key must be plain text"),
        ("groups: *nowhere", "alias '*nowhere' has no anchor before it"),
        ("groups: &g {a: *g}", "alias '*g' has no anchor before it"),
        ("---\nversion: 1", "only one document may be in the file"),
        ("groups: {g: {members: [.nan]}}", "no number JSON can write; quote it"),
        ("groups: {g: {members: [1e999]}}", "no number JSON can write; quote it"),
        ('tenant: "\\ud800"', "half a surrogate pair is no character"),
        ('tenant: "\\U00110000"', "not YAML"),
        ("tenant: a\x07b", "2:10: character U+0007 may not stand in YAML"),
        ("groups: " + "[" * 50, "nested deeper than 40 levels"),
    ],
)
def test_what_is_no_sound_yaml_is_a_problem_with_a_place(text: str, problem: str) -> None:
    found = problems(text)
    assert any(problem in one for one in found), found
    assert all(one[0].isdigit() for one in found)


def test_aliases_cannot_be_made_to_explode() -> None:
    levels = "\n".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    found = problems(f"groups:\n  l0: &l0 [a, b]\n{levels}\n")
    assert "aliases expand to more than 10,000 nodes" in found[-1]


def test_aliases_cannot_be_made_to_nest() -> None:
    lines = ["version: 1", "x0: &a0 [1]"]
    lines += [f"x{n}: &a{n} {'[' * 30}*a{n - 1}{']' * 30}" for n in range(1, 20)]
    assert "nested deeper than 40 levels" in str(load("\n".join(lines)).problems[0])


def test_a_home_of_nobody_is_a_path_like_others() -> None:
    file = load('version: 1\nupstreams: {u: {openapi: "~nobody-here/api.json"}}\n').file
    assert file is not None
    (upstream,) = desired_of(file, Path("/srv")).upstreams
    assert upstream.openapi == "/srv/~nobody-here/api.json"


def test_a_secret_among_arguments_is_warned_of() -> None:
    token = "ghp_" + "0123456789abcdefghij" * 2
    for command in (f"[x, --token, {token}]", f"[x, --token={token}]"):
        loaded = load(f"version: 1\nupstreams: {{u: {{command: {command}}}}}\n")
        assert "looks like a secret" in str(loaded.warnings[0])


def test_an_anchor_may_be_used_again() -> None:
    text = "principals: {a: {}, b: {}}\ngroups: {x: {members: &m [a, b]}, y: {members: *m}}"
    assert [group.members for group in desired(text).groups] == [("a", "b"), ("a", "b")]


def test_an_empty_file_says_how_to_begin() -> None:
    for text in ("", "# only a comment\n", "\ufeff"):
        assert [str(one) for one in load(text).problems] == [
            "portico.yaml:1:1: the file is empty; it begins with 'version: 1'"
        ]


def test_bytes_that_are_no_utf8_are_placed_by_line() -> None:
    (problem,) = load(b"version: 1\ntenant: \xff\n", "here.yaml").problems
    assert str(problem) == "here.yaml:2:1: is not UTF-8"


def test_words_that_yaml_1_1_took_for_booleans_are_text() -> None:
    text = "upstreams: {a: {command: [echo, no, on, off, yes, y], env: {A: no, B: on}}}"
    (upstream,) = desired(text).upstreams
    assert upstream.command == ("echo", "no", "on", "off", "yes", "y")
    assert upstream.env == {"A": "no", "B": "on"}
    assert problems("virtual_servers: {v: {anonymous: no}}") == [
        "2:34: virtual_servers.v.anonymous: must be true or false; 'no' is text in YAML 1.2"
    ]
    assert problems("upstreams: {a: {command: [b], env: {PORT: 8080}}}") == [
        "2:43: upstreams.a.env.PORT: must be text; write it in quotes"
    ]


def test_numbers_are_those_of_yaml_1_2() -> None:
    fixed = "[010, 0x1F, 0o17, 1_000, 1e3, 12345678901234567890123, '7', 1:30, 2026-11-21]"
    server = (
        f"{{include: [{{upstream: u, override: {{t: {{arguments: {{a: {{fix: {fixed}}}}}}}}}}}]}}"
    )
    text = f"upstreams: {{u: {{url: 'http://u'}}}}\nvirtual_servers: {{v: {server}}}"
    (spec,) = desired(text).virtual_servers
    raw = spec.include[0].override["t"].arguments["a"].fix
    assert json.loads(bytes(raw or b"")) == [
        10, 31, 15, "1_000", 1000.0, 12345678901234567890123, "7", "1:30", "2026-11-21",
    ]  # fmt: skip


def test_a_null_that_is_fixed_is_not_the_same_as_nothing() -> None:
    arguments = "{a: {fix: null}, b: {default: null}, c: {hide: true}}"
    include = f"[{{upstream: u, override: {{t: {{arguments: {arguments}}}}}}}]"
    text = f"upstreams: {{u: {{url: 'http://u'}}}}\nvirtual_servers: {{v: {{include: {include}}}}}"
    rules = desired(text).virtual_servers[0].include[0].override["t"].arguments
    assert bytes(rules["a"].fix or b"") == b"null"
    assert (rules["a"].default, rules["c"].fix) == (None, None)
    assert bytes(rules["b"].default or b"") == b"null"


@pytest.mark.parametrize(
    ("upstream", "problem"),
    [
        ("{}", "exactly one of command, url and openapi"),
        ("{command: []}", "command: must not be empty"),
        ('{command: [" "]}', "command[0]: the program's name is empty"),
        ("{command: npx}", "command: must be a list"),
        ("{url: ftp://a}", "url: must be a URL with http or https and a host"),
        ("{url: http://}", "url: must be a URL with http or https and a host"),
        ("{url: 'http://u:p@a'}", "url: a URL may not hold credentials; use headers"),
        ("{url: 'http://a', env: {A: b}}", "env: goes with command only, not with url"),
        ("{command: [a], headers: {A: b}}", "headers: goes with url or openapi only"),
        ("{command: [a], base_url: 'http://a'}", "base_url: goes with openapi only"),
        ("{command: [a], env: {'A=B': c}}", "is not the name of an environment variable"),
        ("{command: [a], env: {A: 'env:1X'}}", "needs the name of an environment variable"),
        ("{url: 'http://a', headers: {A: 'file:'}}", "needs the path of a file"),
        ("{url: 'http://a', headers: {'A b': c}}", "is not the name of an HTTP header"),
        ("{url: 'http://a', headers: {Host: c}}", "Portico sets this header itself"),
        ("{url: 'http://a', headers: {A: b, a: c}}", "header is given twice; case does not matter"),
        ('{url: "http://a", headers: {A: "b\\r\\nC: d"}}', "one line without control characters"),
        ("{url: 'http://a', timeout_s: 700}", "timeout_s (700) is above timeout_cap_s (600)"),
        ("{url: 'http://a', timeout_s: 0}", "timeout_s: must be more than 0"),
        ("{url: 'http://a', max_in_flight: 1.5}", "max_in_flight: must be a whole number"),
        ("{url: 'http://a', transport: stdio}", "transport: must be 'auto', 'http' or 'sse'"),
    ],
)
def test_an_upstream_that_cannot_work_is_refused(upstream: str, problem: str) -> None:
    found = problems(f"upstreams: {{u: {upstream}}}")
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("upstreams: {'a b': {url: 'http://a'}}", "a name has letters, digits, '_' and '-'"),
        (f"groups: {{{'g' * 49}: {{}}}}", "at most 48 of them"),
        ("tenant: ''", "tenant: a name has letters"),
        ("upstreams: {portico: {url: 'http://a'}}", "reserved for what Portico answers itself"),
        ("virtual_servers: {portico: {}}", "reserved for Portico's own tools"),
        ("principals: {anonymous: {}}", "reserved for callers without a credential"),
        ("groups: {g: {members: [x]}}", "groups.g.members[0]: unknown principal 'x'"),
        ("principals: {p: {groups: [x]}}", "principals.p.groups[0]: unknown group 'x'"),
        (
            "principals: {p: {}}\ngroups: {g: {members: [p, p]}}",
            "groups.g.members[1]: principal 'p' is listed twice",
        ),
        ("principals: {p: {kind: anonymous}}", "must be 'person', 'service' or 'agent'"),
        ("principals: {p: {roles: [admn]}}", "did you mean 'admin'?"),
        ("grants: [{virtual_server: default}]", "exactly one of 'group' and 'principal'"),
        (
            "groups: {g: {}}\nprincipals: {p: {}}\n"
            "grants: [{virtual_server: default, group: g, principal: p}]",
            "exactly one of 'group' and 'principal'",
        ),
        (
            "groups: {g: {}}\ngrants:\n  - {virtual_server: default, group: g, tools: [a, b]}\n"
            "  - {virtual_server: default, group: g, tools: [b, a]}",
            "5:5: grants[1]: the same grant stands above",
        ),
        ("server: {public_url: 'https://a/b'}", "without a path"),
        ("server: {allowed_origins: [a]}", "allowed_origins[0]: must be http(s)://host[:port]"),
        ("server: {trusted_proxies: [10.0.0.0/33]}", "must be an IP address or a network"),
        ("server: {port: 65536}", "server.port: must be at most 65535"),
        ("telemetry: {sample_ratio: 2}", "telemetry.sample_ratio: must be at most 1"),
        ("record: {level: writen}", "did you mean 'written'?"),
        ("grants: {}", "grants: must be a list"),
        ("groups: []", "groups: must be a mapping"),
        ("groups: {g: }", "groups.g: must be a mapping"),
        ("virtual_server: {}", "unknown key; did you mean 'virtual_servers'?"),
    ],
)
def test_what_does_not_fit_together_is_refused(text: str, problem: str) -> None:
    found = problems(text)
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    ("include", "problem"),
    [
        ("{override: {a: {name: 'b c'}}}", "an exposed name has letters, digits, '_' and '-'"),
        (f"{{override: {{a: {{name: {'x' * 49}}}}}}}", "at most 48 of them"),
        (
            "{override: {a: {name: x}, b: {name: X}}}",
            "'X' is already the name of another exposure here",
        ),
        (
            "{override: {a: {arguments: {b: {fix: 1, default: 2}}}}}",
            "a fixed argument has no default",
        ),
        ("{where: {readonlyHint: true}}", "did you mean 'readOnlyHint'?"),
        ("{where: {readOnlyHint: 1}}", "must be true or false"),
        ("{tools: ['']}", "must not be empty"),
    ],
)
def test_an_include_that_cannot_work_is_refused(include: str, problem: str) -> None:
    found = problems(
        "upstreams: {u: {url: 'http://u'}}\n"
        f"virtual_servers: {{v: {{include: [{{upstream: u, {include[1:]}]}}}}"
    )
    assert any(problem in one for one in found), found


def test_a_resource_may_be_given_any_uri() -> None:
    text = (
        "upstreams: {u: {url: 'http://u'}}\nvirtual_servers: {v: {include: [{upstream: u, "
        "override: {'file:///a': {name: 'docs://guide, first page'}}}]}}"
    )
    (server,) = desired(text).virtual_servers
    assert server.include[0].override["file:///a"].name == "docs://guide, first page"


def test_the_default_virtual_server_takes_settings_but_no_include() -> None:
    assert desired("virtual_servers: {default: {presentation: search}}").virtual_servers
    text = (
        "upstreams: {u: {url: 'http://u'}}\nvirtual_servers: {default: {include: [{upstream: u}]}}"
    )
    assert "'default' is /mcp and holds every exposure" in problems(text)[0]


@pytest.mark.parametrize(
    ("upstream", "warning"),
    [
        (
            "{url: 'http://u', headers: {X-Key: 0123456789abcdef}}",
            "2:51: upstreams.u.headers.X-Key: looks like a secret; "
            "write 'env:U_X_KEY' and set that variable instead",
        ),
        ("{command: [a], env: {GITHUB_TOKEN: ghp_abcdefghij}}", "write 'env:GITHUB_TOKEN'"),
        ("{command: [a], env: {X: xoxb-1-2-abc}}", "write 'env:X'"),
        ("{url: 'http://u', headers: {Authorization: Bearer abc}}", "looks like a secret"),
        ("{command: [a, --api-key=hunter2-hunter2]}", "programs read those from 'env'"),
    ],
)
def test_a_literal_secret_is_warned_of_and_never_shown(upstream: str, warning: str) -> None:
    (found,) = warnings(f"upstreams: {{u: {upstream}}}")
    assert warning in found
    for secret in ("0123456789abcdef", "ghp_", "xoxb", "Bearer abc", "hunter2"):
        assert secret not in found


@pytest.mark.parametrize(
    "upstream",
    [
        "{url: 'http://u', headers: {Authorization: 'Bearer env:TOKEN', X-Region: eu-west-1}}",
        "{command: [a, --root=/srv/data], env: {API_KEY: 'file:/run/secrets/key', LOG_LEVEL: debug}}",
        "{command: [a], env: {TOKEN: '', DATA: /home/someone/a/very/long/path/Number1/of/2}}",
        "{command: [a], env: {MAX_KEYS: '100', SECRET: change-me}}",
    ],
)
def test_what_is_no_secret_is_not_warned_of(upstream: str) -> None:
    assert warnings(f"upstreams: {{u: {upstream}}}") == []


def test_what_has_no_effect_is_warned_of() -> None:
    text = (
        "server: {bind: 0.0.0.0}\nupstreams: {u: {url: 'http://u'}}\n"
        "virtual_servers: {v: {anonymous: true, include: "
        "[{upstream: u, tools: [get_*], override: {set_x: {name: y}}}]}}"
    )
    assert warnings(text) == [
        "4:34: virtual_servers.v.anonymous: works for loopback callers only, "
        "and server.bind is 0.0.0.0",
        "4:98: virtual_servers.v.include[0].override.set_x: is not among what is included; "
        "did you mean 'get_*'?",
    ]


def test_the_password_of_a_database_is_warned_of() -> None:
    assert "store.url" in warnings("store: {url: 'postgresql://p:secret@db/portico'}")[0]
    assert warnings("store: {url: 'postgresql://p@db/portico'}") == []


def test_relative_paths_start_at_the_file() -> None:
    text = (
        "upstreams:\n  a: {command: [./run], cwd: tools, env: {K: 'file:../key'}}\n"
        "  b: {openapi: api/pets.yaml, headers: {Authorization: 'Bearer file:token'}}\n"
        "  c: {openapi: 'https://pets.example/openapi.json'}\n"
    )
    a, b, c = desired(text, Path("/etc/portico")).upstreams
    assert (a.cwd, a.env["K"]) == ("/etc/portico/tools", "file:/etc/key")
    assert a.command == ("./run",)
    assert b.openapi == "/etc/portico/api/pets.yaml"
    assert b.headers["Authorization"] == "Bearer file:/etc/portico/token"
    assert c.openapi == "https://pets.example/openapi.json"


def test_references_are_resolved_when_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n", encoding="utf-8")
    environ = {"TOKEN": "abc"}
    assert resolve("env:TOKEN", environ) == "abc"
    assert resolve("Bearer env:TOKEN", environ) == "Bearer abc"
    assert resolve(f"file:{tmp_path / 'key'}", environ) == "s3cret"
    assert resolve("plain: env:TOKEN", environ) == "plain: env:TOKEN"
    with pytest.raises(ConfigurationError, match="variable OTHER is not set"):
        resolve("env:OTHER", environ)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        resolve(f"file:{tmp_path / 'none'}", environ)


def test_what_is_referred_to_may_be_looked_for_later() -> None:
    text = "version: 1\ngrants: [{group: g, virtual_server: v}]\n"
    assert len(load(text).problems) == 2
    assert load(text, known=None).problems == ()
    known = {"groups": frozenset(("g",)), "virtual_servers": frozenset(("v",))}
    assert load(text, known=known).problems == ()


def test_a_section_whose_key_stands_alone_is_empty() -> None:
    assert accepted("groups:\ngrants:\n").groups == {}


def test_thousands_of_problems_are_cut_off() -> None:
    members = ", ".join(f"x{number}" for number in range(1_000))
    found = problems(f"groups: {{g: {{members: [{members}]}}}}")
    assert len(found) == 201
    assert "800 more problems" in found[-1]


def test_the_published_schema_is_current_and_takes_the_contract() -> None:
    published = ROOT / "docs" / "portico.schema.json"
    assert published.read_text(encoding="utf-8") == schema_text(), "run 'make docs'"
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    document = YAML(typ="safe", pure=True).load(CONTRACT)
    assert list(validator.iter_errors(document)) == []
    document["upstreams"]["files"]["url"] = "http://x"
    document["upstreams"]["orders"]["hedaers"] = {}
    document["version"] = 2
    assert len(list(validator.iter_errors(document))) == 3


def test_every_setting_says_what_it_is_for() -> None:
    published = schema()
    silent = [
        f"{name}.{key}"
        for name, section in published["$defs"].items()
        for key, value in section.get("properties", {}).items()
        if not value.get("description")
    ]
    assert silent == []
