"""What each built-in guard costs on content in which it finds nothing: microseconds per kilobyte.

    .venv/bin/python bench/guards.py --publish

Beside them stands what it takes to read the same JSON once; each figure is the best of several rounds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import msgspec
from msgspec import Raw

from bench.document import PERFORMANCE, write_section
from hub.domain.guarding import Context
from hub.domain.rules import Attach, CheckName, GuardrailSpec
from hub.guard.callouts import Callouts
from hub.guard.chain import Guardrail, inspected
from hub.guard.checks import made

ROUNDS: Final = 7
CALLS: Final = 40
WORD_COUNT: Final = 5_000

_SCHEMA: Final = Raw(
    b'{"type":"object","properties":{"text":{"type":"string"},"rows":{"type":"array","items":'
    b'{"type":"object","properties":{"id":{"type":"integer"},"name":{"type":"string"}}}}}}'
)
_CONTEXT: Final = Context(
    direction="request", tenant="default", operation="tools/call", schema=_SCHEMA
)
_PROSE: Final = (
    "The ship left the harbour in the early morning, and nobody on the quay waved. " * 50
)
_GERMAN: Final = "Über den Hügeln zog später ein Gewitter auf, und die Straße wurde naß. " * 50


def guards() -> Mapping[str, tuple[Guardrail, ...]]:
    """By what the row is called."""
    words = [f"forbidden{number}" for number in range(WORD_COUNT)]
    one = {
        "secrets": made_of("secrets"),
        "personal_data": made_of("personal_data"),
        "words (20)": made_of("words", words=words[:20]),
        f"words ({WORD_COUNT:,})": made_of("words", words=words),
        "patterns (20)": made_of("words", patterns=[f"code-{n}-[a-z]{{3,8}}" for n in range(20)]),
        "injection": made_of("injection"),
        "hidden_text": made_of("hidden_text"),
        "urls": made_of("urls", allow=["example.org"]),
        "json_schema": made_of("json_schema"),
        "size": made_of("size", max_depth=20),
        "allowed_values": made_of("allowed_values", arguments={"mode": ["fast"]}),
    }
    together = ("secrets", "personal_data", "json_schema")
    return {
        **{name: (guardrail,) for name, guardrail in one.items()},
        " + ".join(together): tuple(one[name] for name in together),
    }


def made_of(check: CheckName, **options: Any) -> Guardrail:
    """A guardrail on requests."""
    spec = GuardrailSpec(
        name=check,
        check=check,
        on=("request",),
        action="block",
        attach=Attach(tenant="default"),
        options=Raw(json.dumps(options).encode()),
    )
    return made(spec, Callouts(lambda value: value))


def contents() -> Mapping[str, bytes]:
    """By what the column is called."""
    rows = [{"id": number, "name": f"row {number}", "state": "open"} for number in range(90)]
    return {
        "prose": encoded({"text": _PROSE}),
        "many short strings": encoded({"rows": rows}),
        "not ASCII": encoded({"text": _GERMAN}),
    }


def encoded(arguments: Any) -> bytes:
    """The content of a request."""
    return json.dumps({"arguments": arguments}, ensure_ascii=False).encode()


def best_us_per_kb(work: Callable[[], object], size: int) -> float:
    """Of several rounds, the one that was disturbed least."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = perf_counter_ns()
        for _ in range(CALLS):
            work()
        best = min(best, (perf_counter_ns() - began) / CALLS)
    return best / 1000 / (size / 1024)


def table() -> str:
    """A row a guard, a column a kind of content."""
    columns = contents()
    rows = [("microseconds per KB", *columns)]
    read = (
        best_us_per_kb(partial(msgspec.json.decode, body), len(body)) for body in columns.values()
    )
    rows.append(("reading it as JSON, for comparison", *(f"{one:.1f}" for one in read)))
    for name, guardrails in guards().items():
        row = [name]
        for body in columns.values():
            found = inspected(guardrails, body, _CONTEXT)
            if getattr(found, "notes", ()):
                raise RuntimeError(f"{name} finds something in clean content: {found}")
            us = best_us_per_kb(partial(inspected, guardrails, body, _CONTEXT), len(body))
            row.append(f"{us:.1f}")
        rows.append(tuple(row))
    return "\n".join(_line(row) for row in (rows[0], ("---",) * len(rows[0]), *rows[1:]))


def _line(row: tuple[str, ...]) -> str:
    return f"| {' | '.join(row)} |"


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description="What each guard costs, microseconds per KB.")
    parser.add_argument(
        "--publish", type=Path, nargs="?", const=PERFORMANCE, metavar="FILE",
        help=f"write the table to docs/{PERFORMANCE.name}, or to another file",
    )  # fmt: skip
    given = parser.parse_args()
    shown = table()
    sys.stdout.write(f"{shown}\n")
    if given.publish:
        write_section("guards", shown, given.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
