"""What the key of a count says: ``{tenant}/{kind}.{rule}/{per}:{subject}``."""

import re
from typing import Final

from msgspec import Struct

_KEY: Final = re.compile(r"([^/]*)/([a-z]+)\.([^/]*)/([a-z_]+):(.*)", re.DOTALL)


class CountKey(Struct, frozen=True, gc=False):
    """A key taken apart."""

    tenant: str
    kind: str
    """``quota`` or ``budget``."""
    rule: str
    per: str
    subject: str
    """Whose uses are counted; empty for those in no group."""


def read_key(key: str) -> CountKey | None:
    """The parts of a key; None when it is none."""
    match = _KEY.fullmatch(key)
    return None if match is None else CountKey(*match.groups())
