"""The conformance kit against Portico, and that ``make conformance`` says what is wrong.

The command runs more: every client scenario, both eras crossed, names with prefixes, and the
upstream by itself.
"""

from pathlib import Path

import pytest

from tests.conformance import kit
from tests.conformance.expected import CLIENT, REVISIONS, at
from tests.conformance.kit import Check, Found
from tests.conformance.report import Row, judged
from tests.conformance.run import server
from tests.peers.running import dual_server

MODERN = "2026-07-28"


async def test_every_check_of_every_revision_is_passed_through_portico() -> None:
    rows: list[Row] = []
    await server(rows.append)
    assert [row.wrong for row in rows] == [() for _ in REVISIONS]


@pytest.mark.parametrize("scenario", ["request-metadata", "http-custom-headers"])
async def test_what_reaches_an_upstream_is_what_a_client_may_send(
    scenario: str, tmp_path: Path
) -> None:
    found = await kit.client_scenario(scenario, MODERN, "modern", tmp_path)
    expected = {scenario: at(CLIENT, MODERN)[scenario]}
    assert judged("client", MODERN, scenario, found, expected).wrong == ()


async def test_a_failed_check_is_named(tmp_path: Path) -> None:
    scenario = "prompts-get-simple"
    with dual_server() as peer:
        found = await kit.server_scenario(peer.url, MODERN, tmp_path, scenario)
    assert found.exit_status == 1
    wrong = judged("server", MODERN, scenario, found, {scenario: 2}).wrong
    assert any("PromptsGetSimple" in line and "failure" in line for line in wrong)


@pytest.mark.parametrize("statuses", [("SUCCESS",), ("SUCCESS",) * 3, ("SUCCESS", "INFO")])
def test_a_count_that_is_off_is_wrong(statuses: tuple[str, ...]) -> None:
    checks = tuple(Check("id", "Name", status, None, "ping") for status in statuses)
    found = Found(checks, 0, "")
    passed = statuses.count("SUCCESS")
    row = judged("server", MODERN, "all", found, {"ping": 2})
    assert row.wrong == (f"ping: {passed} of 2 checks passed",)


@pytest.mark.parametrize("status", ["FAILURE", "WARNING"])
def test_a_warning_is_as_wrong_as_a_failure(status: str) -> None:
    found = Found((Check("an-id", "Name", status, "Why.\nMore.", "ping"),), 0, "")
    row = judged("server", MODERN, "all", found, {})
    assert row.wrong == (f"ping: Name (an-id) {status.lower()} Why.",)


def test_a_run_that_ends_badly_is_wrong() -> None:
    row = judged("server", MODERN, "all", Found((), 1, "It broke."), {})
    assert row.wrong == ("the kit ended with status 1: It broke.",)
