"""Did you mean: what a mistyped word or key was probably meant to be."""

import difflib
from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_MANY = 12
"""Up to so many possible words are listed when none is near."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'override'?``, or what is known when little is, or nothing."""
    words = sorted(set(known))
    lowered = {other.lower(): other for other in words}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{lowered[near[0]]}'?"
    return f"; known are {', '.join(words)}" if 0 < len(words) <= _MANY else ""


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
