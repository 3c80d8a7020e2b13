"""YAML 1.2 text -> plain values, with the line and column of every node.

Scalars follow the core schema of YAML 1.2 (section 10.3.2): ``no`` and ``on`` are text. Repeated
keys, tags, merge keys and complex keys are problems; aliases are expanded up to a bound.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

from msgspec import Struct
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

MAX_CHARACTERS: Final = 1_000_000
MAX_DEPTH: Final = 40
MAX_ALIASED_NODES: Final = 10_000

Path = tuple[str | int, ...]
"""Where a node is: keys and indexes from the top."""

Report = Callable[[int, int, Path, str], None]
"""Takes a problem: line, column (both from 1), path, message."""

_NOT_PRINTABLE: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_LINE_END: Final = re.compile(r"\r\n|[\n\r]")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Entry(NamedTuple):
    """A key of a mapping, where it stands, and what it holds."""

    line: int
    column: int
    node: "Node"


class Node(Struct, eq=False):
    """A node of the document; lines and columns count from 1."""

    line: int
    column: int
    size: int = 1
    """Nodes in it, itself included, aliases expanded."""
    height: int = 1
    """Levels of it, aliases expanded."""
    scalar: str | int | float | bool | None = None
    entries: dict[str, Entry] | None = None
    items: "list[Node] | None" = None

    def plain(self) -> Any:
        """The node as JSON-like values."""
        if self.entries is not None:
            return {key: entry.node.plain() for key, entry in self.entries.items()}
        if self.items is not None:
            return [item.plain() for item in self.items]
        return self.scalar

    def position(self, path: Path, *, of_key: bool = False) -> tuple[int, int]:
        """Line and column of what is at ``path``, or of the nearest node above it.

        With ``of_key`` the last step gives the position of the key instead of its value.
        """
        node, line, column = self, self.line, self.column
        for depth, step in enumerate(path, start=1):
            if node.entries is not None and isinstance(step, str) and step in node.entries:
                key_line, key_column, node = node.entries[step]
                if of_key and depth == len(path):
                    return key_line, key_column
            elif node.items is not None and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                break
            line, column = node.line, node.column
        return line, column


def read(text: str, report: Report) -> Node | None:
    """The document in ``text``; None when it cannot be read at all.

    Everything found wrong goes to ``report``, in the order of the text.
    """
    if len(text) > MAX_CHARACTERS:
        report(1, 1, (), f"the file is longer than {MAX_CHARACTERS:,} characters")
        return None
    odd = _NOT_PRINTABLE.search(text)
    if odd is not None:
        before = _LINE_END.split(text[: odd.start()])
        report(
            len(before),
            len(before[-1]) + 1,
            (),
            f"character U+{ord(odd.group()):04X} may not stand in YAML",
        )
        return None
    return _Composer(text, report).document()


class _UnreadableError(Exception):
    """The text breaks off here; the problem was reported."""


class _Composer:
    def __init__(self, text: str, report: Report) -> None:
        self._report = report
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        self._line = self._column = 1
        self._anchors: dict[str, Node] = {}
        self._aliased = 0

    def document(self) -> Node | None:
        try:
            event = self._next()
            while not isinstance(event, DocumentStartEvent):
                if isinstance(event, StreamEndEvent):
                    self._report(1, 1, (), "the file is empty; it begins with 'version: 1'")
                    return None
                event = self._next()
            node = self._node(self._next(), ())
            self._next()
            if not isinstance(self._next(), StreamEndEvent):
                self._report(self._line, self._column, (), "only one document may be in the file")
            return node
        except _UnreadableError:
            return None

    def _next(self) -> Event:
        try:
            event = next(self._events)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if mark is not None:
                self._line, self._column = mark.line + 1, mark.column + 1
            self._stop((), f"not YAML: {error.problem or error.context}")
        except (YAMLError, ValueError, OverflowError, IndexError) as error:
            # The scanner lets an impossible escape such as "\U00110000" end in the built-in ones.
            self._stop((), f"not YAML: {type(error).__name__} after this place")
        mark = event.start_mark
        self._line, self._column = mark.line + 1, mark.column + 1
        return event

    def _stop(self, path: Path, message: str) -> NoReturn:
        self._report(self._line, self._column, path, message)
        raise _UnreadableError

    def _node(self, event: Event, path: Path) -> Node:
        if len(path) > MAX_DEPTH:
            self._stop(path[:3], f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        node = Node(self._line, self._column)
        if isinstance(event, NodeEvent) and getattr(event, "tag", None) is not None:
            self._report(node.line, node.column, path, "tags are not used here")
        if isinstance(event, MappingStartEvent):
            self._mapping(node, path)
        elif isinstance(event, SequenceStartEvent):
            self._sequence(node, path)
        elif isinstance(event, ScalarEvent):
            node.scalar = self._scalar(event, path)
        if isinstance(event, NodeEvent) and event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, path: Path) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            self._stop(path, f"alias '*{event.anchor}' has no anchor before it")
        if len(path) + node.height > MAX_DEPTH:
            self._stop(path[:3], f"nested deeper than {MAX_DEPTH} levels")
        self._aliased += node.size
        if self._aliased > MAX_ALIASED_NODES:
            self._stop(path, f"aliases expand to more than {MAX_ALIASED_NODES:,} nodes")
        return node

    def _mapping(self, node: Node, path: Path) -> None:
        node.entries = {}
        while True:
            event = self._next()
            if not isinstance(event, NodeEvent):
                return
            line, column = self._line, self._column
            key = self._key(event, path)
            child = self._node(self._next(), (*path, key))
            node.size += child.size
            node.height = max(node.height, child.height + 1)
            earlier = node.entries.get(key)
            if earlier is not None:
                message = f"key is given twice; the first is in line {earlier.line}"
                self._report(line, column, (*path, key), message)
            else:
                node.entries[key] = Entry(line, column, child)

    def _key(self, event: NodeEvent, path: Path) -> str:
        if not isinstance(event, ScalarEvent):
            self._stop(path, "a key must be plain text")
        if event.value == "<<" and event.style is None:
            self._stop(path, "merge keys ('<<') are not part of YAML 1.2; write the keys out")
        return self._text(event, path)

    def _sequence(self, node: Node, path: Path) -> None:
        node.items = []
        while True:
            event = self._next()
            if not isinstance(event, NodeEvent):
                return
            child = self._node(event, (*path, len(node.items)))
            node.size += child.size
            node.height = max(node.height, child.height + 1)
            node.items.append(child)

    def _scalar(self, event: ScalarEvent, path: Path) -> str | int | float | bool | None:
        text = self._text(event, path)
        if event.style is not None or event.tag is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return self._float(text, path)
        return text

    def _float(self, text: str, path: Path) -> float:
        number = float(text.replace(".inf", "inf")) if _FLOAT.fullmatch(text) else float("inf")
        if number in (float("inf"), float("-inf")):
            self._report(self._line, self._column, path, "no number JSON can write; quote it")
            return 0.0
        return number

    def _text(self, event: ScalarEvent, path: Path) -> str:
        text: str = event.value
        if text.isascii():
            return text
        try:
            # JSON writes characters beyond U+FFFF as pairs of escapes; YAML keeps the halves.
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self._report(self._line, self._column, path, "half a surrogate pair is no character")
            return text.encode("utf-8", "replace").decode()
