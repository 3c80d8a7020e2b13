"""Everything that can go wrong is told whole, once, and shown by tests that exist."""

import pytest

from tests.failures import FAILURES, FailureLine
from tests.test_requirements import names_in


@pytest.mark.parametrize("line", FAILURES, ids=lambda line: line.what[:40])
def test_a_failure_is_shown_by_tests_that_exist(line: FailureLine) -> None:
    assert line.tests
    for node in line.tests:
        file, _, name = node.partition("::")
        assert name in names_in(file), node


def test_a_failure_is_told_once_and_leaves_nothing_open() -> None:
    told = [line.what for line in FAILURES]
    assert len(told) == len(set(told))
    for line in FAILURES:
        for told_of in (line.happens, line.modern, line.legacy, line.recorded, line.executed):
            assert told_of, line.what
