"""Upstreams that are child processes: the contract of all connectors, and what is theirs alone."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil
import pytest
from msgspec import Raw

from connectors.child_groups import ChildGroups
from connectors.errors import Misconfigured, ProtocolViolation, Unreachable
from connectors.mcp_stdio import McpStdioConnector, StdioSettings
from connectors.outcome import Ask, Failure, Log, Result
from connectors.protocol import Change, Credential
from mcp_wire.jsonrpc import raw
from tests.contracts.connector_suite import (
    WAIT_S,
    AskingSuite,
    Changes,
    Harness,
    McpSuite,
    Verbatim,
    text_of,
)
from tests.peers import raw_stdio, stdio_server

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ASKABLE = Raw(b'{"elicitation":{"form":{}}}')


class StdioHarness(Harness):
    """A harness whose children can be counted."""

    @property
    def stdio(self) -> McpStdioConnector:
        assert isinstance(self.connector, McpStdioConnector)
        return self.connector

    async def pid(self, **options: Any) -> int:
        return int((await self.text("pid", **options)).split()[0])


@asynccontextmanager
async def connected(
    command: tuple[str, ...], revision: str = LEGACY, **settings: Any
) -> AsyncIterator[StdioHarness]:
    """Closed, and no child of it left, when the block is left."""
    changes = Changes()
    groups = ChildGroups()
    async with anyio.create_task_group() as tasks:
        connector = McpStdioConnector(
            StdioSettings(command=command, **settings),
            groups=groups,
            tasks=tasks,
            on_change=changes,
        )
        try:
            yield StdioHarness(connector, changes, revision)
        finally:
            with anyio.CancelScope(shield=True):
                await connector.close()
                await groups.close()
            assert connector.children == ()
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def scripted(
    *arguments: str, revision: str = LEGACY, **settings: Any
) -> AsyncIterator[StdioHarness]:
    async with connected(raw_stdio.command(*arguments), revision, **settings) as harness:
        yield harness


def answering(discover: str, revision: str, file: Path) -> Verbatim:
    @asynccontextmanager
    async def verbatim(result: bytes) -> AsyncIterator[Harness]:
        await anyio.Path(file).write_bytes(result)
        arguments = ("--discover", discover, "--result", str(file))
        async with scripted(*arguments, revision=revision) as harness:
            yield harness

    return verbatim


class Shared:
    """One connector for all tests of a class, as starting a server of the SDK takes a second."""

    era: stdio_server.Era
    revision: str

    @pytest.fixture(scope="class")
    async def shared(self) -> AsyncIterator[StdioHarness]:
        async with connected(stdio_server.command(self.era), self.revision) as harness:
            yield harness

    @pytest.fixture
    async def harness(self, shared: StdioHarness) -> StdioHarness:
        shared.changes.seen.clear()
        return shared

    @pytest.fixture
    def verbatim(self, tmp_path: Path) -> Verbatim:
        discover = "error" if self.era == "legacy" else "modern"
        return answering(discover, self.revision, tmp_path / "result")

    @pytest.fixture
    def closing(self) -> Callable[[], AbstractAsyncContextManager[Harness]]:
        return lambda: connected(stdio_server.command(self.era), self.revision)


class TestModern(Shared, McpSuite):
    era = "modern"
    revision = MODERN

    async def test_it_speaks_the_modern_era_only(self, harness: StdioHarness) -> None:
        assert (await harness.connector.open()).revisions == (MODERN,)

    async def test_input_is_asked_for_in_the_result(self, harness: StdioHarness) -> None:
        end = await harness.end(harness.tool("elicit", client_capabilities=ASKABLE))
        assert isinstance(end, Result)
        assert end.input_required


class TestLegacy(Shared, AskingSuite):
    era = "legacy"
    revision = LEGACY

    async def test_it_speaks_the_legacy_era_only(self, harness: StdioHarness) -> None:
        assert (await harness.connector.open()).revisions == (LEGACY,)


class TestDualForLegacyCallers(Shared, AskingSuite):
    era = "dual"
    revision = LEGACY

    async def test_it_speaks_both_eras(self, harness: StdioHarness) -> None:
        assert (await harness.connector.open()).revisions == (MODERN, LEGACY)

    async def test_a_changed_list_is_announced(self, harness: Harness) -> None:
        """By the primary child, of the modern era: what another child keeps to itself is not heard."""
        await super().test_a_changed_list_is_announced(replace(harness, revision=MODERN))

    async def test_updates_of_watched_resources_are_announced(self, harness: Harness) -> None:
        """By the primary child, as above."""
        await super().test_updates_of_watched_resources_are_announced(
            replace(harness, revision=MODERN)
        )


async def test_callers_of_a_server_of_both_eras_get_their_own() -> None:
    async with connected(stdio_server.command("dual")) as harness:
        for revision in (MODERN, LEGACY, MODERN):
            end = await harness.end(harness.tool("echo", {"text": "x"}, revision=revision))
            assert isinstance(end, Result)
            assert ("resultType" in msgspec.json.decode(end.body)) == (revision == MODERN)


@pytest.mark.parametrize(
    ("discover", "revisions"),
    [
        ("error", (LEGACY,)),
        ("silent", (LEGACY,)),
        ("die", (LEGACY,)),
        ("legacy", (LEGACY,)),
        ("modern", (MODERN,)),
    ],
)
async def test_the_era_is_found_however_the_probe_ends(
    discover: str, revisions: tuple[str, ...]
) -> None:
    async with scripted("--discover", discover, probe_timeout_s=0.5) as harness:
        assert (await harness.connector.open()).revisions == revisions
        assert await harness.pid() in harness.stdio.children


@pytest.mark.parametrize(("discover", "revision"), [("modern", MODERN), ("error", LEGACY)])
async def test_a_slow_start_is_no_verdict_on_the_era(discover: str, revision: str) -> None:
    arguments = ("--discover", discover, "--start-s", "0.6")
    async with scripted(*arguments, probe_timeout_s=0.1) as harness:
        assert (await harness.connector.open()).revisions == (revision,)


async def test_an_unknown_revision_is_refused() -> None:
    async with scripted("--revision", "1999-01-01") as harness:
        with pytest.raises(Unreachable, match="unknown revision '1999-01-01'") as raised:
            await harness.connector.open()
        assert isinstance(raised.value.__cause__, ProtocolViolation)


async def test_a_command_that_does_not_exist_is_named() -> None:
    async with connected(("no-such-command", "--stdio")) as harness:
        with pytest.raises(Misconfigured, match="command not found: no-such-command"):
            await harness.connector.open()
        end = await harness.end(harness.tool("any"))
        assert isinstance(end, Failure)
        assert end.kind == "unreachable"
        assert "no-such-command" not in end.message


async def test_a_child_that_dies_at_its_start_is_quoted_to_administrators_only() -> None:
    script = "echo 'API_KEY is not set' >&2; exit 2"
    async with connected(("sh", "-c", script)) as harness:
        with pytest.raises(Unreachable, match=r"exited with status 2.*\n?.*API_KEY is not set"):
            await harness.connector.open()
        end = await harness.end(harness.tool("any"))
        assert isinstance(end, Failure)
        assert "API_KEY" not in end.message
        assert "API_KEY is not set" in harness.stdio.logs


async def test_what_is_no_message_is_kept_as_a_log() -> None:
    async with scripted("--banner", "Welcome to the server!") as harness:
        await harness.connector.open()
        assert set(harness.stdio.logs) == {"(standard output) Welcome to the server!", "starting"}


async def test_a_child_that_dies_takes_its_calls_along_and_is_started_again() -> None:
    async with scripted() as harness:
        first = await harness.pid()
        waiting: list[Result | Failure] = []

        async def wait() -> None:
            waiting.append(await harness.end(harness.tool("wait")))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            end = await harness.end(harness.tool("die"))
        for lost in (end, *waiting):
            assert isinstance(lost, Failure)
            assert lost.kind == "disconnected"
            assert lost.message == "The child exited with status 3."
        await harness.changes.until(Change("closed"))
        assert await harness.pid() != first


async def test_a_child_that_keeps_dying_rests_longer_and_longer() -> None:
    async with scripted() as harness:
        for _ in range(2):
            end = await harness.end(harness.tool("die"))
            assert isinstance(end, Failure)
            assert end.kind == "disconnected"
        end = await harness.end(harness.tool("die"))
        assert isinstance(end, Failure)
        assert end.kind == "unreachable"
        assert end.retry_after_s is not None
        assert 0 < end.retry_after_s <= 1
        with pytest.raises(Unreachable, match="next start"):
            await harness.connector.open()


async def test_principals_share_children_unless_they_are_kept_apart() -> None:
    async with scripted() as harness:
        assert await harness.pid(affinity="ann") == await harness.pid(affinity="bob")
    async with scripted(isolation="principal") as harness:
        ann, bob = await harness.pid(affinity="ann"), await harness.pid(affinity="bob")
        assert ann != bob
        assert await harness.pid(affinity="ann") == ann


async def test_a_credential_has_children_of_its_own_with_its_environment() -> None:
    async with scripted(env={"SHARED": "1"}) as harness:
        plain = (await harness.text("pid")).split()
        harness.credential = Credential("ann", 1, environment={"TOKEN": "x"})
        hers = (await harness.text("pid")).split()
        assert set(hers[1:]) == {*plain[1:], "TOKEN"}
        assert "SHARED" in plain
        harness.credential = Credential("ann", 2, environment={"TOKEN": "y"})
        renewed = (await harness.text("pid")).split()
        assert len({plain[0], hers[0], renewed[0]}) == 3


async def test_an_asking_call_has_its_child_to_itself_and_others_queue() -> None:
    async with scripted(max_children=2) as harness:
        await harness.connector.list()
        outcome = harness.connector.invoke(
            harness.tool("ask", client_capabilities=ASKABLE), harness.credential
        )
        with anyio.fail_after(WAIT_S):
            ask = await outcome.__anext__()
        assert isinstance(ask, Ask)
        refused = await harness.end(harness.tool("ask", client_capabilities=ASKABLE, timeout_s=0.2))
        assert isinstance(refused, Failure)
        assert refused.kind == "unreachable"
        assert await harness.pid() in harness.stdio.children
        await ask.answer(raw({"action": "cancel"}))
        assert "cancel" in text_of(await outcome.__anext__())  # type: ignore[arg-type]  # its end
        await outcome.aclose()
        harness.answers = {"elicitation/create": {"action": "accept"}}
        end = await harness.end(harness.tool("ask", client_capabilities=ASKABLE))
        assert "accept" in text_of(end)


async def test_a_child_whose_asking_caller_left_is_not_used_again() -> None:
    async with scripted() as harness:
        first = await harness.pid(client_capabilities=ASKABLE)
        assert await harness.pid(client_capabilities=ASKABLE) == first
        request = harness.tool("ask", client_capabilities=ASKABLE)
        outcome = harness.connector.invoke(request, harness.credential)
        with anyio.fail_after(WAIT_S):
            assert isinstance(await outcome.__anext__(), Ask)
            await outcome.aclose()
        assert await harness.pid(client_capabilities=ASKABLE) != first


async def test_whoever_cannot_be_asked_is_answered_for() -> None:
    async with scripted() as harness:
        assert "nobody" in await harness.text("ask")


async def test_roots_are_a_callers_own_and_so_is_the_child_that_knows_them() -> None:
    roots = Raw(b'{"roots":{}}')
    async with scripted() as harness:
        ann = await harness.pid(affinity="ann", client_capabilities=roots)
        assert await harness.pid(affinity="bob", client_capabilities=roots) != ann


async def test_tools_hidden_from_plain_clients_are_listed() -> None:
    async with scripted("--hide") as harness:
        listing = await harness.connector.list()
        assert b"hidden" in b"".join(bytes(tool) for tool in listing.tools)
        assert len(harness.stdio.children) == 2


async def test_a_server_that_hides_nothing_has_one_child() -> None:
    async with scripted() as harness:
        await harness.connector.list()
        with anyio.fail_after(WAIT_S):
            while len(harness.stdio.children) > 1:  # noqa: ASYNC110 -- stopping is not announced
                await anyio.sleep(0.01)
        before = harness.stdio.children
        await harness.connector.list()
        assert harness.stdio.children == before
        assert (await harness.pid(),) == before


async def test_idle_children_are_stopped_and_started_again_when_needed() -> None:
    async with scripted("--discover", "modern", revision=MODERN, idle_stop_s=0.1) as harness:
        first = psutil.Process(await harness.pid())
        with anyio.fail_after(WAIT_S):
            while harness.stdio.children:  # noqa: ASYNC110 -- stopping is not announced
                await anyio.sleep(0.01)
        assert not first.is_running()
        assert Change("closed") not in harness.changes.seen
        assert await harness.pid() != first.pid


async def test_lists_tell_how_long_they_live() -> None:
    async with scripted("--discover", "modern", revision=MODERN) as harness:
        listing = await harness.connector.list()
        assert (listing.ttl_ms, listing.public) == (5, True)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_watching_goes_on_after_a_restart(era: stdio_server.Era) -> None:
    uri = "memo://watched"
    async with connected(stdio_server.command(era)) as harness:
        assert await harness.connector.watch(frozenset({uri})) == {uri}
        await harness.end(harness.tool("die"))
        await harness.changes.until(Change("closed"))
        await harness.connector.open()
        await harness.changes.until(Change("resource", uri))  # what may have been missed
        harness.changes.seen.clear()
        await harness.text("touch", {"uri": uri})
        await harness.changes.until(Change("resource", uri))


async def test_log_messages_do_not_reach_another_callers_request() -> None:
    async with connected(stdio_server.command("modern"), MODERN) as harness:
        await harness.connector.open()
        seen: list[Any] = []

        async def listen() -> None:
            request = harness.tool("hang", {"name": "x"}, log_level="debug", affinity="ann")
            seen.extend(await harness.events(request))

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            assert await harness.text("await_started", {"name": "x"}) == "started"
            arguments = {"message": "secret"}
            await harness.text("log", arguments, log_level="debug", affinity="bob")
            group.cancel_scope.cancel()
        assert not any(isinstance(event, Log) for event in seen)
