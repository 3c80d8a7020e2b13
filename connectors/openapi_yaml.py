"""YAML that others wrote, read with bounds on how deep, how large and how slow it may be."""

from time import monotonic
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError

MAX_MERGED: Final = 100_000
"""Members that merge keys may bring together; each of them may bring those of ten others."""
MAX_READ_S: Final = 120.0
"""How long reading one document may take; 4 MiB of harmless YAML take less."""


def read_yaml(text: str, max_depth: int) -> object:
    """The one document in ``text`` as Python values, dates and sets among them.

    Aliases give the same object again, which may even hold itself. Raises YAMLError, ValueError or
    RecursionError for what cannot be read.
    """
    reader = YAML(typ="safe", pure=True)
    reader.max_depth = max_depth
    reader.Composer = _TimedComposer
    reader.Constructor = _BoundedConstructor
    try:
        value: object = reader.load(text)
    except (YAMLError, RecursionError):
        raise
    except Exception as error:
        # Constructors of numbers, dates and binaries let whatever Python says of them through.
        raise ValueError(f"{type(error).__name__} in one of its values") from error
    return value


class _TimedComposer(Composer):
    """Gives up when it takes too long."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self._until = monotonic() + MAX_READ_S

    def compose_node(self, parent: Any, index: Any) -> Any:
        if monotonic() > self._until:
            raise YAMLError("reading it takes too long")
        return super().compose_node(parent, index)


class _BoundedConstructor(SafeConstructor):
    """Gives up when merge keys multiply."""

    _merged = 0

    def flatten_mapping(self, node: Any) -> Any:
        super().flatten_mapping(node)
        merged = getattr(node, "merge", None)
        self._merged += len(merged) if merged else 0
        if self._merged > MAX_MERGED:
            raise YAMLError("its merge keys bring too many members together")
