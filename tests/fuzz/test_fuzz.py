"""No input from outside makes Portico fall over: kept inputs, and new ones made of them.

``make fuzz`` runs the same targets for long, guided by coverage; what it finds becomes a kept input.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import mutated
from tests.fuzz.target import CORPUS, Check, Target
from tests.fuzz.targets import WHERE, named

BOUND_S = 10.0
EXAMPLES = 25
SLOW = frozenset(("configuration", "client_file", "openapi", "mcp_request", "admin_request"))
"""Targets that take milliseconds for each input."""

KEPT = [(name, path) for name in WHERE for path in sorted((CORPUS / name).iterdir())]


class Opened:
    """Targets are opened once and shared by the tests of this module."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._checks: dict[str, Check] = {}

    def __getitem__(self, name: str) -> Check:
        if name not in self._checks:
            self._checks[name] = self._stack.enter_context(named(name).opened())
        return self._checks[name]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(stack)


@cache
def seeds_of(name: str) -> tuple[Target, tuple[bytes, ...]]:
    target = named(name)
    return target, tuple(path.read_bytes() for path in target.corpus)


@pytest.mark.parametrize(("name", "path"), KEPT, ids=lambda value: getattr(value, "name", value))
def test_a_kept_input_does_no_harm(name: str, path: Path, opened: Opened) -> None:
    began = perf_counter()
    opened[name](path.read_bytes())
    assert perf_counter() - began < BOUND_S


@pytest.mark.parametrize("name", WHERE)
def test_an_input_made_of_kept_ones_does_no_harm(name: str, opened: Opened) -> None:
    target, seeds = seeds_of(name)
    check = opened[name]
    examples = EXAMPLES if name in SLOW else EXAMPLES * 4

    @settings(max_examples=examples)
    @given(st.sampled_from(seeds), st.randoms(use_true_random=False), st.binary(max_size=40))
    def try_out(seed: bytes, draw: Random, junk: bytes) -> None:
        for data in (mutated(seed, draw, target.words, seeds), junk):
            check(data[: target.max_bytes])

    try_out()


def test_every_folder_of_kept_inputs_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(WHERE)
