"""Finding tools in a large virtual server: BM25 over fields, with the same decision as listing.

What the caller may not use has no part in a ranking: neither in how rare a word is, nor in how long
definitions are on average. A search therefore reads the same whether a denied tool exists or not.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from heapq import nsmallest
from typing import Any, Final, Literal

import anyio
from msgspec import Struct

from hub.catalog.steps import Steps, in_slices
from hub.domain.catalog import Exposure, VirtualServer
from hub.domain.grant import View

Detail = Literal["full", "brief"]

_SATURATION: Final = 1.2
"""BM25's k1: how soon more occurrences of a word say nothing more."""

_LENGTH_SHARE: Final = 0.6
"""BM25's b: how much a long definition has to say a word more often."""

_NAME: Final = 3.0
_TITLE: Final = 2.0
_DESCRIPTION: Final = 1.0
_ARGUMENT_NAME: Final = 0.8
_ARGUMENT_TEXT: Final = 0.4
_UPSTREAM: Final = 0.5
"""How much one occurrence of a word counts in each field."""

_WHOLE_NAME: Final = 10.0
"""What a query that is a tool's name adds to its score."""

_MAX_QUERY_WORDS: Final = 32
_MAX_TEXT: Final = 4000
"""Characters of one description, or of a query, that are looked at."""

_TOKEN: Final = re.compile(r"[^\W_]{1,64}")
_INNER: Final = re.compile(
    r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[0-9])(?=[A-Za-z])|(?<=[A-Z])(?=[0-9])"
)
_UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}")
"""Scripts that do not part words by spaces; their words are taken as pairs of characters."""

_STOP_WORDS: Final = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on",
    "or", "that", "the", "this", "to", "with", "you", "your",
))  # fmt: skip
_ENDINGS: Final = (
    ("ies", "y"),
    ("sses", "ss"),
    ("ing", ""),
    ("ed", ""),
    ("es", "e"),
    ("s", ""),
)


class Words(Struct, frozen=True, gc=False):
    """What is known of one tool for searching."""

    weights: Mapping[str, float]
    """How much each word occurs, fields weighed."""
    length: float


