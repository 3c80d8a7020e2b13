"""Sections of ``docs/PERFORMANCE.md`` that benchmarks write, between markers; the rest is prose."""

from pathlib import Path
from typing import Final

from bench.processes import ROOT

PERFORMANCE: Final = ROOT / "docs" / "PERFORMANCE.md"


def write_section(name: str, text: str, document: Path = PERFORMANCE) -> None:
    """Put ``text`` between the markers of the section; a section that is not there is appended."""
    begin, end = f"<!-- BEGIN generated: {name} -->", f"<!-- END generated: {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    whole = document.read_text(encoding="utf-8") if document.exists() else "# Performance\n"
    before, found, rest = whole.partition(begin)
    if not found:
        document.write_text(f"{whole.rstrip()}\n\n{section}\n", encoding="utf-8")
        return
    _, closed, after = rest.partition(end)
    if not closed:
        raise ValueError(f"{document.name}: the section '{name}' has no end")
    document.write_text(f"{before}{section}{after}", encoding="utf-8")
