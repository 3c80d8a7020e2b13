"""Every promised behaviour has a test that exists, and every file of such tests a promise."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.requirements import CAPABILITIES, REQUIREMENTS, Requirement

TESTS = Path(__file__).parent
SHOWING = ("behaviour", "clients", "conformance", "contracts", "fuzz", "matrix", "properties")
"""Folders whose tests show promised behaviour."""


@cache
def names_in(file: str) -> frozenset[str]:
    """Test functions, test classes, and ``Class::test`` of suites that a test class takes over."""
    path = TESTS / file
    if not path.exists():
        return frozenset()
    return frozenset(_names(ast.parse(path.read_text(encoding="utf-8")), path))


def _names(tree: ast.Module, path: Path) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield node.name
            yield from (f"{node.name}::{name}" for name in _methods(node))
        elif isinstance(node, ast.ClassDef) and _is_taken_over(node.name, path.parent):
            yield from (f"{node.name}::{name}" for name in _methods(node))


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name


@cache
def _is_taken_over(suite: str, folder: Path) -> bool:
    """Whether a test class beside it inherits a suite, through others of the folder as well."""
    heirs = re.compile(rf"^class (\w+)\(.*\b{suite}\b.*\):", re.MULTILINE)
    found = [
        name
        for path in folder.glob("*.py")
        for name in heirs.findall(path.read_text(encoding="utf-8"))
    ]
    return any(name.startswith("Test") or _is_taken_over(name, folder) for name in found)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda one: one.id)
def test_a_requirement_is_shown_by_tests_that_exist(requirement: Requirement) -> None:
    assert requirement.tests
    for node in requirement.tests:
        file, _, name = node.partition("::")
        assert name.rpartition("::")[2].lower().startswith("test"), node
        assert name in names_in(file), node


def test_ids_are_unique_and_name_a_capability() -> None:
    ids = [requirement.id for requirement in REQUIREMENTS]
    assert len(ids) == len(set(ids))
    assert {one.partition("-")[0] for one in ids} <= set(CAPABILITIES)


def test_every_file_of_such_tests_shows_a_requirement() -> None:
    shown = {node.partition("::")[0] for one in REQUIREMENTS for node in one.tests}
    files = {
        str(path.relative_to(TESTS))
        for folder in SHOWING
        for path in (TESTS / folder).rglob("test_*.py")
    }
    assert files - shown == set()
