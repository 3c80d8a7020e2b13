"""Plain values -> YAML text that reads back as the same values, in YAML 1.2 and mostly in 1.1."""

import io
import re
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_NOT_PLAIN: Final = frozenset((
    "true", "false", "null", "yes", "no", "on", "off", "y", "n",
))  # fmt: skip
_BLOCK: Final = re.compile(r"(?:[\x21-\x7e\xa1-\u1fff][\x20-\x7e\xa0-\u1fff]*\n+)+", re.DOTALL)


def to_yaml(document: Any) -> str:
    """YAML text of mappings, lists and scalars; keys keep their order."""
    writer = YAML(typ="rt", pure=True)
    writer.width = 4096
    writer.allow_unicode = True
    writer.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    writer.dump(_marked(document), text)
    return text.getvalue()


def _marked(value: Any) -> Any:
    """The value with every text marked with the style that is safe for it."""
    if isinstance(value, dict):
        return {_text(key): _marked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    style: type[str] = DoubleQuotedScalarString
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN:
        style = str
    elif _BLOCK.fullmatch(value) and not value.endswith("\n\n") and " \n" not in value:
        style = LiteralScalarString
    return style(value)
