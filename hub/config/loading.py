"""Text of ``portico.yaml`` -> checked sections, or every problem at once."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct
from pydantic import ValidationError

from hub.config.cross_references import NOTHING, Known, check_references, unmatched_overrides
from hub.config.models import PorticoFile, UpstreamSection
from hub.config.problems import Problem, located, model_problems, path_text
from hub.config.references import holds_credentials, looks_secret, variable_for
from hub.config.rule_checks import check_attach, check_guardrail, check_limit
from hub.config.section_checks import Finding, check_grant, check_include, check_upstream
from hub.config.texts import is_loopback
from hub.config.yaml_source import Path, read

MAX_PROBLEMS: Final = 200
"""More are cut off; nobody mends so many at a time."""


class Loaded(Struct, frozen=True):
    """What a text holds: ``file`` is None as soon as there is one problem."""

    file: PorticoFile | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def load(
    text: str | bytes, filename: str = "portico.yaml", known: Known | None = NOTHING
) -> Loaded:
    """Read and check a configuration; never raises for what is in it.

    ``known`` names objects that exist beside the file and may be referred to; with None, what is
    referred to is not looked for.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problem = Problem(file=filename, line=line, column=1, message="is not UTF-8")
            return Loaded(None, (problem,))
    problems: list[Problem] = []

    def report(line: int, column: int, path: Path, message: str) -> None:
        place = path_text(path)
        found = Problem(file=filename, line=line, column=column, path=place, message=message)
        problems.append(found)

    root = read(text.removeprefix("\ufeff"), report)
    if root is None:
        return Loaded(None, _sorted(problems))
    document = root.plain()
    file: PorticoFile | None = None
    try:
        file = PorticoFile.model_validate(document)
    except ValidationError as error:
        problems += model_problems(error, PorticoFile, file=filename, root=root)
    problems += (
        located(finding.path, finding.message, file=filename, root=root)
        for finding in _section_findings(document)
    )
    if known is not None:
        problems += (
            located(finding.path, finding.message, file=filename, root=root)
            for finding in check_references(document, known)
        )
    warnings = [
        located(finding.path, finding.message, file=filename, root=root)
        for finding in _warnings(document)
    ]
    return Loaded(None if problems else file, _sorted(problems), _sorted(warnings))


def literal_secrets(document: Any) -> Iterator[Finding]:
    """Values in the ``upstreams`` and ``store`` of a document that seem to be secrets."""
    for name, upstream in _items(_get(document, "upstreams")):
        for section in ("env", "headers"):
            for key, value in _items(_get(upstream, section)):
                if isinstance(value, str) and looks_secret(key, value):
                    variable = key if section == "env" else variable_for(name, key)
                    yield Finding(("upstreams", name, section, key), _advice(variable))
        for index, word in enumerate(_list(_get(upstream, "command"))):
            flag, _, value = word.partition("=") if isinstance(word, str) else ("", "", "")
            if isinstance(word, str) and (
                looks_secret(flag.lstrip("-"), value) or looks_secret("", word)
            ):
                message = "looks like a secret; programs read those from 'env', not from arguments"
                yield Finding(("upstreams", name, "command", index), message)
    url = _get(_get(document, "store"), "url")
    if isinstance(url, str) and holds_credentials(url) and ":" in url.split("@")[0].split("//")[-1]:
        yield Finding(("store", "url"), _advice("PORTICO_STORE_URL"))


def _section_findings(document: Any) -> Iterator[Finding]:
    """What the models find inside a section too, but only once every type in it is right."""
    for name, upstream in _items(_get(document, "upstreams")):
        if isinstance(upstream, dict):
            fields = UpstreamSection.model_fields
            given = {
                key: value
                for key, value in upstream.items()
                if key in fields and value != fields[key].default
            }
            yield from _below(("upstreams", name), check_upstream(given))
    for name, server in _items(_get(document, "virtual_servers")):
        for index, include in enumerate(_list(_get(server, "include"))):
            overrides = _items(_get(include, "override"))
            path = ("virtual_servers", name, "include", index)
            yield from _below(path, check_include({key: _get(o, "name") for key, o in overrides}))
    for index, grant in enumerate(_list(_get(document, "grants"))):
        if isinstance(grant, dict):
            findings = check_grant(grant.get("group"), grant.get("principal"))
            yield from _below(("grants", index), findings)
    yield from _rule_findings(document)


def _rule_findings(document: Any) -> Iterator[Finding]:
    for section in ("guardrails", "limits", "budgets"):
        for index, rule in enumerate(_list(_get(document, section))):
            attach = _get(rule, "attach")
            if isinstance(attach, dict):
                given = {key: value for key, value in attach.items() if value is not None}
                yield from _below((section, index, "attach"), check_attach(given))
            if isinstance(rule, dict) and section != "budgets":
                given = {key: value for key, value in rule.items() if value is not None}
                check = check_guardrail if section == "guardrails" else check_limit
                yield from _below((section, index), check(given))


def _below(path: Path, findings: Iterable[Finding]) -> Iterator[Finding]:
    return (Finding((*path, *finding.path), finding.message) for finding in findings)


def _warnings(document: Any) -> Iterator[Finding]:
    yield from literal_secrets(document)
    yield from unmatched_overrides(document)
    bind = _get(_get(document, "server"), "bind")
    if isinstance(bind, str) and not is_loopback(bind):
        for name, server in _items(_get(document, "virtual_servers")):
            if _get(server, "anonymous") is True:
                message = f"works for loopback callers only, and server.bind is {bind}"
                yield Finding(("virtual_servers", name, "anonymous"), message)


def _advice(variable: str) -> str:
    return f"looks like a secret; write 'env:{variable}' and set that variable instead"


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    ordered = sorted(
        set(problems), key=lambda problem: (problem.line, problem.column, problem.path)
    )
    if len(ordered) > MAX_PROBLEMS:
        rest = f"{len(ordered) - MAX_PROBLEMS} more problems"
        last = ordered[MAX_PROBLEMS - 1]
        more = Problem(file=last.file, line=last.line, column=last.column, message=rest)
        ordered = [*ordered[:MAX_PROBLEMS], more]
    return tuple(ordered)


def _get(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _items(section: Any) -> list[tuple[str, Any]]:
    return list(section.items()) if isinstance(section, dict) else []
