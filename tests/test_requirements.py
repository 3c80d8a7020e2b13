"""Every promised behaviour has a test that exists, and every file of such tests a promise."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.requirements import CAPABILITIES, REQUIREMENTS, Requirement

TESTS = Path(__file__).parent
SHOWING = ("behaviour", "clients", "contracts", "properties")
"""Folders whose tests show promised behaviour."""


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the tests in a file, those in classes as ``Class::test``."""
    path = TESTS / file
    return (
        frozenset(_names(ast.parse(path.read_text(encoding="utf-8"))))
        if path.exists()
        else frozenset()
    )


def _names(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _names(node, f"{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            yield prefix + node.name


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda one: one.id)
def test_a_requirement_is_shown_by_tests_that_exist(requirement: Requirement) -> None:
    assert requirement.tests
    for node in requirement.tests:
        file, _, name = node.partition("::")
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
