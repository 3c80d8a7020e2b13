"""The pipeline takes every kind of traffic the same way, and leaves one entry of each call."""

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from msgspec import Raw
from msgspec.structs import replace

from hub.admission import Admitted
from hub.audit.reading import tail
from hub.audit.recorder import Recorder
from hub.catalog.search import ToolSearch
from hub.domain.call import Call, Target
from hub.domain.guarding import Context, Verdict
from hub.domain.outcome import Chunk, Event, Failure, Outcome, Refusal, Result
from hub.domain.principal import Evidence
from hub.domain.record import Entry
from hub.domain.rules import Attach, GuardrailSpec, LimitSpec
from hub.guard.chain import Guardrail
from hub.guard.content import Content
from hub.live.revocation import Revocations
from hub.metering.local import LocalCounting
from hub.metering.meter import Meter
from hub.pipeline import Pipeline, Stages
from hub.policy.rules import Rules, RuleSpecs
from hub.providers.self_description import SelfDescription
from hub.snapshot import Snapshot, SnapshotHolder
from hub.telemetry.metrics import Metrics
from hub.vault.key_ring import load_or_create
from tests.peers.tiny_hub import Grown, TinyCatalogue

pytestmark = pytest.mark.anyio

Script = Callable[[], AsyncGenerator[Event]]
_ids = itertools.count()


class Tokens:
    """A provider of another kind of traffic: it answers in pieces, as models do."""

    def __init__(self) -> None:
        self.closed = 0

    def invoke(self, admitted: Admitted) -> Outcome:
        return self._answer(admitted.call.target.name)

    async def _answer(self, name: str) -> AsyncGenerator[Event]:
        try:
            for piece in (b"Hel", b"lo"):
                yield Chunk(piece)
            if name == "fail":
                yield Failure("disconnected", "gone")
            elif name == "crash":
                raise RuntimeError("as asked")
            elif name == "hang":
                await anyio.sleep_forever()
            elif name == "secret":
                raise Refusal("guardrail", "Blocked.", cause="rule no-secrets")
            else:
                yield Result(Raw(b'{"tokens":2}'), input_required=name == "ask")
        finally:
            self.closed += 1


class Stack:
    """A pipeline on a real record, with what it answers in pieces."""

    def __init__(self, data: Path, recorder: Recorder, snapshot: Snapshot | None = None) -> None:
        self.record = data
        self.tokens = Tokens()
        catalogue = TinyCatalogue()
        self.pipeline = Pipeline(
            Stages(
                snapshots=SnapshotHolder(snapshot or Grown({}, anonymous=True).snapshot()),
                revoked=Revocations(),
                catalogue=catalogue,
                recorder=recorder,
                meter=Meter(LocalCounting(lambda: datetime.now(UTC)), lambda: datetime.now(UTC)),
                observer=Metrics(version="1"),
                providers={
                    "capabilities": self.tokens,
                    "catalogue": catalogue,
                    "self_description": SelfDescription(ToolSearch()),
                    "administration": catalogue,
                },
                now=lambda: datetime.now(UTC),
            )
        )

    def entry(self, call: Call) -> Entry:
        """The one entry that is not an intent."""
        found = [item.entry for item in tail(self.record, 10) if item.entry.call == call.id]
        (entry,) = [entry for entry in found if entry.outcome != "intent"]
        return entry


def recorder_in(data: Path) -> Recorder:
    ring = load_or_create(data, datetime.now(UTC))
    return Recorder(
        data / "record",
        signer=ring.signer(),
        digest_key=ring.digest_key,
        now=lambda: datetime.now(UTC),
    )


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with recorder_in(tmp_path).running() as recorder:
        yield Stack(tmp_path / "record", recorder)


def a_call(name: str, evidence: Evidence = Evidence(direct=True)) -> Call:  # noqa: B008 -- a constant
    return Call(
        id=f"call-{next(_ids)}",
        surface="llm",
        operation="chat",
        action="call",
        target=Target("tool", name),
        evidence=evidence,
    )


async def test_an_answer_in_pieces_passes_as_it_comes_and_is_recorded_once(stack: Stack) -> None:
    call = a_call("echo")
    async with stack.pipeline.run(call) as running:
        pieces = [event.data async for event in running if isinstance(event, Chunk)]
    assert pieces == [b"Hel", b"lo"]
    entry = stack.entry(call)
    assert (entry.outcome, entry.surface, entry.operation) == ("ok", "llm", "chat")
    assert entry.bytes_out == len(b'{"tokens":2}')


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [("ask", "input_required", ""), ("fail", "failed", "disconnected")],
)
async def test_the_entry_says_how_the_call_ended(
    stack: Stack, name: str, outcome: str, reason: str
) -> None:
    call = a_call(name)
    async with stack.pipeline.run(call) as running:
        await running.answer()
    entry = stack.entry(call)
    assert (entry.outcome, entry.reason) == (outcome, reason)


