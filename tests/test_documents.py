"""Documents tell the truth: links lead somewhere, commands exist, generated files are current."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hub.cli.main import app
from scripts.write_docs import DOCS, GENERATED
from tests.project import ROOT, project_files, relative

DOCUMENTS = [path for path in project_files() if path.suffix == ".md"]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!\w+:)([^)#\s]*)(#[^)\s]+)?\)")


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def typed_commands() -> Iterator[tuple[str, list[str]]]:
    """What the documents tell people to type, and where."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
                for command in re.split(r" [|;] | && ", line):
                    yield relative(path), shlex.split(command, comments=True)


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor[1:] in anchors(found), target + anchor


def test_every_make_target_that_is_named_exists() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert {"setup", "check", "test", "run", "fmt", "docs", "bench", "help"} <= targets
    asked = {(where, words[1]) for where, words in typed_commands() if words[0] == "make"}
    asked |= {
        (relative(path), target)
        for path in DOCUMENTS
        for target in re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8"))
    }
    assert len(asked) > 5
    assert [one for one in asked if one[1] not in targets] == []


def test_every_command_that_is_named_exists_with_its_options() -> None:
    root: Any = typer.main.get_command(app)
    seen = 0
    for where, words in typed_commands():
        if Path(words[0]).name != "portico":
            continue
        seen += 1
        command, rest = root, words[1:]
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, f"{where}: {words}"
            command, rest = command.commands[rest[0]], rest[1:]
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        if command.context_settings.get("ignore_unknown_options"):
            continue  # what follows belongs to an upstream's own command line
        for word in rest:
            assert not word.startswith("--") or word.partition("=")[0] in known, f"{where}: {word}"
    assert seen > 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_every_file_of_ours_that_is_named_exists(path: Path) -> None:
    ours = r"(?:bench|connectors|deploy|docs|examples|hub|mcp_wire|scripts|tests)/[\w./-]*"
    named = re.findall(rf"(?<![\w/.@])({ours})(?![\w*<{{…])", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name.rstrip(".")).exists()] == []


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_document_is_current(name: str) -> None:
    path = DOCS / name
    assert path.exists(), "run 'make docs'"
    assert path.read_text(encoding="utf-8") == GENERATED[name](), "run 'make docs'"


def test_decisions_are_numbered_without_gaps() -> None:
    files = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in files] == list(range(1, len(files) + 1))
    for path in files:
        assert path.read_text(encoding="utf-8").startswith(f"# {path.name[:4]} ")
