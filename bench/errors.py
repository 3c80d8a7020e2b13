"""Why a measurement cannot be made or must not be believed.

BenchError            something of this package
├── NotStarted        a program did not start; the message holds the end of what it logged
├── LoadFailed        the load generator itself failed
└── Unsound           the measurement was made and proves nothing: errors, wrong answers, wrong counts
"""


class BenchError(Exception):
    """Anything this package raises."""


class NotStarted(BenchError):  # noqa: N818 -- says what happened
    """A program ended, or said nothing in time."""


class LoadFailed(BenchError):  # noqa: N818 -- says what happened
    """The load generator itself failed; the message is what it said."""


class Unsound(BenchError):  # noqa: N818 -- says what the measurement is
    """Errors, wrong answers or wrong counts."""
