"""Entries of the MCP registry (``server.json``) -> upstreams.

Source: the registry's generic ``server.json`` format, 2025-07-09 (snake case) to 2025-12-11 (camel
case). A remote becomes a URL; an npm, PyPI, OCI or NuGet package becomes a command.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from hub.administration.imported import (
    Imported,
    Note,
    NotImportableError,
    checked,
    upstream_name,
)
from hub.config.conversion import upstream_spec
from hub.config.references import variable_for
from hub.errors import ConfigurationError

Preference = Literal["remote", "package"]

_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
_JOINT: Final = re.compile(r"_([a-z])")
_RUNTIMES: Final = {"npm": "npx", "pypi": "uvx", "oci": "docker", "nuget": "dnx"}


class _Inputs:
    """Values that an entry leaves to whoever uses it."""

    def __init__(self) -> None:
        self.variables: list[str] = []
        """Environment variables that Portico needs for it."""
        self.missing: list[str] = []
        """What has to be written out before it can be used."""


def registry_entries(document: Any) -> list[Mapping[str, Any]]:
    """The ``server.json`` entries in a document: one, or an answer of a registry's API."""
    listed = _dict(document).get("servers")
    candidates = listed if isinstance(listed, list) else [document]
    entries = [_dict(item).get("server", item) for item in candidates]
    return [
        entry
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and ("packages" in entry or "remotes" in entry)
    ]


def read_registry_entries(
    entries: list[Mapping[str, Any]], prefer: Preference = "remote"
) -> Imported:
    """One upstream for each entry. Raises ConfigurationError when none of them can be one."""
    specs: dict[str, Any] = {}
    notes: list[Note] = []
    for entry in entries:
        name = upstream_name(entry["name"].rpartition("/")[2], specs)
        try:
            given, inputs = _chosen(entry, prefer)
            section = checked({**given, **({"enabled": False} if inputs.missing else {})})
        except NotImportableError as error:
            notes.append(Note(entry["name"], f"left out: {error}"))
            continue
        specs[name] = upstream_spec(name, section, "api")
        notes += _notes(name, inputs)
    if not specs:
        raise ConfigurationError("; ".join(note.message for note in notes) or "No entry is in it.")
    return Imported(tuple(specs.values()), tuple(notes))


def _chosen(entry: Mapping[str, Any], prefer: Preference) -> tuple[dict[str, Any], _Inputs]:
    remotes = [item for item in _list(entry.get("remotes")) if isinstance(item, dict)]
    packages = [
        item
        for item in _list(entry.get("packages"))
        if isinstance(item, dict) and _registry(item) in _RUNTIMES and _is_stdio(item)
    ]
    inputs = _Inputs()
    if remotes and (prefer == "remote" or not packages):
        streamable = [item for item in remotes if _transport(item) != "sse"]
        return _remote((streamable or remotes)[0], inputs), inputs
    if packages:
        return _package(packages[0], inputs), inputs
    raise NotImportableError("it has no remote, and no npm, PyPI, OCI or NuGet package over stdio")


def _remote(remote: Mapping[str, Any], inputs: _Inputs) -> dict[str, Any]:
    url = _filled(str(remote.get("url", "")), _dict(remote.get("variables")), inputs)
    return {
        "url": url.replace("{", "%7B").replace("}", "%7D"),
        "transport": "sse" if _transport(remote) == "sse" else "http",
        "headers": dict(_settings(_list(remote.get("headers")), inputs)),
    }


def _package(package: Mapping[str, Any], inputs: _Inputs) -> dict[str, Any]:
    registry = _registry(package)
    runtime = str(_of(package, "runtime_hint") or _RUNTIMES[registry])
    identifier, version = str(package.get("identifier", "")), package.get("version")
    if not identifier:
        raise NotImportableError("its package has no identifier")
    environment = dict(_settings(_list(_of(package, "environment_variables")), inputs))
    before = list(_arguments(_list(_of(package, "runtime_arguments")), inputs))
    after = list(_arguments(_list(_of(package, "package_arguments")), inputs))
    if registry == "oci":
        image = f"{identifier}:{version}" if version and ":" not in identifier[1:] else identifier
        passed = [word for name in environment for word in ("-e", name)]
        words = [runtime, "run", "-i", "--rm", *passed, *before, image, *after]
    else:
        named = f"{identifier}@{version}" if version else identifier
        if runtime == "npx" and "-y" not in before:
            before.insert(0, "-y")
        if runtime == "dnx":
            after = ["--yes", "--", *after] if after else ["--yes"]
        words = [runtime, *before, named, *after]
    return {"command": words, "env": environment}


