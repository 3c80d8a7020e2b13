"""How a call that waits for its caller ends when the caller does not come back, or may not."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import msgspec
import pytest

from hub.audit.recorder import Recorder, RecorderSettings
from hub.domain.catalog import CapabilityId
from hub.domain.outcome import Ask, Event, Failure, Result, Withdrawn
from hub.domain.record import ChainLine, Entry
from hub.pipeline import Admitted
from mcp_wire.jsonrpc import raw
from tests.peers.clients import ERAS, Era
from tests.peers.crossing import Raw, is_stale, retry_of, said
from tests.peers.tiny_hub import Grown, Parts, TinyHub, now, text_result, tiny_hub

pytestmark = pytest.mark.anyio

QUESTION = raw({"message": "Which colour?", "requestedSchema": {"type": "object"}})


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


class Upstream:
    """Asks, waits for the answer, and notes how it was left."""

    def __init__(self, hub: TinyHub) -> None:
        self.closed: list[str] = []
        hub.scripted.scripts["ask"] = self.ask

    async def ask(self, admitted: Admitted) -> AsyncGenerator[Event]:
        answered = anyio.Event()

        async def take(answer: Any) -> None:
            answered.set()

        ended = False
        try:
            yield Ask("elicitation/create", QUESTION, take)
            await answered.wait()
            ended = True
            yield text_result("answered")
        finally:
            if not ended:
                self.closed.append(msgspec.json.decode(admitted.params["arguments"]).get("n", ""))


async def abandoned(hub: TinyHub, count: int = 1) -> list[Entry]:
    """The entries of abandoned calls, once there are so many."""
    with anyio.fail_after(5):
        while True:
            found = [entry for entry in hub.seen.entries if entry.outcome == "abandoned"]
            if len(found) >= count:
                return found
            await anyio.lowlevel.checkpoint()


async def test_who_does_not_come_back_in_time_is_not_waited_for(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, anonymous=True, parked={"ttl_s": 0.05}) as hub:
        upstream = Upstream(hub)
        caller = Raw(http, hub.url)
        first = await caller.call("ask", {"n": "late"})
        (entry,) = await abandoned(hub)
        assert upstream.closed == ["late"]
        assert (entry.reason, entry.target) == ("expired", "ask")
        assert entry.interaction == hub.seen.entries[0].call
        assert is_stale(await caller.call("ask", {"n": "late"}, **retry_of(first)))
        assert len(hub.parts.parked) == 0


async def test_a_principal_that_parks_too_many_loses_its_oldest(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, parked={"max_per_principal": 2}) as hub:
        upstream = Upstream(hub)
        alice, bob = (Raw(http, hub.url, hub.grown.keys[name]) for name in ("alice", "bob"))
        legs = [await alice.call("ask", {"n": f"{number}"}) for number in range(3)]
        await bob.call("ask", {"n": "bob"})
        (entry,) = await abandoned(hub)
        assert (entry.reason, entry.principal) == ("displaced", "alice")
        assert upstream.closed == ["0"]
        assert is_stale(await alice.call("ask", {"n": "0"}, **retry_of(legs[0])))
        for number in (1, 2):
            answer = await alice.call("ask", {"n": f"{number}"}, **retry_of(legs[number]))
            assert said(answer) == "answered"


async def test_where_all_places_are_taken_by_others_a_call_is_refused(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, parked={"max_in_process": 1}) as hub:
        upstream = Upstream(hub)
        alice, bob = (Raw(http, hub.url, hub.grown.keys[name]) for name in ("alice", "bob"))
        first = await alice.call("ask", {"n": "alice"})
        refused = (await bob.call("ask", {"n": "bob"}))["result"]
        assert refused["isError"]
        assert refused["_meta"]["io.portico/refusal"]["reason"] == "limit"
        assert upstream.closed == ["bob"]
        last = hub.seen.entries[-1]
        assert (last.outcome, last.reason) == ("refused", "parked calls")
        assert said(await alice.call("ask", {"n": "alice"}, **retry_of(first))) == "answered"
        assert "requestState" in (await bob.call("ask", {"n": "bob"}))["result"]


async def test_rights_that_are_gone_end_what_they_allowed(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path) as hub:
        upstream = Upstream(hub)
        alice, bob = (Raw(http, hub.url, hub.grown.keys[name]) for name in ("alice", "bob"))
        await alice.call("ask", {"n": "alice"})
        first = await bob.call("ask", {"n": "bob"})
        hub.grown.bob_tools = ("echo",)
        hub.regrow()
        (entry,) = await abandoned(hub)
        assert (entry.reason, entry.principal) == ("revoked", "bob")
        assert upstream.closed == ["bob"]
        again = await bob.call("ask", {"n": "bob"}, **retry_of(first))
        assert again["error"]["message"] == "Unknown tool: ask"
        hub.revocations.revoke("key of alice")
        assert [one.principal for one in await abandoned(hub, 2)] == ["bob", "alice"]


async def test_a_name_that_leads_elsewhere_by_now_is_no_way_back(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, anonymous=True) as hub:
        upstream = Upstream(hub)
        caller = Raw(http, hub.url)
        first = await caller.call("ask", {"n": "moved"})
        snapshot = hub.grown.snapshot()
        tools: Any = snapshot.tenants["default"].virtual_servers["default"].tools
        another = CapabilityId("upstream", "tool", "another")
        tools["ask"] = msgspec.structs.replace(tools["ask"], capability=another)
        hub.parts.snapshots.swap(snapshot)
        assert is_stale(await caller.call("ask", {"n": "moved"}, **retry_of(first)))
        (entry,) = await abandoned(hub)
        assert entry.reason == "refused"
        assert upstream.closed == ["moved"]


async def test_on_the_way_out_nothing_is_parked_any_more(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, anonymous=True) as hub:
        upstream = Upstream(hub)
        caller = Raw(http, hub.url)
        await caller.call("ask", {"n": "before"})
        hub.parts.parked.close()
        (entry,) = await abandoned(hub)
        assert entry.reason == "draining"
        refused = await caller.call("ask", {"n": "after"})
        assert refused["error"]["code"] == -31503
        assert upstream.closed == ["before", "after"]


class SlowRecord(Parts):
    """A hub whose record is kept elsewhere, and only once ``kept`` is set."""

    def __init__(self, data: Path) -> None:
        super().__init__(Grown({}, anonymous=True), data)
        self.kept = anyio.Event()

    def recorder(self, data: Path) -> Recorder:
        return Recorder(
            data / "record",
            signer=self.ring.signer(),
            digest_key=self.ring.digest_key,
            now=now,
            settings=RecorderSettings(level="stored"),
            store=self._keep,
        )

    async def _keep(self, _: Sequence[ChainLine]) -> None:
        await self.kept.wait()


async def test_what_its_caller_could_not_be_told_of_is_not_parked(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    parts = SlowRecord(tmp_path)
    async with tiny_hub(tmp_path, parts=parts) as hub:
        upstream = Upstream(hub)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Raw(http, hub.url).call, "ask", {"n": "gone"})
            with anyio.fail_after(5):
                while not len(parts.parked):
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        (entry,) = await abandoned(hub)
        assert entry.reason == "undelivered"
        assert len(parts.parked) == 0
        parts.kept.set()
        with anyio.fail_after(5):
            while not upstream.closed:
                await anyio.lowlevel.checkpoint()
    assert upstream.closed == ["gone"]


class Session:
    """A legacy session written by hand."""

    def __init__(self, http: httpx2.AsyncClient, hub: TinyHub, accept: str = "*/*") -> None:
        self._http = http
        self._url = hub.url
        self._headers = {"Accept": accept}

    async def begin(self, *modes: str) -> "Session":
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {mode: {} for mode in modes or ("form",)}},
            "clientInfo": {"name": "t", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await self._http.post(self._url, json=body, headers=self._headers)
        self._headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        return self

    async def call(self, tool: str, **arguments: Any) -> list[dict[str, Any]]:
        """Every message on the call's own stream; nothing is answered."""
        body = self._request(tool, arguments)
        answer = await self._http.post(self._url, json=body, headers=self._headers)
        if answer.headers["content-type"] == "application/json":
            return [answer.json()]
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        return [msgspec.json.decode(line) for line in lines]

    async def hang_up_when_asked(self, tool: str, **arguments: Any) -> None:
        """Read the call's stream up to the first message."""
        body = self._request(tool, arguments)
        async with self._http.stream("POST", self._url, json=body, headers=self._headers) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    return

    def _request(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def test_a_legacy_caller_that_does_not_answer_ends_the_call_and_its_question(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, anonymous=True, answer_within_s=0.05) as hub:
        session = await Session(http, hub).begin()
        question, withdrawn, answer = await session.call("ask", push="input_required")
    assert question["method"] == "elicitation/create"
    assert withdrawn["method"] == "notifications/cancelled"
    assert withdrawn["params"]["requestId"] == question["id"]
    assert answer["result"]["isError"]
    assert "its question was not answered within 0.05 s" in said(answer)
    assert hub.seen.entries[-1].outcome == "failed"


@pytest.mark.parametrize("era", ERAS)
async def test_a_question_that_cannot_be_read_is_declined(
    tmp_path: Path, http: httpx2.AsyncClient, era: Era
) -> None:
    declined: list[Any] = []

    async def asks(_: Admitted) -> AsyncGenerator[Event]:
        async def take(answer: Any) -> None:
            declined.append(answer)

        yield Ask("sampling/createMessage", raw([1]), take)
        yield Ask("tasks/list", raw({}), take)
        yield text_result("without you")

    async with tiny_hub(tmp_path, anonymous=True) as hub:
        hub.scripted.scripts["ask"] = asks
        if era == "modern":
            answer = await Raw(http, hub.url).call("ask")
        else:
            (answer,) = await (await Session(http, hub).begin()).call("ask")
    assert said(answer) == "without you"
    assert [failure.kind for failure in declined] == ["unsupported"] * 2


async def test_a_question_that_the_upstream_withdraws_is_withdrawn_from_its_caller(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async def take(answer: Any) -> None:
        assert isinstance(answer, Failure)

    async def asks(_: Admitted) -> AsyncGenerator[Event]:
        ask = Ask("elicitation/create", QUESTION, take)
        yield ask
        yield Withdrawn(ask)
        yield text_result("without you")

    async with tiny_hub(tmp_path, anonymous=True) as hub:
        hub.scripted.scripts["ask"] = asks
        session = await Session(http, hub).begin()
        question, withdrawn, answer = await session.call("ask")
    assert withdrawn["params"]["requestId"] == question["id"]
    assert said(answer) == "without you"


@pytest.mark.parametrize(
    ("accept", "modes"), [("*/*", ("form",)), ("application/json", ("form", "url"))]
)
async def test_a_legacy_caller_that_cannot_be_sent_to_an_address_learns_of_it(
    tmp_path: Path, http: httpx2.AsyncClient, accept: str, modes: tuple[str, ...]
) -> None:
    there = {"mode": "url", "message": "Sign in.", "url": "https://accounts.example/sign-in"}

    async def asks(_: Admitted) -> AsyncGenerator[Event]:
        requests = {"there": {"method": "elicitation/create", "params": there}}
        body = {"resultType": "input_required", "inputRequests": requests, "requestState": "s"}
        yield Result(raw(body), input_required=True)

    async with tiny_hub(tmp_path, anonymous=True) as hub:
        hub.scripted.scripts["ask"] = asks
        session = await Session(http, hub, accept).begin(*modes)
        (answer,) = await session.call("ask")
    error = answer["error"]
    assert error["code"] == -32042
    (elicitation,) = error["data"]["elicitations"]
    assert elicitation.pop("elicitationId")
    assert elicitation == there
    assert (hub.seen.entries[-1].outcome, hub.seen.entries[-1].code) == ("failed", -32042)


async def test_a_legacy_caller_that_hangs_up_while_it_is_asked_ends_the_call(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with tiny_hub(tmp_path, anonymous=True, heartbeat_s=0.05) as hub:
        session = await Session(http, hub).begin()
        await session.hang_up_when_asked("ask", push="input_required")
        with anyio.fail_after(5):
            while len(hub.seen.entries) < 2:
                await anyio.lowlevel.checkpoint()
    assert (hub.seen.entries[-1].outcome, hub.seen.entries[-1].delivered) == ("failed", "none")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputRequests": {}},
        {"inputRequests": {"a": 7}},
        {"inputRequests": {"a": {"params": {}}}},
        {"inputRequests": {"a": {"method": "elicitation/create", "params": []}}},
        {"inputRequests": [], "requestState": "s"},
        {"requestState": 7},
        {"inputRequests": {f"{n}": {"method": "roots/list"} for n in range(101)}},
    ],
)
async def test_input_that_is_asked_for_in_an_unreadable_way_is_a_violation(
    tmp_path: Path, http: httpx2.AsyncClient, body: dict[str, Any]
) -> None:
    async def asks(_: Admitted) -> AsyncGenerator[Event]:
        yield Result(raw({"resultType": "input_required", **body}), input_required=True)

    async with tiny_hub(tmp_path, anonymous=True) as hub:
        hub.scripted.scripts["ask"] = asks
        session = await Session(http, hub).begin()
        (answer,) = await session.call("ask")
    assert "its protocol does not allow" in said(answer)
    assert hub.seen.entries[-1].reason == "violation"
