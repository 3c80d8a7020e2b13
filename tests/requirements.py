"""What is promised, and the tests that show it: the reading list for what Portico does.

A promise is added with the test that shows it; the id begins with the capability it belongs to.
"""

from typing import NamedTuple

CAPABILITIES = {
    "H1": "federate MCP servers of every transport and revision",
    "H2": "virtual servers",
    "H3": "one URL for any MCP client",
    "H5": "other integrations as tools",
    "H6": "catalogue and discovery",
    "H7": "the hub describes itself",
    "H8": "tool search",
    "P1": "identity",
    "P2": "grants and the one decision",
    "P6": "policy as code",
    "D1": "embedded or scaled-out stores",
    "O1": "one entry per call",
    "O2": "proof",
    "O4": "traces",
    "O5": "metrics and logs",
}


class Requirement(NamedTuple):
    """One promised behaviour."""

    id: str
    source: str
    """The product capability, section of the design, or specification it comes from."""
    sentence: str
    tests: tuple[str, ...]
    """Below ``tests/``: ``behaviour/test_x.py::test_y``."""


def _promise(id: str, source: str, sentence: str, *tests: str) -> Requirement:
    return Requirement(id, source, sentence, tests)


REQUIREMENTS = (
    _promise(
        "H3-claude-code",
        "product H3",
        "The real Claude Code connects, anonymously and with a key.",
        "clients/test_claude_code.py::test_claude_code_connects_without_a_key_before_the_first_one_exists",
        "clients/test_claude_code.py::test_claude_code_connects_anonymously_where_that_is_allowed",
        "clients/test_claude_code.py::test_claude_code_connects_with_a_key_and_not_without",
    ),
    _promise(
        "H3-inspector",
        "product H3",
        "The MCP Inspector lists and calls in both eras.",
        "clients/test_inspector.py::test_the_inspector_lists_the_tools_of_upstreams_of_both_eras",
        "clients/test_inspector.py::test_the_inspector_calls_a_tool_of_an_upstream_of_either_era",
        "clients/test_inspector.py::test_the_inspector_calls_with_a_key",
    ),
    _promise(
        "O4-spans",
        "product O4",
        "A call is one span with its upstream request below it, named by the conventions, the caller's trace continued.",
        "behaviour/test_telemetry.py::test_a_call_is_one_span_below_its_callers_with_its_upstream_request_below_it",
        "behaviour/test_telemetry.py::test_spans_carry_the_conventional_names",
        "behaviour/test_telemetry.py::test_a_failure_marks_both_spans_and_says_its_kind",
        "behaviour/test_telemetry.py::test_a_running_portico_traces_a_call_to_its_upstream_and_counts_it",
    ),
    _promise(
        "O4-sampling",
        "product O4",
        "Sampling follows the caller and otherwise the ratio; off, nothing is loaded.",
        "behaviour/test_telemetry.py::test_sampling_follows_the_caller_and_otherwise_the_ratio",
        "behaviour/test_telemetry.py::test_without_traces_the_callers_traceparent_goes_on_and_no_sdk_is_loaded",
    ),
    _promise(
        "O5-metrics",
        "product O5",
        "Calls, durations, upstream states and record lag are metrics.",
        "behaviour/test_telemetry.py::test_metrics_count_calls_by_surface_operation_and_outcome",
        "behaviour/test_telemetry.py::test_values_that_others_know_are_read_when_asked",
        "behaviour/test_telemetry.py::test_a_running_portico_traces_a_call_to_its_upstream_and_counts_it",
    ),
    _promise(
        "O5-labels",
        "product O5",
        "Callers cannot make series, and counting costs microseconds.",
        "behaviour/test_telemetry.py::test_a_callers_words_make_no_series",
        "behaviour/test_telemetry.py::test_counting_a_call_takes_microseconds",
        "behaviour/test_telemetry.py::test_a_name_that_reached_nothing_names_no_span",
    ),
    _promise(
        "O5-logs",
        "product O5",
        "Log lines are plain or JSON and hold no secret.",
        "behaviour/test_telemetry.py::test_no_secret_reaches_a_log_line",
        "behaviour/test_telemetry.py::test_json_lines_hold_fields_with_their_types",
        "behaviour/test_telemetry.py::test_a_plain_line_is_one_line",
    ),
)
