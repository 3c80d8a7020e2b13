"""No text makes reading fail, and what is exported reads back as what it was."""

import json
import re
from pathlib import Path

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from hub.administration.authority import local_administrator
from hub.administration.configuration import (
    ApplyRequest,
    ExportRequest,
    PlanRequest,
    apply,
    export,
    plan,
)
from hub.administration.desk import Desk
from hub.administration.differences import objects_of
from hub.config.conversion import desired_of, document_of
from hub.config.loading import load
from hub.config.yaml_text import to_yaml
from hub.domain.desired import (
    ArgumentRule,
    Desired,
    GrantSpec,
    GroupSpec,
    Include,
    Override,
    PrincipalSpec,
    UpstreamSpec,
    VirtualServerSpec,
)
from hub.stores.database import open_database, sqlite_url
from hub.stores.documents import Noun, Spec, decode, encode
from hub.stores.keys import KeyStore
from hub.stores.objects import Change, ObjectStore
from tests.behaviour.test_configuration import CONTRACT

SNIPPETS = st.sampled_from((
    "\n", "  ", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "!!int ", "!", "%YAML 1.1\n", "---\n",
    "...\n", "<<: ", "? ", "|\n", ">-\n", "'", '"', "\\u", '"\\ud800"', "\t", "#", "null", "no",
    ".inf", "1e999", "9" * 500, "0x", "\x00", "\x85", "\u2028", "\ufeff", "\ud800", "🚀", "upstreams:",
    "include:", "portico", "env:", "file:", "https://u:p@h", "version: 1\n", "grants: [{}]",
))  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The contract's file after a few blows."""
    text = CONTRACT
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 40))
        blow = draw(
            st.one_of(st.just(""), SNIPPETS, st.text(max_size=5), st.just(text[start:end] * 2))
        )
        text = text[:start] + blow + text[end:]
    return text


def check_is_read(text: str) -> None:
    loaded = load(text)
    assert (loaded.file is None) == bool(loaded.problems)
    lines = re.split(r"\r\n|[\n\r]", text)
    for problem in (*loaded.problems, *loaded.warnings):
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 2
        assert problem.message
        assert str(problem).startswith("portico.yaml:")
    if loaded.file is not None:
        desired_of(loaded.file, Path("/base"))


@given(mutated())
@settings(max_examples=300)
def test_a_file_after_any_blow_gives_problems_with_places(text: str) -> None:
    check_is_read(text)


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_gives_problems_with_places(text: str) -> None:
    check_is_read(text)


@given(st.binary(max_size=100))
def test_any_bytes_give_problems(content: bytes) -> None:
    loaded = load(content)
    assert (loaded.file is None) == bool(loaded.problems)


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
).map(lambda value: _raw(value))  # fmt: skip
VALUES = st.one_of(
    LINES.filter(lambda value: not re.search("(env|file):", value)),
    NAMES.map(lambda name: f"env:V_{name.replace('-', '_')}"),
    NAMES.map(lambda name: f"Bearer file:/run/{name}"),
)
SECONDS = st.floats(0.5, 600)
RULES = st.one_of(
    st.builds(ArgumentRule, hide=st.booleans(), description=st.none() | TEXTS),
    st.builds(ArgumentRule, fix=JSON, hide=st.booleans()),
    st.builds(ArgumentRule, default=JSON),
)
OVERRIDES = st.builds(
    Override,
    title=st.none() | TEXTS,
    description=st.none() | TEXTS,
    annotations=st.dictionaries(TEXTS, JSON, max_size=2),
    arguments=st.dictionaries(TEXTS, RULES, max_size=3),
)
LISTS = st.none() | st.lists(LINES, max_size=3).map(lambda names: tuple(sorted(set(names))))


def _raw(value: object) -> Raw:
    """As the configuration writes JSON, so that equal values are equal text."""
    return Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def upstreams(name: str) -> st.SearchStrategy[UpstreamSpec]:
    shared = {
        "name": st.just(name),
        "timeout_s": SECONDS,
        "max_in_flight": st.integers(1, 100),
        "enabled": st.booleans(),
    }
    urls = st.sampled_from(("http://127.0.0.1:1/mcp", "https://ü.example/mcp?a=b#c"))
    header = st.from_regex(r"X-[A-Za-z0-9]{1,9}", fullmatch=True)
    headers = st.dictionaries(header, VALUES, max_size=2).filter(
        lambda found: len({key.lower() for key in found}) == len(found)
    )
    command = st.lists(TEXTS, max_size=3).map(lambda words: ("run", *words))
    return st.one_of(
        st.builds(UpstreamSpec, url=urls, headers=headers, transport=st.just("sse"), **shared),
        st.builds(UpstreamSpec, openapi=urls, base_url=st.none() | urls, **shared),
        st.builds(
            UpstreamSpec,
            command=command,
            env=st.dictionaries(NAMES, VALUES, max_size=2),
            isolation=st.sampled_from(("shared", "principal")),
            cwd=st.none() | st.just("/srv"),
            **shared,
        ),
    )


