"""What a run of the kit came to, beside what it should have."""

import sys
from collections.abc import Callable, Mapping

from msgspec import Struct

from tests.conformance.kit import Found


class Row(Struct, frozen=True):
    """One line of the report: a suite at a revision, or one scenario."""

    part: str
    revision: str
    what: str
    passed: int
    expected: int
    wrong: tuple[str, ...]
    """What is not as it should be."""

    def __str__(self) -> str:
        mark = "✗" if self.wrong else "✓"
        counted = f"{self.passed}/{self.expected}"
        return f"{mark} {self.part:9} {self.revision:11} {self.what:36} {counted:>8}"


Tell = Callable[[Row], None]


def judged(part: str, revision: str, what: str, found: Found, expected: Mapping[str, int]) -> Row:
    """``expected``: scenario -> how many checks are to be passed, exactly."""
    passed = found.passed
    wrong = [str(check) for check in found.failed]
    wrong += [
        f"{scenario}: {passed[scenario]} of {expected.get(scenario, 0)} checks passed"
        for scenario in sorted(passed.keys() | expected.keys())
        if passed[scenario] != expected.get(scenario, 0)
    ]
    if found.exit_status and not wrong:
        wrong.append(f"the kit ended with status {found.exit_status}: {found.output[-500:]}")
    return Row(part, revision, what, passed.total(), sum(expected.values()), tuple(wrong))


def show(row: Row) -> None:
    """Print a line, and what is wrong below it."""
    lines = [str(row), *(f"    {what}" for what in row.wrong)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