def _settings(items: list[Any], inputs: _Inputs) -> Iterator[tuple[str, str]]:
    """Headers or environment variables: what is secret or has no value becomes a reference."""
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            continue
        name, value = item["name"], item.get("value", item.get("default"))
        variables = _dict(item.get("variables"))
        if isinstance(value, str) and variables:
            yield name, _with_reference(name, value, variables, inputs)
        elif value is not None and not _of(item, "is_secret"):
            yield name, str(value)
        elif _of(item, "is_required") or _of(item, "is_secret"):
            variable = variable_for(name)
            inputs.variables.append(variable)
            yield name, f"env:{variable}"


def _with_reference(name: str, value: str, variables: Mapping[str, Any], inputs: _Inputs) -> str:
    """``Bearer {token}`` as ``Bearer env:TOKEN``; what has values is filled in."""
    match = re.fullmatch(r"(?:([A-Za-z][A-Za-z0-9-]*) )?\{([^}]+)\}", value)
    if match is not None and _value_of(_dict(variables.get(match[2]))) is None:
        variable = variable_for(match[2])
        inputs.variables.append(variable)
        return f"{match[1]} env:{variable}" if match[1] else f"env:{variable}"
    open_places = _Inputs()
    filled = _filled(value, variables, open_places)
    if open_places.missing:
        variable = variable_for(name)
        inputs.variables.append(variable)
        return f"env:{variable}"
    return filled


def _arguments(items: list[Any], inputs: _Inputs) -> Iterator[str]:
    for item in items:
        if not isinstance(item, dict):
            continue
        value = item.get("value", item.get("default"))
        if value is not None:
            value = _filled(str(value), _dict(item.get("variables")), inputs)
        elif _of(item, "is_required"):
            hint = str(_of(item, "value_hint") or item.get("name") or "value").lstrip("-")
            value = f"<{hint}>"
            inputs.missing.append(value)
        if value is not None:
            yield from (
                [str(item.get("name", "")), value] if item.get("type") == "named" else [value]
            )


def _filled(text: str, variables: Mapping[str, Any], inputs: _Inputs) -> str:
    """Text with ``{places}`` filled from values and defaults; others are noted as missing."""

    def value(match: re.Match[str]) -> str:
        found = _value_of(_dict(variables.get(match[1])))
        if found is None:
            inputs.missing.append(match[0])
        return match[0] if found is None else found

    return _PLACE.sub(value, text) if variables else text


def _value_of(variable: Mapping[str, Any]) -> str | None:
    value = variable.get("value", variable.get("default"))
    return None if value is None or _of(variable, "is_secret") else str(value)


def _notes(name: str, inputs: _Inputs) -> Iterator[Note]:
    if inputs.variables:
        needed = ", ".join(dict.fromkeys(inputs.variables))
        yield Note(name, f"set in Portico's environment: {needed}")
    if inputs.missing:
        places = ", ".join(dict.fromkeys(inputs.missing))
        yield Note(name, f"disabled until {places} is written out")


def _registry(package: Mapping[str, Any]) -> str:
    return str(_of(package, "registry_type") or _of(package, "registry_name") or "").lower()


def _transport(item: Mapping[str, Any]) -> str:
    return str(item.get("type") or _of(item, "transport_type") or "")


def _is_stdio(package: Mapping[str, Any]) -> bool:
    return str(_dict(package.get("transport")).get("type", "stdio")) == "stdio"


def _of(item: Mapping[str, Any], key: str) -> Any:
    """A member by its name of the older entries, or by the camel case of the newer ones."""
    return item.get(key, item.get(_JOINT.sub(lambda match: match[1].upper(), key)))


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
