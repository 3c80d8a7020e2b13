"""Which chains stand for all others: those that no later chain has named in its opening."""

from pathlib import Path

from hub.audit.lines import Head, head_of
from hub.audit.segments import last_line, opening_of, writers


class Frontier:
    """Looks at a record directory again and again; openings never change and are read once."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._named_by: dict[str, frozenset[str]] = {}

    def writers(self) -> list[str]:
        """Chains that no opening names as ended, oldest first."""
        present = writers(self._record)
        for writer in present:
            if writer not in self._named_by:
                opening = opening_of(self._record, writer)
                if opening is not None:
                    self._named_by[writer] = frozenset(head.writer for head in opening.previous)
        named = frozenset().union(*self._named_by.values())
        return [writer for writer in present if writer not in named]

    def head(self, writer: str) -> Head | None:
        """How far a chain has come, as its file says; None where nothing whole is written yet."""
        line = last_line(self._record, writer)
        return None if line is None else head_of(writer, line)
