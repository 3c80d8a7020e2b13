"""Words of foreign configuration files in ours: names, variables, entries."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from pydantic import ValidationError

from hub.config.models import UpstreamSection
from hub.config.problems import model_problems
from hub.config.references import variable_for
from hub.domain.desired import UpstreamSpec

MAX_NAME: Final = 48

_BRACED: Final = re.compile(r"\$\{(?:(env|input):)?([A-Za-z_][A-Za-z0-9_.-]*)(?::-([^{}]*))?\}")
_WHOLE: Final = re.compile(
    rf"(?:([A-Za-z][A-Za-z0-9-]*) )?(?:{_BRACED.pattern}|\$([A-Za-z_][A-Za-z0-9_]*))"
)


class Note(Struct, frozen=True):
    """Something about an entry that whoever imports it should know."""

    name: str
    message: str


class Imported(Struct, frozen=True):
    """What a foreign file gives: upstreams, and what was left out or has to be done."""

    upstreams: tuple[UpstreamSpec, ...] = ()
    notes: tuple[Note, ...] = ()


class Surroundings(Struct, frozen=True):
    """Where a foreign file lies, for what it says relative to that."""

    path: Path | None = None
    environ: Mapping[str, str] = {}
    """Variables to fill into addresses and arguments, which hold no references."""

    @property
    def folder(self) -> Path | None:
        """The folder that relative paths are meant from: the project, not ``.vscode`` inside."""
        if self.path is None:
            return None
        parent = self.path.parent
        return parent.parent if parent.name in (".vscode", ".cursor", ".gemini") else parent


class NotImportableError(Exception):
    """An entry that cannot become an upstream; the message says why."""


def upstream_name(text: str, taken: Mapping[str, object]) -> str:
    """A name for an upstream, unlike those in ``taken``: foreign characters become ``_``."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:MAX_NAME] or "imported"
    if plain == "portico":
        plain = "portico_"
    name, number = plain, 2
    while name in taken:
        suffix = f"_{number}"
        name, number = plain[: MAX_NAME - len(suffix)] + suffix, number + 1
    return name


def reference(value: str, around: Surroundings) -> str:
    """A header or environment value with ``${TOKEN}`` in the form ``env:TOKEN``.

    ``Bearer ${TOKEN}`` becomes ``Bearer env:TOKEN``; a default is taken where the variable is not
    set here. Raises NotImportableError for a variable inside of other text, where no reference can
    stand.
    """
    match = _WHOLE.fullmatch(value)
    if match is None:
        if _BRACED.search(value):
            raise NotImportableError(
                "a variable inside of other text cannot be referred to; put the whole in one"
            )
        return value
    scheme, kind, name, default, bare = match.groups()
    variable = bare or (variable_for(name) if kind == "input" else name)
    if default is not None and variable not in around.environ:
        found = default
    else:
        found = f"env:{variable if variable.isidentifier() else variable_for(variable)}"
    return f"{scheme} {found}" if scheme else found


def filled(text: str, around: Surroundings) -> str:
    """Text of an address or argument with its variables filled in.

    Raises NotImportableError for one that has neither a value nor a default.
    """

    def value(match: re.Match[str]) -> str:
        kind, name, default = match.groups()
        if name == "workspaceFolder" and around.folder is not None:
            return str(around.folder)
        variable = "HOME" if name == "userHome" else name
        found = around.environ.get(variable, default) if kind != "input" else default
        if found is None:
            raise NotImportableError(f"'{match.group()}' has no value here; write it out")
        return found

    return _BRACED.sub(value, text)


def checked(given: Mapping[str, Any]) -> UpstreamSection:
    """The section of an upstream. Raises NotImportableError with what is wrong with it."""
    try:
        return UpstreamSection.model_validate(given)
    except ValidationError as error:
        problems = model_problems(error, UpstreamSection)
        raise NotImportableError("; ".join(str(problem) for problem in problems)) from error
