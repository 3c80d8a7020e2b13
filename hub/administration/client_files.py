"""Configuration files of MCP clients -> upstreams.

Known are ``mcpServers`` (Claude Code and Desktop, Cursor, Gemini), ``servers`` (VS Code),
``mcp_servers`` (Codex, TOML) and ``extensions`` (Goose, YAML). One entry that cannot be taken is
noted and does not hinder the others.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from hub.administration.imported import (
    Imported,
    Note,
    NotImportableError,
    Surroundings,
    checked,
    filled,
    reference,
    upstream_name,
)
from hub.config.conversion import upstream_spec
from hub.config.references import looks_secret
from hub.config.yaml_source import read
from hub.domain.desired import UpstreamSpec
from hub.errors import ConfigurationError


class _Dialect(Struct, frozen=True):
    """One way of writing servers down."""

    keys: tuple[str, ...]
    """Where the servers are, from the top."""
    timeout: str
    timeout_unit_s: float


_DIALECTS: Final = (
    _Dialect(("mcpServers",), "timeout", 0.001),
    _Dialect(("mcp_servers",), "tool_timeout_sec", 1.0),
    _Dialect(("extensions",), "timeout", 1.0),
    _Dialect(("mcp", "servers"), "timeout", 0.001),
    _Dialect(("servers",), "timeout", 0.001),
)
_HTTP: Final = frozenset(("http", "streamable-http", "streamable_http", "streamablehttp", "remote"))
_STDIO: Final = frozenset(("stdio", "local"))
_FILTERS: Final = (
    "includeTools",
    "excludeTools",
    "available_tools",
    "enabled_tools",
    "disabled_tools",
    "alwaysAllow",
    "autoApprove",
)
_MAX_NUMBER: Final = 1_000_000_000
"""Whole numbers of a file can be larger than any of ours; such a time is refused as too long."""
_TEXT: Final = r'("(?:\\.|[^"\\\n])*"?)'
_COMMENT: Final = re.compile(_TEXT + r"|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_TRAILING_COMMA: Final = re.compile(_TEXT + r"|,(?=\s*[}\]])", re.DOTALL)
"""What is not closed reaches to its line's or the text's end, so that nothing is looked at twice."""


def parse_foreign(text: str, filename: str = "") -> Any:
    """A foreign file as plain values: JSON (with comments), TOML or YAML, by name and looks.

    Raises ConfigurationError with the place where it cannot be read.
    """
    suffix = filename.rpartition(".")[2].lower()
    if suffix == "toml":
        return _toml(text, filename)
    if suffix in ("yaml", "yml"):
        return _yaml(text, filename)
    if suffix in ("json", "jsonc") or text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _json(text, filename or "the file")
    if re.search(r"(?m)^[ \t]*\[mcp_servers\b", text):
        return _toml(text, filename or "the file")
    return _yaml(text, filename or "the file")


def servers_in(document: Any) -> bool:
    """Whether a client's list of servers is in the document."""
    return _found(document) is not None


def read_client_file(document: Any, around: Surroundings) -> Imported:
    """The upstreams in a client's file, each with a name of its own.

    Raises ConfigurationError when no list of servers is in it.
    """
    found = _found(document)
    if found is None:
        keys = ", ".join("'" + ".".join(dialect.keys) + "'" for dialect in _DIALECTS)
        raise ConfigurationError(f"No servers are in this file; looked for {keys}.")
    dialect, servers = found
    specs: dict[str, UpstreamSpec] = {}
    notes: list[Note] = []
    for key, written in servers.items():
        # Goose once kept everything but ``enabled`` one level deeper.
        entry = {**written, **_dict(written.get("config"))}
        name = upstream_name(str(key), specs)
        try:
            section = checked(_section(entry, dialect, around))
        except NotImportableError as error:
            notes.append(Note(str(key), f"left out: {error}"))
            continue
        specs[name] = upstream_spec(name, section, "api")
        notes += (Note(name, message) for message in _remarks(str(key), name, entry, specs[name]))
    return Imported(tuple(specs.values()), tuple(notes))


def _found(document: Any) -> tuple[_Dialect, Mapping[str, Any]] | None:
    for dialect in _DIALECTS:
        value = document
        for key in dialect.keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, dict) and all(isinstance(entry, dict) for entry in value.values()):
            return dialect, value
    return None