class ToolIndex:
    """The tools of one virtual server, ready to be searched."""

    __slots__ = ("_postings", "_server", "_sums", "_words")

    def __init__(
        self,
        server: VirtualServer,
        words: Mapping[str, Words],
        postings: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._server = server
        self._words = words
        self._postings = postings
        self._sums: dict[str, tuple[int, float]] = {}

    @property
    def server(self) -> VirtualServer:
        """What it was made from."""
        return self._server

    @property
    def words(self) -> Mapping[str, Words]:
        """By exposed name."""
        return self._words

    def search(self, query: str, view: View, limit: int) -> Steps[list[Exposure]]:
        """The best matches among what ``view`` allows, best first; equal ones by name."""
        tools = self._server.tools
        count, length = self._visible(view)
        average = length / count if count else 1.0
        scores: dict[str, float] = {}
        for word in list(dict.fromkeys(words_of(query[:_MAX_TEXT])))[:_MAX_QUERY_WORDS]:
            yield
            found = [name for name in self._postings.get(word, ()) if view.allows(tools[name].bit)]
            rarity = math.log(1 + (count - len(found) + 0.5) / (len(found) + 0.5))
            for name in found:
                words = self._words[name]
                weight = words.weights[word]
                norm = 1 - _LENGTH_SHARE + _LENGTH_SHARE * words.length / average
                gain = weight * (_SATURATION + 1) / (weight + _SATURATION * norm)
                scores[name] = scores.get(name, 0.0) + rarity * gain
        yield
        named = tools.get(query.strip())
        if named is not None and view.allows(named.bit):
            scores[named.name] = scores.get(named.name, 0.0) + _WHOLE_NAME
        best = nsmallest(limit, scores, key=lambda name: (-scores[name], name))
        return [tools[name] for name in best]

    def _visible(self, view: View) -> tuple[int, float]:
        """How many tools a view shows, and how long they are together."""
        sums = self._sums.get(view.id)
        if sums is None:
            lengths = [
                self._words[name].length
                for name, exposure in self._server.tools.items()
                if view.allows(exposure.bit)
            ]
            sums = self._sums[view.id] = (len(lengths), math.fsum(lengths))
        return sums


class ToolSearch:
    """The searchable virtual servers: each is made ready when it is first searched."""

    def __init__(self) -> None:
        self._indexes: dict[tuple[str, str], ToolIndex] = {}
        self._lock = anyio.Lock()

    async def find(
        self, server: VirtualServer, view: View, query: str, limit: int
    ) -> list[Exposure]:
        """The best matches among the tools of ``server`` that ``view`` allows, best first."""
        index = self._indexes.get((server.tenant, server.name))
        if index is None or index.server is not server:
            async with self._lock:
                index = await self._index(server)
        return await in_slices(index.search(query, view, limit))

    async def _index(self, server: VirtualServer) -> ToolIndex:
        known = self._indexes.get((server.tenant, server.name))
        if known is not None and known.server is server:
            return known
        index = await in_slices(index_of(server, known))
        if known is None or known.server.revision <= server.revision:
            self._indexes[server.tenant, server.name] = index
        return index


def index_of(server: VirtualServer, before: ToolIndex | None) -> Steps[ToolIndex]:
    """Make a virtual server searchable; tools that ``before`` knows unchanged are not read again."""
    known = before.server.tools if before is not None else {}
    words: dict[str, Words] = {}
    postings: dict[str, list[str]] = {}
    for name, exposure in server.tools.items():
        yield
        former = known.get(name)
        if before is not None and former is not None and former.fragment == exposure.fragment:
            words[name] = before.words[name]
        else:
            words[name] = read_tool(exposure)
        for word in words[name].weights:
            postings.setdefault(word, []).append(name)
    return ToolIndex(server, words, {word: tuple(names) for word, names in postings.items()})


def read_tool(exposure: Exposure) -> Words:
    """The words of a tool's exposed definition."""
    # Not msgspec: for a number like 1e400, which definitions may hold, it would refuse them all.
    definition = json.loads(exposure.fragment)
    weights: dict[str, float] = {}
    for text, weight in _fields(exposure.name, exposure.capability.upstream, definition):
        for word in words_of(text[:_MAX_TEXT]):
            weights[word] = weights.get(word, 0.0) + weight
    return Words(weights, math.fsum(weights.values()))


def words_of(text: str) -> Iterator[str]:
    """The words of a text or name, stemmed: parted at ``_``, ``-``, ``.`` and inner capitals.

    A word with inner capitals counts as a whole too: ``GitHub`` is found as ``github``.
    """
    for token in _TOKEN.findall(text):
        yield from _words_in(token)


def _fields(name: str, upstream: str, definition: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    yield name, _NAME
    yield upstream, _UPSTREAM
    annotations = definition.get("annotations")
    titles = (
        definition.get("title"),
        annotations.get("title") if isinstance(annotations, dict) else None,
    )
    for title in titles:
        if isinstance(title, str):
            yield title, _TITLE
    if isinstance(definition.get("description"), str):
        yield definition["description"], _DESCRIPTION
    for argument, schema in definition["inputSchema"].get("properties", {}).items():
        yield argument, _ARGUMENT_NAME
        text = schema.get("description") if isinstance(schema, dict) else None
        if isinstance(text, str):
            yield text, _ARGUMENT_TEXT


@lru_cache(maxsize=65536)
def _words_in(token: str) -> tuple[str, ...]:
    pieces = _INNER.split(token)
    if len(pieces) > 1:
        pieces.append(token)
    words: list[str] = []
    for piece in pieces:
        word = piece.casefold()
        if _UNSPACED.fullmatch(word):
            words += [word[start : start + 2] for start in range(len(word) - 1)]
        elif word not in _STOP_WORDS:
            words.append(_stem(word))
    return tuple(words)


def _stem(word: str) -> str:
    """A word without the endings that tell a query from a description: plural, -ing, -ed, -e."""
    for ending, kept in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + kept
            if not kept and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 3 else word
