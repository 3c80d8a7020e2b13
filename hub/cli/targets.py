"""What a person typed to name an upstream: a URL, a command, or a client's file."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from hub.cli.printing import EXIT_USAGE, fail

_FILE_SUFFIXES: Final = frozenset((".json", ".yaml", ".yml", ".toml"))
_NOISE: Final = re.compile(r"^(mcp-)?(server-)?|(-mcp)?(-server)?$")


class FileTarget(Struct, frozen=True):
    """A file that describes upstreams: ``mcpServers``, ``server.json``, an OpenAPI document."""

    path: Path


class UpstreamTarget(Struct, frozen=True):
    """One upstream and the name it gets when none was chosen."""

    name: str
    spec: dict[str, Any]
    """As in the configuration file: ``url`` or ``command``."""


def text_of(file: Path) -> str:
    """The text of a file that was named. Ends the command when it is none."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        fail(f"{file}:{line}: is not UTF-8.")


def parse_target(words: Sequence[str]) -> FileTarget | UpstreamTarget:
    """Read the words after ``add`` or ``up``; at least one is given.

    Ends the command when words follow a URL or file: what follows a command is the command's own.
    """
    first = words[0]
    is_url = re.match(r"https?://", first) is not None
    if is_url or Path(first).suffix in _FILE_SUFFIXES:
        if len(words) > 1:
            fail(f"Options go before the target: … {words[1]} … {first}", code=EXIT_USAGE)
        if is_url:
            return UpstreamTarget(_name_of_url(first), {"url": first})
        return FileTarget(Path(first))
    return UpstreamTarget(_name_of_command(words), {"command": list(words)})


def _name_of_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or "upstream"
    if host == "localhost" or host.replace(".", "").isdigit() or ":" in host:
        return _legal(f"{host}-{parts.port}" if parts.port else host)
    labels = [label for label in host.split(".") if label not in ("www", "mcp", "api")]
    return _legal(labels[0] if labels else host)


def _name_of_command(words: Sequence[str]) -> str:
    packages = [word for word in words[1:] if not word.startswith(("-", "/", "."))]
    package = Path(packages[0] if packages else words[0]).name
    package = package.rsplit("/", 1)[-1].split("@", 1)[0].split("==", 1)[0]
    return _legal(_NOISE.sub("", Path(package).stem) or package)


def _legal(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:32] or "upstream"
