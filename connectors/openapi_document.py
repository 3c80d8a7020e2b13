"""An OpenAPI document as plain values, and following its references inside it with bounds."""

import datetime
import math
from base64 import b64encode
from typing import Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from ruamel.yaml.error import YAMLError

from connectors.errors import Misconfigured
from connectors.openapi_yaml import read_yaml

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

MAX_JSON_BYTES: Final = 16 * 1024 * 1024
MAX_YAML_BYTES: Final = 4 * 1024 * 1024
"""YAML is read a hundred times slower than JSON."""
MAX_NODES: Final = 1_000_000
MAX_YAML_NODES: Final = 250_000
"""Values of a document, with its YAML aliases written out."""
MAX_DEPTH: Final = 150
MAX_REFERENCE_CHAIN: Final = 32
MAX_REFERENCE: Final = 10_000
"""Characters of a reference that is followed."""
MAX_KEY: Final = 2_000
"""Characters of a key: they are said again in every place below it."""

_HOLDING: Final = (dict, list, tuple, set, frozenset)
_VERSIONS: Final = ("3.0", "3.1", "3.2")


class UnusableError(Exception):
    """A part of a document that cannot be used; ``where`` is its path in the document."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class Node(Struct, frozen=True):
    """A value of the document, and where it is written."""

    value: Json
    step: str
    """The last part of its JSON pointer."""
    above: "Node | None" = None

    @property
    def where(self) -> str:
        """Its JSON pointer, put together when somebody asks: documents have many values."""
        steps = [self.step]
        node = self.above
        while node is not None:
            steps.append(node.step)
            node = node.above
        return "/".join(reversed(steps))

    @property
    def size(self) -> int:
        """How many members or items there are; 0 for anything else."""
        return len(self.value) if isinstance(self.value, dict | list) else 0

    def get(self, key: str) -> Json:
        """The value of a member; absent reads as null."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def child(self, key: str) -> "Node":
        """The member with this key; absent reads as null."""
        return Node(self.get(key), escaped(key), self)

    def items(self) -> "list[Node]":
        """The items of an array; anything else has none."""
        values = self.value if isinstance(self.value, list) else []
        return [Node(value, str(index), self) for index, value in enumerate(values)]

    def members(self) -> "dict[str, Node]":
        """The members of an object; anything else has none."""
        names = self.value if isinstance(self.value, dict) else {}
        return {name: self.child(name) for name in names}

    def text(self, key: str) -> str:
        """A member that is text; anything else reads as empty."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def flag(self, key: str, *, default: bool = False) -> bool:
        """A member that is true or false; anything else reads as ``default``."""
        value = self.get(key)
        return value if isinstance(value, bool) else default


class Document:
    """A whole document of a known version."""

    def __init__(self, root: dict[str, Json]) -> None:
        self.root = Node(root, "#")
        version = root.get("openapi")
        if not isinstance(version, str) or not version.startswith(_VERSIONS):
            hint = "; Swagger 2.0 has to be converted first" if "swagger" in root else ""
            raise Misconfigured(f"#/openapi: this is no OpenAPI 3.0 or 3.1 document{hint}")
        self.nullable_is_keyword = version.startswith("3.0")
        """3.0 has its own dialect of JSON Schema, later ones have the real one."""

    def at(self, pointer: str, where: str) -> Node:
        """The value a reference names. Raises UnusableError for what is not in this document."""
        if pointer == "#":
            return self.root
        if not pointer.startswith("#/") or len(pointer) > MAX_REFERENCE:
            raise UnusableError(where, f"the reference {pointer[:200]!r} is not followed")
        node = self.root
        for part in pointer[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node.value, dict) and key in node.value:
                node = node.child(key)
            elif isinstance(node.value, list) and _is_index(key, len(node.value)):
                node = Node(node.value[int(key)], key, node)
            else:
                raise UnusableError(where, f"the reference {pointer[:200]!r} leads nowhere")
        return node

    def follow(self, node: Node) -> Node:
        """The object itself, or what it is a reference to, however often that is one again.

        Raises UnusableError for references that lead nowhere, out of the document, or in a circle.
        """
        found = node
        for _ in range(MAX_REFERENCE_CHAIN):
            pointer = found.get("$ref")
            if not isinstance(pointer, str):
                return found
            found = self.at(pointer, found.where)
        raise UnusableError(node.where, "references lead in a circle")


def _is_index(key: str, length: int) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10 and int(key) < length


def escaped(key: str) -> str:
    """A key as part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def read_document(text: bytes) -> Document:
    """Read JSON or YAML. Raises Misconfigured, naming the line or the path in the document."""
    value = _from_json(text)
    limit = MAX_NODES
    if value is None:
        value, limit = _from_yaml(text), MAX_YAML_NODES
    root = _Copy(limit).of(value, _Place("#"))
    if not isinstance(root, dict):
        raise Misconfigured("#: the document is no object")
    return Document(root)


