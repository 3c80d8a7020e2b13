"""Everything that can go wrong, as a document: ``docs/FAILURES.md``."""

from collections.abc import Iterator
from typing import Final

from tests.failures import FAILURES, FailureLine, Side

INTRODUCTION: Final = """# What can go wrong

Each line says what happens, what the caller sees on either wire, what is recorded, whether an
upstream may have executed anything, and which tests show it (below `tests/`).

- **Failure `KIND`**: a `tools/call` is answered with HTTP 200 and a result with `isError`, whose text
  names the upstream and says whether anything may have been executed, and whose
  `_meta["io.portico/failure"]` has `upstream`, `kind`, `status` and `retryAfterS` for programs. Any other
  method is answered with the error −32603 and the same in `data`. Both wires alike.
- **Record**: outcome and reason of the call's one entry, which leads from the call id in the answer.
  What is refused before it is known who asks is no call: it is counted, and one entry a minute for
  each source and reason says how often (**aggregate**).
- **Executed**: nothing that may have been executed is ever sent again. A request is sent a second time
  only where the upstream refused it before execution.
- An error carries the id of its request, but where nothing of the request was read (408, 413, 421, 431, and
  403 for an origin) or no id can be.
"""

TITLES: Final[dict[Side, str]] = {
    "client": "Clients",
    "upstream": "Upstreams",
    "portico": "Portico itself",
}
COLUMNS: Final = (
    "What goes wrong",
    "What happens",
    "Caller of 2026-07-28",
    "Caller of an older revision",
    "Record",
    "Executed",
    "Shown by",
)


def failures() -> str:
    """The document, without the note that it is generated."""
    return "\n".join([INTRODUCTION, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    for side, title in TITLES.items():
        yield from (f"## {title}", "", _row(COLUMNS), "|---" * len(COLUMNS) + "|")
        yield from (_line(line) for line in FAILURES if line.side == side)
        yield ""


def _line(line: FailureLine) -> str:
    tests = "<br>".join(f"`{node}`" for node in line.tests)
    return _row((*line[1:-1], tests))


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
