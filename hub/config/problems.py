"""Problems of a configuration, each with its place, worded for whoever has to mend it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from hub.config.rule_sections import AMOUNT_PATTERN, QUOTA_PATTERN, RATE_PATTERN
from hub.config.section import FINDINGS, LINE_PATTERN, NAME_PATTERN, TEXT_PATTERN
from hub.config.suggestions import Suggestions, did_you_mean, known_keys
from hub.config.yaml_source import Node, Path

_SPOKEN_BOOLEANS: Final = frozenset(("yes", "no", "on", "off", "y", "n", "true", "false"))


class Problem(BaseModel):
    """One thing that is wrong, or that a warning is about."""

    model_config = ConfigDict(frozen=True)

    file: str = ""
    line: int = 0
    """From 1; 0 where there is no text to point at."""
    column: int = 0
    path: str = ""
    """``virtual_servers.dev.include[1].override``"""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.message) if part)


def path_text(path: Iterable[str | int]) -> str:
    """``virtual_servers.dev.include[1]``; keys that are no plain words stand in quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step and step.replace("_", "").replace("-", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


def model_problems(
    error: ValidationError, model: type[BaseModel], *, file: str = "", root: Node | None = None
) -> Iterator[Problem]:
    """What pydantic found, reworded, with the positions that ``root`` knows."""
    suggestions = Suggestions()
    for item in error.errors(include_url=False):
        of_key = item["loc"][-1:] == ("[key]",)
        path = _path(item["loc"])
        context: Mapping[str, Any] = item.get("ctx", {})
        if item["type"] == FINDINGS:
            for finding in context[FINDINGS]:
                yield located((*path, *finding.path), finding.message, file=file, root=root)
            continue
        if item["type"] == "extra_forbidden":
            of_key = True
            message = "unknown key" + suggestions.of(str(path[-1]), known_keys(model, path[:-1]))
        else:
            word = _WORDS.get(item["type"])
            message = word(item["input"], context) if word else _lower(item["msg"])
        yield located(path, message, file=file, root=root, of_key=of_key)


def located(
    path: Path, message: str, *, file: str = "", root: Node | None = None, of_key: bool = False
) -> Problem:
    """A problem at a path, with its position where there is a text."""
    line, column = root.position(path, of_key=of_key) if root is not None else (0, 0)
    return Problem(file=file, line=line, column=column, path=path_text(path), message=message)


def _path(loc: tuple[str | int, ...]) -> Path:
    """The location without the mark that it is about the key."""
    return loc[:-1] if loc[-1:] == ("[key]",) else loc


def _text_expected(value: Any, _: Mapping[str, Any]) -> str:
    if isinstance(value, bool | int | float):
        return "must be text; write it in quotes"
    return "must be text"


def _whole_number_expected(value: Any, _: Mapping[str, Any]) -> str:
    quoted = isinstance(value, str) and value.isdecimal()
    return "must be a whole number" + ("; take the quotes away" if quoted else "")


def _flag_expected(value: Any, _: Mapping[str, Any]) -> str:
    if isinstance(value, str) and value.lower() in _SPOKEN_BOOLEANS:
        return f"must be true or false; '{value}' is text in YAML 1.2"
    return "must be true or false"


def _one_of(value: Any, context: Mapping[str, Any]) -> str:
    expected = str(context["expected"])
    words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    suggestion = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"must be {expected}" + (suggestion if "did you mean" in suggestion else "")


def _pattern(_: Any, context: Mapping[str, Any]) -> str:
    return {
        NAME_PATTERN: "a name has letters, digits, '_' and '-', at most 48 of them",
        LINE_PATTERN: "must be one line without control characters",
        TEXT_PATTERN: "must not hold a NUL character",
        RATE_PATTERN: "must be a count and a time, such as '20/s', '100/min' or '1000/h'",
        QUOTA_PATTERN: "must be a count and a period, such as '5000/day'; hour, day, week or month",
        AMOUNT_PATTERN: "must be an amount and its currency, such as '0.002 USD'",
    }.get(str(context["pattern"]), f"must match {context['pattern']}")


def _says(text: str) -> Callable[[Any, Mapping[str, Any]], str]:
    return lambda _, context: text.format_map(context)


_WORDS: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], str]]] = {
    "missing": _says("is missing"),
    "string_type": _text_expected,
    "bool_type": _flag_expected,
    "literal_error": _one_of,
    "string_pattern_mismatch": _pattern,
    "int_type": _whole_number_expected,
    "float_type": _says("must be a number"),
    "greater_than": _says("must be more than {gt:g}"),
    "greater_than_equal": _says("must be at least {ge:g}"),
    "less_than_equal": _says("must be at most {le:g}"),
    "string_too_short": _says("must not be empty"),
    "string_too_long": _says("must have at most {max_length} characters"),
    "too_short": _says("must not be empty"),
    "tuple_type": _says("must be a list"),
    "dict_type": _says("must be a mapping"),
    "model_type": _says("must be a mapping"),
    "model_attributes_type": _says("must be a mapping"),
}


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
