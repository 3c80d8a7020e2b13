"""The matrix as data: who is tried with whom, what crosses, and what the protocol does not let cross.

A limit with a feature replaces what the matrix expects of it in the cells of its eras: the function
of ``tests.matrix.limited`` with the limit's id is run there instead. Limits without one are shown by
the tests they name. docs/ERAS.md is made of this.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

Era = Literal["legacy", "modern"]
ClientKind = Literal[
    "python_modern", "python_legacy", "ts2_modern", "ts2_legacy", "ts1_legacy", "sse"
]
UpstreamKind = Literal[
    "stdio_legacy", "stdio_modern", "http_legacy", "http_modern", "http_dual", "sse"
]
CLIENTS: Final[Mapping[ClientKind, str]] = {
    "python_modern": "Python SDK 2, 2026-07-28",
    "python_legacy": "Python SDK 2, 2025-11-25",
    "ts2_modern": "TypeScript SDK 2, 2026-07-28",
    "ts2_legacy": "TypeScript SDK 2, 2025-11-25",
    "ts1_legacy": "TypeScript SDK 1, 2025-11-25",
    "sse": "Python SDK 2 over HTTP+SSE",
}
UPSTREAMS: Final[Mapping[UpstreamKind, str]] = {
    "stdio_legacy": "stdio, 2025-11-25",
    "stdio_modern": "stdio, 2026-07-28",
    "http_legacy": "Streamable HTTP with sessions, 2025-11-25",
    "http_modern": "Streamable HTTP, 2026-07-28",
    "http_dual": "Streamable HTTP of both: it is spoken to in the caller's era",
    "sse": "HTTP+SSE",
}
Crossing = tuple[Era, Era]
"""Era of the caller, era of the upstream."""
CROSSINGS: Final[tuple[Crossing, ...]] = (
    ("legacy", "legacy"),
    ("legacy", "modern"),
    ("modern", "legacy"),
    ("modern", "modern"),
)
_FROM_LEGACY: Final[tuple[Crossing, ...]] = CROSSINGS[:2]
_FROM_MODERN: Final[tuple[Crossing, ...]] = CROSSINGS[2:]
_TO_MODERN: Final[tuple[Crossing, ...]] = (("legacy", "modern"), ("modern", "modern"))


ROWS: Final[Mapping[str, str]] = {
    "handshake": "revision, instructions and protocol capabilities",
    "tools_listed": "`tools/list`",
    "all_pages": "lists over several pages, and cursors",
    "tool_called": "`tools/call`",
    "structured_result": "structured content",
    "array_result": "structured content that is no object",
    "error_result": "results of tools that failed",
    "protocol_error": "errors of the upstream's own",
    "unknown_tool": "a tool that does not exist",
    "mirrored_arguments": "arguments with `x-mcp-header`",
    "big_result": "a result of 800 kB",
    "timeout": "an upstream that does not answer in time",
    "progress": "progress",
    "logging": "log messages at the caller's level",
    "default_level": "log messages for a client that chose no level",
    "stray_log": "log messages outside of requests",
    "cancellation": "cancellation reaches the upstream",
    "elicitation_accepted": "elicitation by form, accepted",
    "elicitation_declined": "elicitation by form, declined",
    "url_elicitation": "elicitation by URL",
    "url_required": "a URL that must be opened first",
    "url_undeclared": "elicitation by URL is not put to a client that does not know it",
    "sampling": "sampling",
    "roots": "roots",
    "roots_changed": "changed roots are announced",
    "several_rounds": "several questions one after another",
    "several_questions": "several questions at the same time",
    "asking_prompt": "a prompt that asks",
    "unasked": "questions to a client that declares nothing are not put",
    "resources_listed": "`resources/list` and templates",
    "resource_read": "`resources/read`, text and bytes",
    "template_read": "`resources/read` through a template",
    "resource_not_found": "a resource that does not exist",
    "resource_updated": "updates of subscribed resources",
    "list_changed": "changed lists are announced",
    "prompts": "`prompts/list` and `prompts/get`",
    "completion": "completion",
    "conversation": "sessions with state of their own",
}
"""Feature -> what it is."""


class Limit(NamedTuple):
    """One line of the table."""

    id: str
    loss: Literal["impossible", "lossy"]
    crossings: tuple[Crossing, ...]
    what: str
    """What does not cross, and what is seen instead."""
    why: str
    feature: str = ""
    """The row of the matrix that it limits; empty: the tests show it on their own."""
    upstreams: tuple[UpstreamKind, ...] = get_args(UpstreamKind)
    """Where it is limited to some of those of its eras."""
    tests: tuple[str, ...] = ()
    """``FILE::NAME`` below ``tests/``; none where the cells of the matrix show it."""


_OLDER: Final = "matrix/test_older_revisions.py"

LIMITS: Final[tuple[Limit, ...]] = (
    Limit(
        "array_dropped",
        "lossy",
        (("legacy", "modern"),),
        "Structured content that is no object is left out; the content as text stays.",
        "Before 2026-07-28 structured content is an object.",
        feature="array_result",
    ),
    Limit(
        "session_shared",
        "lossy",
        (("modern", "legacy"),),
        "State that an upstream keeps in a session is shared by all modern callers of one principal.",
        "Requests of 2026-07-28 belong to no session, so that nothing says which of them belong "
        "together.",
        feature="conversation",
    ),
    Limit(
        "no_sessions",
        "impossible",
        _TO_MODERN,
        "No state is kept between two calls.",
        "2026-07-28 has no sessions; its servers hand out handles as arguments instead.",
        feature="conversation",
    ),
    Limit(
        "no_default_level",
        "lossy",
        (("legacy", "modern"),),
        "A client that never chose a level is told no log messages.",
        "Servers before 2026-07-28 choose one themselves; later ones log what a request asks for.",
        feature="default_level",
    ),
    Limit(
        "stray_log_with_a_call",
        "lossy",
        (("legacy", "legacy"), ("modern", "legacy")),
        "A log message that belongs to no request is told with the call that is under way in the "
        "session; without one, or with several, it is dropped.",
        "Nothing says whom it is meant for, and 2026-07-28 has no other place for it.",
        feature="stray_log",
    ),
    Limit(
        "roots_not_announced",
        "impossible",
        (("legacy", "modern"), ("modern", "legacy"), ("modern", "modern")),
        "Nobody is told that a client's roots changed; the next question for them gets the new ones.",
        "2026-07-28 has no `notifications/roots/list_changed`.",
        feature="roots_changed",
    ),
    Limit(
        "elicitation_id_dropped",
        "lossy",
        (("modern", "legacy"),),
        "The id of an elicitation by URL is dropped, and the notice that it was completed with it; "
        "a call that failed with -32042 asks for the URL and is made again.",
        "2026-07-28 has no such id: the retried call finds out whether it was completed.",
        feature="url_required",
    ),
    Limit(
        "elicitation_id_minted",
        "lossy",
        (("legacy", "modern"),),
        "An elicitation by URL gets an id of Portico's, and its completion is never announced.",
        "2025-11-25 wants an id, and upstreams of 2026-07-28 have none.",
        feature="url_elicitation",
    ),
    Limit(
        "url_as_error",
        "impossible",
        (("legacy", "modern"),),
        "A client that does not know elicitation by URL gets the error -32042 with the address.",
        "A question in a mode that was not declared must not be put.",
        feature="url_undeclared",
    ),
    Limit(
        "freshness_dropped",
        "lossy",
        (("legacy", "modern"),),
        "How long a list may be kept, and by whom, is left out.",
        "Before 2026-07-28 results have no `ttlMs` and no `cacheScope`.",
        tests=(f"{_OLDER}::test_lists_and_results_have_nothing_that_only_the_modern_era_knows",),
    ),
    Limit(
        "links_as_text",
        "lossy",
        _FROM_LEGACY,
        "For clients before 2025-06-18 resource links become text; structured content, output "
        "schemas and titles are left out, and nothing is elicited.",
        "These came with 2025-06-18.",
        tests=(
            f"{_OLDER}::test_content_that_is_younger_than_the_client_becomes_text",
            f"{_OLDER}::test_nothing_is_elicited_before_2025_06_18",
        ),
    ),
    Limit(
        "audio_as_text",
        "lossy",
        _FROM_LEGACY,
        "For clients of 2024-11-05 audio becomes text.",
        "Audio came with 2025-03-26.",
        tests=(f"{_OLDER}::test_content_that_is_younger_than_the_client_becomes_text",),
    ),
    Limit(
        "icons_dropped",
        "lossy",
        _FROM_LEGACY,
        "For clients before 2025-11-25 icons are left out, and no URL is elicited.",
        "These came with 2025-11-25.",
        tests=(f"{_OLDER}::test_icons_are_left_out_before_2025_11_25",),
    ),
)


def era_of_client(client: ClientKind) -> Era:
    """The era that a client speaks."""
    return "modern" if client.endswith("_modern") else "legacy"


def era_of_upstream(upstream: UpstreamKind, caller: Era) -> Era:
    """The era a caller's requests go upstream in: its own, where there is a choice."""
    if upstream == "http_dual":
        return caller
    return "modern" if upstream.endswith("_modern") else "legacy"


def limit_of(feature: str, client: ClientKind, upstream: UpstreamKind) -> Limit | None:
    """The line that holds in a cell of the matrix; None where the feature crosses whole."""
    caller = era_of_client(client)
    crossing = (caller, era_of_upstream(upstream, caller))
    for limit in LIMITS:
        if feature and limit.feature == feature and crossing in limit.crossings:
            return limit if upstream in limit.upstreams else None
    return None