def _from_json(text: bytes) -> object:
    """What it holds; None where it is no JSON."""
    if len(text) > MAX_JSON_BYTES:
        raise Misconfigured(f"#: the document is larger than {MAX_JSON_BYTES} bytes")
    if text.lstrip()[:1] == b"{":
        try:
            return msgspec.json.decode(text)
        except RecursionError as error:
            raise Misconfigured("#: the document is nested too deeply") from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # YAML in braces looks like that as well
    return None


def _from_yaml(text: bytes) -> object:
    if len(text) > MAX_YAML_BYTES:
        raise Misconfigured(
            f"#: a YAML document may have {MAX_YAML_BYTES} bytes; larger ones are read as JSON"
        )
    try:
        return read_yaml(text.decode(), MAX_DEPTH + 1)
    except RecursionError as error:
        raise Misconfigured("#: the document is nested too deeply") from error
    except (YAMLError, ValueError) as error:
        words = str(error).encode(errors="replace").decode()
        raise Misconfigured(f"#: the document is neither JSON nor YAML: {words}") from error


class _Place(Struct, frozen=True):
    """Where a value is written, told when it is asked for."""

    step: str
    above: "_Place | None" = None
    depth: int = 0

    def below(self, step: str) -> "_Place":
        """One step further. Raises Misconfigured where that is too deep."""
        if self.depth >= MAX_DEPTH:
            raise Misconfigured(f"{self}: the document is nested too deeply")
        return _Place(step, self, self.depth + 1)

    def __str__(self) -> str:
        return self.step if self.above is None else f"{self.above}/{escaped(self.step)}"


class _Copy:
    """Makes plain JSON values of what a parser made: own copies, keys as text, dates as text."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def of(self, value: object, place: _Place) -> Json:
        if isinstance(value, dict):
            members = ((_key(key, place), item) for key, item in value.items())
            return {name: self._below(item, place, name) for name, item in members}
        if isinstance(value, set | frozenset):
            value = sorted(value, key=str)
        if isinstance(value, list | tuple):
            return [self._below(item, place, index) for index, item in enumerate(value)]
        return _scalar(value)

    def _below(self, value: object, place: _Place, step: str | int) -> Json:
        self._left -= 1
        if self._left < 0:
            raise Misconfigured(f"{place}: the document has more than {self._limit} values")
        if isinstance(value, _HOLDING):
            return self.of(value, place.below(str(step)))
        return _scalar(value)


def _key(key: object, place: _Place) -> str:
    scalar = _scalar(key)
    text = scalar if isinstance(scalar, str) else json_text(scalar)
    if len(text) > MAX_KEY:
        raise Misconfigured(f"{place}: a key has more than {MAX_KEY} characters")
    return text


def _scalar(value: object) -> Json:
    """What JSON can say, and encoders take: no lone surrogates, no numbers beyond their reach."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else None
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    text = value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
    return text.encode(errors="replace").decode()


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def json_text(value: Json) -> str:
    """JSON text of a value of the document."""
    return msgspec.json.encode(value).decode()