async def test_a_provider_that_crashes_is_recorded_as_failed(stack: Stack) -> None:
    call = a_call("crash")
    with pytest.raises(RuntimeError, match="as asked"):
        async with stack.pipeline.run(call) as running:
            await running.answer()
    assert (stack.entry(call).outcome, stack.entry(call).reason) == ("failed", "internal")


async def test_a_refusal_after_the_provider_began_is_recorded_with_its_cause(stack: Stack) -> None:
    call = a_call("secret")
    with pytest.raises(Refusal, match="Blocked"):
        async with stack.pipeline.run(call) as running:
            await running.answer()
    entry = stack.entry(call)
    assert (entry.outcome, entry.reason) == ("refused", "rule no-secrets")


async def test_a_call_that_is_given_up_tells_the_provider_and_is_recorded(stack: Stack) -> None:
    call = a_call("hang")
    async with anyio.create_task_group() as tasks, stack.pipeline.run(call) as running:
        assert isinstance(await anext(running), Chunk)
        tasks.cancel_scope.cancel()
    assert stack.tokens.closed == 1
    assert stack.entry(call).outcome == "cancelled"


class Broken:
    """A guard with a mistake in it: it fails at the first content that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def inspect(self, _content: Content, _context: Context) -> Verdict:
        self.seen += 1
        if self.seen == 1:
            raise RecursionError("as asked")
        return Verdict("allow")


def under_one_at_a_time(guard: Broken) -> Snapshot:
    """One call at a time, and each looked at by ``guard``."""
    everywhere = Attach(tenant="default")
    limit = LimitSpec(name="width", per="tenant", attach=everywhere, concurrency=1)
    spec = GuardrailSpec(
        name="broken", check="words", on=("request",), action="block", attach=everywhere
    )
    guardrail = Guardrail(
        name="broken", on=("request",), action="block", mode="enforce", order=0, guard=guard
    )
    snapshot = Grown({}, anonymous=True).snapshot()
    tenant = snapshot.tenants["default"]
    specs = RuleSpecs(guardrails=(spec,), limits=(limit,))
    rules = Rules("default", specs, {"broken": guardrail}, tenant.virtual_servers)
    return replace(snapshot, tenants={"default": replace(tenant, rules=rules)})


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
async def test_a_guard_that_fails_leaves_nothing_taken(tmp_path: Path, fast: bool) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        stack = Stack(tmp_path / "record", recorder, under_one_at_a_time(Broken()))
        if fast:
            passage = stack.pipeline.begin(a_call("echo"))
            with pytest.raises(RecursionError):
                stack.pipeline.enter(passage)
            passage.crashed = True
            await stack.pipeline.settle(passage)
        else:
            with pytest.raises(RecursionError):
                async with stack.pipeline.run(a_call("echo")):
                    pytest.fail("it was let in")
        call = a_call("echo")
        async with stack.pipeline.run(call) as running:
            assert isinstance(await running.answer(), Result)
        assert stack.entry(call).outcome == "ok"


async def test_a_flood_of_the_unidentified_is_counted_and_leaves_no_entry_each(
    tmp_path: Path,
) -> None:
    async with recorder_in(tmp_path).running() as recorder:
        stack = Stack(tmp_path / "record", recorder)
        for _ in range(50):
            call = a_call("echo", Evidence(secret="ptk_nobody", direct=True, peer="127.0.0.1"))
            with pytest.raises(Refusal):
                async with stack.pipeline.run(call):
                    pytest.fail("it was let in")
    (only,) = [item.entry for item in tail(tmp_path / "record", 10)]
    assert (only.outcome, only.reason, only.count) == ("aggregate", "unauthenticated", 50)
    assert only.peer == "127.0.0.1"


async def test_the_attempt_itself_is_recorded_before_what_destroys(stack: Stack) -> None:
    call = a_call("wipe")
    async with stack.pipeline.run(call) as running:
        before = [item.entry.outcome for item in tail(stack.record, 5)]
        await running.answer()
    assert before == ["intent"]
    assert stack.entry(call).outcome == "ok"