@st.composite
def desired_states(draw: st.DrawFn) -> Desired:
    """Anything that can be configured, owned by whomever, sound in itself."""

    def some(least: int = 0) -> list[str]:
        reserved = {"portico", "default", "anonymous"}
        return draw(
            st.lists(NAMES.filter(lambda name: name not in reserved), min_size=least, max_size=3,
                     unique=True)
        )  # fmt: skip

    def chosen(names: list[str]) -> tuple[str, ...]:
        return tuple(sorted(draw(st.sets(st.sampled_from(names), max_size=3)))) if names else ()

    upstream_names, principal_names, group_names, servers = some(1), some(), some(), some(1)
    includes = st.builds(
        Include,
        upstream=st.sampled_from(upstream_names),
        tools=LISTS,
        resources=LISTS,
        prompts=LISTS,
        where=st.dictionaries(st.sampled_from(("readOnlyHint", "openWorldHint")), st.booleans()),
        override=st.dictionaries(TEXTS, OVERRIDES, max_size=2),
    )
    grants: dict[str, GrantSpec] = {}
    for field, names in (("group", group_names), ("principal", principal_names)):
        for name in chosen(names):
            grant = draw(
                st.builds(
                    GrantSpec,
                    virtual_server=st.sampled_from([*servers, "default"]),
                    tools=LISTS,
                    resources=LISTS,
                    prompts=LISTS,
                    **{field: st.just(name)},
                )
            )
            grants[grant.name] = grant
    return Desired(
        upstreams=tuple(draw(upstreams(name)) for name in sorted(upstream_names)),
        virtual_servers=tuple(
            VirtualServerSpec(
                name=name,
                title=draw(st.none() | TEXTS),
                instructions=draw(st.none() | TEXTS),
                anonymous=draw(st.booleans()),
                presentation=draw(st.sampled_from(("full", "search"))),
                include=tuple(draw(st.lists(includes, max_size=2))),
            )
            for name in sorted(servers)
        ),
        principals=tuple(
            PrincipalSpec(
                name=name,
                kind=draw(st.sampled_from(("person", "agent"))),
                roles=draw(st.sampled_from(((), ("admin",), ("auditor", "viewer")))),
                groups=chosen(group_names),
            )
            for name in sorted(principal_names)
        ),
        groups=tuple(
            GroupSpec(name=name, members=chosen(principal_names)) for name in sorted(group_names)
        ),
        grants=tuple(grants[name] for name in sorted(grants)),
    )


def owned_by_file(desired: Desired) -> Desired:
    return Desired(
        tenant=desired.tenant,
        **{
            section: tuple(replace(spec, source="file") for spec in getattr(desired, section))
            for section in ("upstreams", "virtual_servers", "principals", "groups", "grants")
        },
    )


@given(desired_states())
def test_an_exported_state_reads_back_as_it_was(desired: Desired) -> None:
    text = to_yaml(document_of(desired))
    loaded = load(text)
    assert loaded.file is not None, (loaded.problems, text)
    assert desired_of(loaded.file) == owned_by_file(desired)


@given(desired_states())
def test_a_stored_object_reads_back_as_it_was(desired: Desired) -> None:
    stored: dict[tuple[Noun, str], Spec] = objects_of(desired)
    for (noun, _), spec in stored.items():
        assert decode(noun, encode(spec)) == spec
        assert encode(decode(noun, encode(spec))) == encode(spec)


@given(data=st.data())
@settings(max_examples=25)
def test_applying_an_export_changes_nothing(data: st.DataObject) -> None:
    """Whoever owns the objects, here or in an empty Portico."""
    desired = data.draw(desired_states())
    api_owned = {key for key in objects_of(desired) if data.draw(st.booleans())}
    specs = [
        replace(spec, source="api" if key in api_owned else "file")
        for key, spec in objects_of(desired).items()
    ]
    anyio.run(_export_and_apply, specs)


async def _export_and_apply(specs: list[Spec]) -> None:
    path = "/etc/portico/portico.yaml"
    async with (
        anyio.TemporaryDirectory() as folder,
        open_database(sqlite_url(Path(folder))) as database,
    ):
        desk = Desk(objects=ObjectStore(database), keys=KeyStore(database))
        here, there = local_administrator("default"), local_administrator("other")
        await desk.objects.change("default", Change(put=specs, origin=path, at=""))
        text = (await export(desk, here, "default", ExportRequest())).text
        unchanged = await plan(desk, here, "default", PlanRequest(text=text, path=path))
        assert unchanged.is_empty, unchanged
        elsewhere = text.replace("tenant: default", "tenant: other", 1)
        applied = await apply(desk, there, "other", ApplyRequest(text=elsewhere, path=path))
        assert {change.action for change in applied.changes} == {"add"}
        again = await plan(desk, there, "other", PlanRequest(text=elsewhere, path=path))
        assert again.is_empty, again
        copied = (await export(desk, there, "other", ExportRequest())).text
        assert copied == elsewhere
