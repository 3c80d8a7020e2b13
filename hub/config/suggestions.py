"""Did you mean: what a mistyped word or key was probably meant to be."""

import difflib
from collections.abc import Iterable, Iterator
from heapq import nsmallest
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_MANY: Final = 12
"""Up to so many possible words are listed when none is near."""
_MAX_COMPARED: Final = 100
_MAX_LENGTH: Final = 100
"""Comparing takes time in proportion to both words, and to how many there are."""
MAX_SUGGESTIONS: Final = 200


class Suggestions:
    """What was meant by the words of one document; after many of them nothing is suggested."""

    def __init__(self) -> None:
        self._left = MAX_SUGGESTIONS

    def of(self, word: str, known: Iterable[str]) -> str:
        """See :func:`did_you_mean`."""
        self._left -= 1
        return did_you_mean(word, known) if self._left >= 0 else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'override'?``, or what is known when little is, or nothing."""
    if len(word) > _MAX_LENGTH:
        return ""
    every = set(known)
    alike = every if len(every) <= _MAX_COMPARED else _alike(word, every)
    words = nsmallest(_MAX_COMPARED, alike)
    lowered = {other.lower(): other for other in words}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{lowered[near[0]]}'?"
    return f"; known are {', '.join(words)}" if 0 < len(every) <= _MANY else ""


def _alike(word: str, known: Iterable[str]) -> Iterator[str]:
    """Those that begin as the word does and are about as long."""
    first, least, most = word[:1].lower(), len(word) - 2, len(word) + 2
    return (other for other in known if least <= len(other) <= most and other[:1].lower() == first)


def known_keys(model: type[BaseModel], path: Iterable[str | int]) -> tuple[str, ...]:
    """The keys that may stand in the mapping at ``path`` of a model; none where any may."""
    annotation: Any = model
    for step in path:
        annotation = _inside(annotation, step)
    for part in _alternatives(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return tuple(part.model_fields)
        if get_origin(part) is dict and get_origin(get_args(part)[0]) is Literal:
            return get_args(get_args(part)[0])
    return ()


def _inside(annotation: Any, step: str | int) -> Any:
    """The type of what is at one key or index of a value of type ``annotation``."""
    for part in _alternatives(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel) and isinstance(step, str):
            field = part.model_fields.get(step)
            return None if field is None else field.annotation
        if get_origin(part) is dict and isinstance(step, str):
            return get_args(part)[1]
        if get_origin(part) is tuple and isinstance(step, int):
            return get_args(part)[0]
    return None


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, each without what annotates it."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return tuple(part for member in get_args(annotation) for part in _alternatives(member))
    if hasattr(annotation, "__metadata__"):
        return _alternatives(get_args(annotation)[0])
    return (annotation,)
