"""What to type or paste so that a client uses Portico: one function per client."""

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

KEY_VARIABLE: Final = "PORTICO_KEY"
"""Environment variable that snippets read a key from, where the client can."""


class Snippet(Struct, frozen=True):
    """How one client is connected."""

    client: str
    command: str = ""
    """A shell command that does it all; empty where the client has none."""
    file: str = ""
    """The file that ``text`` belongs into, where editing it is the way."""
    text: str = ""


def snippet(client: str, url: str, *, key: str | None = None, name: str = "portico") -> Snippet:
    """The snippet for ``client``, one of :data:`CLIENTS`. Raises KeyError for another."""
    return CLIENTS[client](name, url, key)


def _claude_code(name: str, url: str, key: str | None) -> Snippet:
    words = ["claude", "mcp", "add", "--transport", "http", name, url]
    if key is not None:
        words += ["--header", f"Authorization: Bearer {key}"]
    return Snippet("claude-code", command=shlex.join(words))


def _goose(name: str, url: str, key: str | None) -> Snippet:
    lines = [
        "extensions:",
        f"  {name}:",
        "    enabled: true",
        "    type: streamable_http",
        f"    name: {name}",
        f"    uri: {url}",
        "    timeout: 300",
    ]
    if key is not None:
        lines += ["    headers:", f"      Authorization: Bearer {key}"]
        command = ""
    else:
        command = shlex.join(["goose", "session", "--with-streamable-http-extension", url])
    return Snippet("goose", command, "~/.config/goose/config.yaml", "\n".join(lines))


def _cursor(name: str, url: str, key: str | None) -> Snippet:
    text = _json({"mcpServers": {name: {"url": url, **_headers(key)}}})
    return Snippet("cursor", file="~/.cursor/mcp.json", text=text)


def _vscode(name: str, url: str, key: str | None) -> Snippet:
    server = {"type": "http", "url": url, **_headers(key)}
    command = shlex.join(["code", "--add-mcp", json.dumps({"name": name, **server})])
    return Snippet("vscode", command, ".vscode/mcp.json", _json({"servers": {name: server}}))


def _codex(name: str, url: str, key: str | None) -> Snippet:
    words = ["codex", "mcp", "add", name, "--url", url]
    lines = [f"[mcp_servers.{name}]", f'url = "{url}"']
    if key is not None:
        words += ["--bearer-token-env-var", KEY_VARIABLE]
        lines.append(f'bearer_token_env_var = "{KEY_VARIABLE}"')
    command = shlex.join(words)
    if key is not None:
        command = f"export {KEY_VARIABLE}={shlex.quote(key)} && {command}"
    return Snippet("codex", command, "~/.codex/config.toml", "\n".join(lines))


def _gemini(name: str, url: str, key: str | None) -> Snippet:
    words = ["gemini", "mcp", "add", "--transport", "http"]
    if key is not None:
        words += ["--header", f"Authorization: Bearer {key}"]
    text = _json({"mcpServers": {name: {"httpUrl": url, **_headers(key)}}})
    return Snippet("gemini", shlex.join([*words, name, url]), "~/.gemini/settings.json", text)


def _headers(key: str | None) -> dict[str, dict[str, str]]:
    return {} if key is None else {"headers": {"Authorization": f"Bearer {key}"}}


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


CLIENTS: Final[Mapping[str, Callable[[str, str, str | None], Snippet]]] = {
    "claude-code": _claude_code,
    "goose": _goose,
    "cursor": _cursor,
    "vscode": _vscode,
    "codex": _codex,
    "gemini": _gemini,
}
"""Clients with a known way to be connected, by the name given on the command line."""
