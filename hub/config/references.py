"""Values that name a secret instead of holding it, and values that look as if they hold one."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from hub.errors import ConfigurationError

_REFERENCE: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9-]*) )?(env|file):(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_KNOWN_TOKENS: Final = re.compile(
    r"""(?x)
    \b(?: ghp_|gho_|ghu_|ghs_|ghr_|github_pat_ | glpat- | xox[abeoprs]- | sk-[A-Za-z0-9_-]{16}
    | sk_live_|rk_live_ | AKIA[0-9A-Z]{12} | AIza[0-9A-Za-z_-]{20} | ya29\. | npm_[A-Za-z0-9]{20}
    | hf_[A-Za-z0-9]{20} | dop_v1_ | lin_api_ | ntn_ | secret_[A-Za-z0-9]{20} | ptk_[0-9A-Za-z]{20}
    | eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,} )
    """
)
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:token|secret|password|passwd|credentials?|authorization|cookie"
    r"|(?:api|access|private|client|auth|secret|subscription)?[_-]?key|pat)$"
    r"|apikey|accesstoken|authtoken|clientsecret"
)
_HARMLESS: Final = re.compile(r"(?i)|true|false|none|null|[0-9]{1,6}|\W*|change-?me|<.*>|\$\{.*\}")
_DENSE: Final = re.compile(r"[A-Za-z0-9+/_=-]{32,}")


class Reference(Struct, frozen=True):
    """``env:NAME`` or ``file:PATH``, perhaps behind an authentication scheme (``Bearer env:X``)."""

    kind: Literal["env", "file"]
    target: str
    scheme: str = ""

    def __str__(self) -> str:
        prefix = f"{self.scheme} " if self.scheme else ""
        return f"{prefix}{self.kind}:{self.target}"


def parse_reference(value: str) -> Reference | None:
    """The reference in ``value``; None where it is a literal. Says nothing of its form."""
    match = _REFERENCE.fullmatch(value)
    if match is None:
        return None
    return Reference("env" if match[2] == "env" else "file", match[3], match[1] or "")


def reference_fault(value: str) -> str | None:
    """What is wrong with the form of a reference; None for sound ones and for literals."""
    reference = parse_reference(value)
    if reference is None:
        return None
    if reference.kind == "env" and not _VARIABLE.fullmatch(reference.target):
        return "'env:' needs the name of an environment variable: letters, digits and '_'"
    if reference.kind == "file" and (not reference.target.strip() or "\0" in reference.target):
        return "'file:' needs the path of a file that holds the secret"
    return None


def resolve(value: str, environ: Mapping[str, str]) -> str:
    """The value that a reference stands for; a literal stands for itself.

    Reads the file anew each time, without the line end after its last line. Raises
    ConfigurationError when the variable is not set or the file cannot be read.
    """
    reference = parse_reference(value)
    if reference is None:
        return value
    if reference.kind == "env":
        secret = environ.get(reference.target)
        if secret is None:
            raise ConfigurationError(f"The environment variable {reference.target} is not set.")
    else:
        try:
            secret = Path(reference.target).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            message = f"The secret file {reference.target} cannot be read: {_cause(error)}."
            raise ConfigurationError(message) from error
    return f"{reference.scheme} {secret}" if reference.scheme else secret


def looks_secret(name: str, value: str) -> bool:
    """Whether a literal called ``name`` is probably a secret that does not belong in a file."""
    if parse_reference(value) is not None or _HARMLESS.fullmatch(value):
        return False
    if _KNOWN_TOKENS.search(value):
        return True
    if _SECRET_NAME.search(name):
        return True
    return _is_dense(value.removeprefix("Bearer ").removeprefix("Basic "))


def holds_credentials(url: str) -> bool:
    """Whether a URL carries a user name or password in front of its host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return "@" in parts.netloc


def variable_for(*names: str) -> str:
    """A name for the environment variable that could hold a secret: ``ORDERS_X_KEY``."""
    joined = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(names)).strip("_").upper()
    return f"_{joined}" if joined[:1].isdigit() else joined or "SECRET"


def _is_dense(value: str) -> bool:
    """A long unbroken run of letters and digits of several kinds: nobody's word."""
    if value.startswith(("/", "./", "~")) or not _DENSE.fullmatch(value):
        return False
    kinds = [r"[a-z]", r"[A-Z]", r"[0-9]"]
    return sum(bool(re.search(kind, value)) for kind in kinds) >= 2 and len(set(value)) >= 12


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "unreadable") if isinstance(error, OSError) else "it is not UTF-8"


def absolute_reference(value: str, base: Path) -> str:
    """A value whose file, if it refers to one, is taken from the folder ``base``."""
    reference = parse_reference(value)
    if reference is None or reference.kind != "file":
        return value
    return str(Reference("file", absolute(reference.target, base), reference.scheme))


def absolute(path: str, base: Path) -> str:
    """A path taken from the folder ``base``; ``~`` is the home of whoever runs this."""
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:  # '~name' of nobody here; whoever opens it will say so
        expanded = Path(path)
    return os.path.normpath(base / expanded)