def _section(entry: Mapping[str, Any], dialect: _Dialect, around: Surroundings) -> dict[str, Any]:
    kind = str(entry.get("type") or entry.get("transport") or "").lower()
    address = next(
        (entry[key] for key in ("httpUrl", "url", "serverUrl", "uri") if entry.get(key)), None
    )
    command = entry.get("command") or entry.get("cmd")
    if kind and kind not in _HTTP | _STDIO | {"sse"}:
        raise NotImportableError(f"type '{kind}' cannot be an upstream")
    section: dict[str, Any]
    if address is not None and kind not in _STDIO:
        section = {"url": _text(filled, address, around), "headers": _headers(entry, around)}
        if kind == "sse" or kind in _HTTP:
            section["transport"] = "sse" if kind == "sse" else "http"
    elif command:
        section = _process(command, entry, around)
    else:
        raise NotImportableError("it has neither a command nor a URL")
    if entry.get("disabled") is True or entry.get("enabled") is False:
        section["enabled"] = False
    return {**section, **_timeout(entry, dialect)}


def _process(command: Any, entry: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    words = command if isinstance(command, list) else [command]
    words = [*words, *_list(entry.get("args"))]
    section: dict[str, Any] = {
        "command": [_text(filled, word, around) for word in words],
        "env": _environment(entry, around),
    }
    cwd = entry.get("cwd")
    if isinstance(cwd, str) and cwd:
        folder = filled(cwd, around)
        section["cwd"] = str(around.folder / folder) if around.folder is not None else folder
    elif around.folder is not None and any(word[:2] in ("./", "..") for word in section["command"]):
        section["cwd"] = str(around.folder)
    return section


def _environment(entry: Mapping[str, Any], around: Surroundings) -> dict[str, str]:
    values = {**_dict(entry.get("env")), **_dict(entry.get("envs"))}
    environment = {name: _text(reference, value, around) for name, value in values.items()}
    for name in [*_list(entry.get("env_keys")), *_list(entry.get("env_vars"))]:
        variable = name.get("name") if isinstance(name, dict) else name
        environment.setdefault(str(variable), f"env:{variable}")
    return environment


def _headers(entry: Mapping[str, Any], around: Surroundings) -> dict[str, str]:
    values = {**_dict(entry.get("headers")), **_dict(entry.get("http_headers"))}
    headers = {name: _text(reference, value, around) for name, value in values.items()}
    for name, variable in _dict(entry.get("env_http_headers")).items():
        headers[name] = f"env:{variable}"
    token = entry.get("bearer_token_env_var")
    if isinstance(token, str) and token:
        headers["Authorization"] = f"Bearer env:{token}"
    return headers


def _timeout(entry: Mapping[str, Any], dialect: _Dialect) -> dict[str, float]:
    value = entry.get(dialect.timeout)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return {}
    seconds = float(min(value, _MAX_NUMBER)) * dialect.timeout_unit_s
    return {"timeout_s": seconds, "timeout_cap_s": max(600.0, seconds)}


def _remarks(key: str, name: str, entry: Mapping[str, Any], spec: UpstreamSpec) -> Iterator[str]:
    if key != name:
        yield f"was called '{key}'"
    for filter_key in _FILTERS:
        if entry.get(filter_key):
            yield f"'{filter_key}' is not taken over; a virtual server chooses tools"
    if entry.get("envFile"):
        yield "'envFile' is not read; name its variables in 'env'"
    for field, values in (("env", spec.env), ("headers", spec.headers)):
        for variable, value in values.items():
            if looks_secret(variable, value):
                yield f"{field}.{variable} looks like a secret; 'env:NAME' would keep it out"


def _text(change: Callable[[str, Surroundings], str], value: Any, around: Surroundings) -> str:
    """A value as text; numbers and booleans are written as JSON has them."""
    if isinstance(value, str):
        return change(value, around)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise NotImportableError(f"text is expected where {type(value).__name__} stands")


def _json(text: str, filename: str) -> Any:
    text = text.removeprefix("\ufeff")
    with suppress(ValueError, RecursionError):
        return _sound(json.loads(text))
    plain = _COMMENT.sub(_without_comment, text)
    plain = _TRAILING_COMMA.sub(lambda match: match[1] or "", plain)
    try:
        return _sound(json.loads(plain))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{filename}:{error.lineno}:{error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{filename}: is not JSON that can be read") from error


def _sound(value: Any) -> Any:
    """The value itself. Raises ValueError where half a surrogate pair stands for a character."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _without_comment(match: re.Match[str]) -> str:
    """The comment's line ends, so that positions stay; a string as it is."""
    return match[1] or "\n" * match[0].count("\n") or " "


def _toml(text: str, filename: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{filename}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{filename}: is not TOML that can be read") from error


def _yaml(text: str, filename: str) -> Any:
    problems: list[str] = []

    def report(line: int, column: int, _: object, message: str) -> None:
        problems.append(f"{filename}:{line}:{column}: {message}")

    root = read(text, report)
    if root is None:
        raise ConfigurationError("\n".join(problems), problems)
    return root.plain()


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
