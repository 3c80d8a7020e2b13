"""How many checks of the conformance kit there are to pass, scenario by scenario.

Taken from the kit's release in scripts/node-tools.txt, against an upstream that passes everything.
"""

from collections.abc import Mapping
from typing import Final

Counts = Mapping[str, tuple[int, int, int]]
"""Scenario -> checks at each of the revisions; 0 where it does not run."""

REVISIONS: Final = ("2025-06-18", "2025-11-25", "2026-07-28")

SERVER: Final[Counts] = {
    "caching": (0, 0, 8),
    "completion-complete": (2, 2, 2),
    "dns-rebinding-protection": (0, 2, 2),
    "elicitation-sep1034-defaults": (0, 6, 0),
    "elicitation-sep1330-enums": (0, 6, 0),
    "http-custom-header-server-validation": (0, 0, 10),
    "http-header-validation": (0, 0, 14),
    "input-required-result-basic-elicitation": (0, 0, 3),
    "input-required-result-basic-list-roots": (0, 0, 3),
    "input-required-result-basic-sampling": (0, 0, 3),
    "input-required-result-capability-check": (0, 0, 2),
    "input-required-result-ignore-extra-params": (0, 0, 2),
    "input-required-result-missing-input-response": (0, 0, 2),
    "input-required-result-multi-round": (0, 0, 4),
    "input-required-result-multiple-input-requests": (0, 0, 3),
    "input-required-result-non-tool-request": (0, 0, 3),
    "input-required-result-request-state": (0, 0, 3),
    "input-required-result-result-type": (0, 0, 2),
    "input-required-result-tampered-state": (0, 0, 2),
    "input-required-result-unsupported-methods": (0, 0, 2),
    "input-required-result-validate-input": (0, 0, 3),
    "json-schema-2020-12": (0, 8, 8),
    "logging-set-level": (2, 2, 0),
    "ping": (2, 2, 0),
    "prompts-get-embedded-resource": (2, 2, 2),
    "prompts-get-simple": (2, 2, 2),
    "prompts-get-with-args": (2, 2, 2),
    "prompts-get-with-image": (2, 2, 2),
    "prompts-list": (2, 2, 2),
    "resources-list": (2, 2, 2),
    "resources-read-binary": (2, 2, 2),
    "resources-read-text": (2, 2, 2),
    "resources-subscribe": (2, 2, 0),
    "resources-templates-read": (2, 2, 2),
    "resources-unsubscribe": (2, 2, 0),
    "sep-2164-resource-not-found": (0, 0, 4),
    "server-initialize": (3, 3, 0),
    "server-session-lifecycle": (3, 3, 0),
    "server-sse-multiple-streams": (0, 2, 1),
    "server-sse-polling": (0, 3, 0),
    "server-stateless": (0, 0, 30),
    "tools-call-audio": (2, 2, 2),
    "tools-call-elicitation": (2, 2, 0),
    "tools-call-embedded-resource": (2, 2, 2),
    "tools-call-error": (2, 2, 2),
    "tools-call-image": (2, 2, 2),
    "tools-call-mixed-content": (2, 2, 2),
    "tools-call-sampling": (2, 2, 0),
    "tools-call-simple-text": (2, 2, 2),
    "tools-call-with-logging": (2, 2, 0),
    "tools-call-with-progress": (2, 2, 2),
    "tools-list": (2, 3, 4),
}
"""Server scenarios."""

CLIENT: Final[Counts] = {
    "elicitation-sep1034-client-defaults": (0, 5, 0),
    "http-custom-headers": (0, 0, 18),
    "http-invalid-tool-headers": (0, 0, 12),
    "http-standard-headers": (0, 0, 10),
    "initialize": (1, 1, 0),
    "json-schema-2020-12-preservation": (0, 9, 9),
    "json-schema-ref-no-deref": (0, 0, 1),
    "request-metadata": (0, 0, 8),
    "sep-2322-client-request-state": (0, 0, 5),
    "sse-retry": (0, 3, 0),
    "tools_call": (2, 2, 2),
}
"""Client scenarios; those of authorization come with authorization."""

NAMED_CHECKS: Final = frozenset({
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-http-server-no-independent-requests-on-stream",
    "sep-2575-server-no-log-without-loglevel",
    "sep-2575-server-sends-prompts-list-changed-on-subscription",
    "sep-2575-server-sends-tools-list-changed-on-subscription",
})
"""Checks of ``server-stateless`` that call a tool by a name they know beforehand."""

_STATELESS: Final = SERVER["server-stateless"][2] - len(NAMED_CHECKS)

NAMELESS: Final[Counts] = {
    "server-stateless": (0, 0, _STATELESS),
    **{
        name: SERVER[name]
        for name in (
            "server-initialize",
            "server-session-lifecycle",
            "ping",
            "logging-set-level",
            "tools-list",
            "resources-list",
            "prompts-list",
            "caching",
            "dns-rebinding-protection",
            "server-sse-multiple-streams",
            "http-header-validation",
            "http-custom-header-server-validation",
        )
    },
}
"""Server scenarios that know no name beforehand, without the checks above."""

IMPOSSIBLE: Final = frozenset({
    # A modern upstream does not send its clients away in the middle of an answer.
    "server-sse-polling",
    # A legacy upstream asks for one thing at a time, and gives what it asks for no name.
    "input-required-result-basic-elicitation",
    "input-required-result-multiple-input-requests",
    # Answers without the state of a parked call: the upstream that could take them asked nothing.
    "input-required-result-ignore-extra-params",
})
"""Server scenarios that no bridge between eras can pass."""

CROSSED_SERVER: Final[Counts] = {
    name: counts for name, counts in SERVER.items() if name not in IMPOSSIBLE
}

CROSSED_CLIENT: Final[Counts] = {
    name: CLIENT[name]
    for name in (
        "elicitation-sep1034-client-defaults",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-2020-12-preservation",
        "sep-2322-client-request-state",
        "sse-retry",
        "tools_call",
    )
}
"""Client scenarios that call something. ``http-standard-headers`` is none of them: a modern server
is asked for the legacy era when a caller of that era calls, and the kit minds ``initialize``."""


def at(counts: Counts, revision: str) -> Mapping[str, int]:
    """What runs at one revision."""
    column = REVISIONS.index(revision)
    return {name: of[column] for name, of in counts.items() if of[column]}
