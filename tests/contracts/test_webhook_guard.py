"""A guard that asks a program outside: every answer it can get, and none, over a real connection."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from msgspec import Raw

from connectors.circuit import THRESHOLD
from hub.domain.catalog import CapabilityId
from hub.domain.guarding import Context, Span, Verdict
from hub.domain.rules import Attach, Direction, GuardrailSpec
from hub.errors import ConfigurationError
from hub.guard.callouts import Callouts
from hub.guard.chain import Guardrail, Passed, inspected
from hub.guard.checks import check_options, made
from hub.guard.content import Content
from tests.peers.raw_server import RawServer, Received, Script, Wire, raw_server

WAIT_S = 5.0
NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
BODY = b'{"arguments":{"city":"Oslo","note":"call Anna"}}'
ANSWERS = ["on_error", ["block", "allow"]]


def context(direction: Direction = "request") -> Context:
    return Context(
        direction=direction,
        tenant="acme",
        principal="anna",
        groups=frozenset(("support", "all")),
        key="k1",
        virtual_server="dev",
        operation="tools/call",
        target="find_order",
        capability=CapabilityId("orders", "tool", "find"),
        call="c-1",
    )


def spec(url: str, **options: object) -> GuardrailSpec:
    guarded = options.pop("guarded", False) is True
    return GuardrailSpec(
        name="vendor",
        check="webhook",
        on=("request", "response"),
        action="redact",
        attach=Attach(tenant="acme"),
        options=Raw(json.dumps({"url": url, **options}).encode()),
        guarded=guarded,
    )


def replying(answer: object, status: int = 200) -> Script:
    async def script(received: Received, wire: Wire) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        await wire.reply(status, body)

    return script


def reading(reference: str) -> str:
    if not reference.startswith("env:"):
        return reference
    if reference != "env:GUARD":
        raise ConfigurationError("The environment variable is not set.")
    return "s3cret"


class Asked:
    """A guardrail in front of a program that answers by a script."""

    def __init__(self, guardrail: Guardrail, raw: RawServer) -> None:
        self.guardrail = guardrail
        self.raw = raw

    async def verdict(self, body: bytes = BODY, direction: Direction = "request") -> Verdict:
        with anyio.fail_after(WAIT_S):
            found = self.guardrail.guard.inspect(Content(body), context(direction))
            assert not isinstance(found, Verdict)
            return await found

    def sent(self) -> Any:
        return self.raw.requests[-1].json


@asynccontextmanager
async def asked(
    script: Script, *, clock: Callable[[], float] = time.monotonic, **options: object
) -> AsyncIterator[Asked]:
    async with (
        raw_server(script) as raw,
        Callouts(reading, now=lambda: NOW, clock=clock) as callouts,
    ):
        yield Asked(made(spec(raw.url, **options), callouts), raw)


async def test_it_is_told_who_calls_what_with_which_texts() -> None:
    async with asked(replying({"action": "allow"}), headers={"X-Team": "env:GUARD"}) as guard:
        assert (await guard.verdict()).outcome == "allow"
        first = guard.sent()
        assert (await guard.verdict(direction="response")).outcome == "allow"
    assert first == {
        "version": 1,
        "rule": "vendor",
        "tenant": "acme",
        "principal": "anna",
        "groups": ["all", "support"],
        "key": "k1",
        "virtual_server": "dev",
        "operation": "tools/call",
        "target": "find_order",
        "capability": {"upstream": "orders", "kind": "tool", "name": "find"},
        "direction": "request",
        "call": "c-1",
        "parts": [
            {"id": "p0", "kind": "name", "text": "arguments"},
            {"id": "p1", "kind": "name", "text": "city"},
            {"id": "p2", "kind": "value", "text": "Oslo"},
            {"id": "p3", "kind": "name", "text": "note"},
            {"id": "p4", "kind": "value", "text": "call Anna"},
        ],
    }
    assert guard.sent()["direction"] == "response"
    assert guard.sent()["parts"] == first["parts"]
    request = guard.raw.requests[0]
    assert request.header("x-team") == "s3cret"
    assert request.header("content-type") == "application/json"
    assert request.header("x-portico-signature") is None
    assert guard.raw.connections == 1


async def test_what_it_points_at_is_cut_out() -> None:
    spans = [{"part": "p4", "start": 5, "end": 9, "label": "person"}]
    answer = {"action": "redact", "spans": spans, "reason": "one\nname"}
    async with asked(replying(answer)) as guard:
        verdict = await guard.verdict()
        passing = inspected([guard.guardrail], BODY, context())
        assert not isinstance(passing, Passed)
        passed = await passing
    assert (verdict.outcome, verdict.reason) == ("redact", "one name")
    assert passed.body == b'{"arguments":{"city":"Oslo","note":"call [person]"}}'
    assert passed.notes == ("vendor=redact",)


async def test_offsets_count_characters_beyond_the_basic_plane_once() -> None:
    body = '{"text":"\U0001f600\u00e4 Anna \\ud800"}'.encode()
    spans = [{"part": "p1", "start": 3, "end": 7, "label": "not a label!"}]
    async with asked(replying({"action": "redact", "spans": spans})) as guard:
        verdict = await guard.verdict(body)
    assert guard.sent()["parts"][1]["text"] == "\U0001f600\u00e4 Anna \ufffd"
    cut = Content(body).without(verdict.spans).body
    assert json.loads(cut)["text"] == "\U0001f600\u00e4 [redacted] \ud800"


async def test_it_can_block() -> None:
    answer = {"action": "block", "reason": "x" * 500, "more": 1}
    async with asked(replying(answer)) as guard:
        verdict = await guard.verdict()
    assert verdict == Verdict("block", reason="x" * 200)


async def test_content_without_text_is_not_sent() -> None:
    async with asked(replying({"action": "block"})) as guard:
        assert (await guard.verdict(b'[1,true,null,{},""]')).outcome == "allow"
    assert guard.raw.requests == []


BAD_ANSWERS: Sequence[object] = (
    b"",
    b"no json",
    b"[" * 100_000,
    [],
    {"action": "maybe"},
    {"action": "redact"},
    {"action": "redact", "spans": [{"part": "p9", "start": 0, "end": 1}]},
    {"action": "redact", "spans": [{"part": "p4", "start": 5, "end": 99}]},
    {"action": "redact", "spans": [{"part": "p4", "start": -1, "end": 2}]},
    {"action": "redact", "spans": [{"part": "p4", "start": 2, "end": 2}]},
    {"action": "allow", "reason": "x" * 2_000_000},
)


@pytest.mark.parametrize(*ANSWERS)
@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=range(len(BAD_ANSWERS)))
async def test_an_answer_that_cannot_be_understood_is_none(answer: object, on_error: str) -> None:
    async with asked(replying(answer), on_error=on_error) as guard:
        assert (await guard.verdict()).outcome == on_error


@pytest.mark.parametrize(*ANSWERS)
@pytest.mark.parametrize("status", [204, 302, 401, 404, 500, 503])
async def test_any_other_status_than_200_is_no_answer(status: int, on_error: str) -> None:
    async with asked(replying({"action": "allow"}, status), on_error=on_error) as guard:
        verdict = await guard.verdict()
    assert verdict.outcome == on_error
    assert on_error == "allow" or str(status) in verdict.reason


@pytest.mark.parametrize(*ANSWERS)
async def test_an_answer_after_the_deadline_is_none(on_error: str) -> None:
    async def silent(received: Received, wire: Wire) -> None:
        await wire.client_left()

    async with asked(silent, on_error=on_error, deadline_ms=80) as guard:
        assert (await guard.verdict()).outcome == on_error
        with anyio.fail_after(WAIT_S):
            await guard.raw.until(lambda: guard.raw.open_connections == 0)


@pytest.mark.parametrize(*ANSWERS)
async def test_an_answer_that_trickles_in_is_cut_off_at_the_deadline(on_error: str) -> None:
    async def trickling(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(b'{"action":')
        await wire.client_left()

    async with asked(trickling, on_error=on_error, deadline_ms=80) as guard:
        assert (await guard.verdict()).outcome == on_error


@pytest.mark.parametrize(*ANSWERS)
async def test_a_program_that_is_not_there_gives_no_answer(on_error: str) -> None:
    async with asked(replying({"action": "allow"}), on_error=on_error) as guard:
        await guard.raw.stop()
        assert (await guard.verdict()).outcome == on_error


async def test_a_program_that_is_dead_is_left_alone_and_tried_again_later() -> None:
    now = [0.0]
    is_well = False

    async def failing(received: Received, wire: Wire) -> None:
        if is_well:
            await wire.reply(200, b'{"action":"allow"}')
        else:
            await wire.reply(500)

    async with asked(failing, clock=lambda: now[0]) as guard:
        outcomes = [(await guard.verdict()).outcome for _ in range(THRESHOLD + 5)]
        assert outcomes == ["block"] * (THRESHOLD + 5)
        assert len(guard.raw.requests) == THRESHOLD
        is_well = True
        now[0] += 2.0
        assert (await guard.verdict()).outcome == "allow"
        assert (await guard.verdict()).outcome == "allow"
        assert len(guard.raw.requests) == THRESHOLD + 2


async def test_what_is_known_of_a_program_outlives_a_change_of_the_configuration() -> None:
    async with (
        raw_server(replying(b"", 500)) as raw,
        Callouts(reading, clock=lambda: 0.0) as callouts,
    ):
        for _ in range(THRESHOLD + 5):
            guard = Asked(made(spec(raw.url), callouts), raw)
            assert (await guard.verdict()).outcome == "block"
        assert len(raw.requests) == THRESHOLD


async def test_requests_are_signed_with_their_time() -> None:
    async with asked(replying({"action": "allow"}), secret="env:GUARD") as guard:
        await guard.verdict()
        request = guard.raw.requests[0]
    signature = request.header("x-portico-signature")
    assert signature is not None
    seconds, made_of = (part.partition("=")[2] for part in signature.split(","))
    assert int(seconds) == int(NOW.timestamp())
    signed = seconds.encode() + b"." + request.body
    assert made_of == hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()


async def test_a_tenants_administrator_cannot_have_private_addresses_asked() -> None:
    async with asked(replying({"action": "allow"}), guarded=True) as guard:
        verdict = await guard.verdict()
    assert verdict.outcome == "block"
    assert "no public address" in verdict.reason
    assert guard.raw.connections == 0


async def test_a_redirect_is_not_followed() -> None:
    async with raw_server(replying({"action": "allow"})) as other:

        async def moved(received: Received, wire: Wire) -> None:
            await wire.reply(307, headers={"Location": other.url})

        async with asked(moved) as guard:
            assert (await guard.verdict()).outcome == "block"
    assert other.connections == 0


AGENTGATEWAY: Any = {"format": "agentgateway"}


async def test_agentgateways_servers_are_asked_in_their_own_words() -> None:
    async with asked(replying({"action": {"reason": "fine"}}), **AGENTGATEWAY) as guard:
        assert (await guard.verdict(b'{"a":"b"}')).outcome == "allow"
        assert (await guard.verdict(b'{"a":"b"}', "response")).outcome == "allow"
    request, response = guard.raw.requests
    assert (request.path, response.path) == ("/mcp/request", "/mcp/response")
    assert request.json == {
        "body": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    }
    assert response.json["body"]["choices"][1] == {"message": {"role": "assistant", "content": "b"}}


@pytest.mark.parametrize("direction", ["request", "response"])
async def test_what_agentgateways_servers_mask_is_cut_out(direction: Direction) -> None:
    async def masking(received: Received, wire: Wire) -> None:
        text = received.body.decode().replace("Anna", "<PERSON>").replace("Oslo", "XX")
        await wire.reply(200, json.dumps({"action": json.loads(text)}).encode())

    async with asked(masking, **AGENTGATEWAY) as guard:
        verdict = await guard.verdict(direction=direction)
    cut = Content(BODY).without(verdict.spans).body
    assert cut == b'{"arguments":{"city":"[masked]","note":"call [masked]"}}'


async def test_an_addition_of_agentgateways_servers_masks_the_whole_text() -> None:
    answer = {"action": {"body": {"messages": [{"content": "a"}, {"content": "bb"}]}}}
    async with asked(replying(answer), **AGENTGATEWAY) as guard:
        verdict = await guard.verdict(b'{"a":"b"}')
    assert verdict == Verdict("redact", (Span(2, 3, "masked"),))


@pytest.mark.parametrize(
    "action", [{"body": "no", "status_code": 403, "reason": "bad"}, {"body": "no", "reason": "bad"}]
)
async def test_agentgateways_servers_can_reject(action: object) -> None:
    async with asked(replying({"action": action}), on_error="allow", **AGENTGATEWAY) as guard:
        assert await guard.verdict() == Verdict("block", reason="bad")


@pytest.mark.parametrize(
    "action", [None, "pass", {"body": {"messages": []}}, {"body": {"choices": [{}]}}, {"body": [1]}]
)
async def test_a_mask_that_does_not_fit_is_no_answer(action: object) -> None:
    async with asked(replying({"action": action}), **AGENTGATEWAY) as guard:
        assert (await guard.verdict(b'{"a":"b"}')).outcome == "block"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://guard.example/"},
        {"url": "https://user:pw@guard.example/"},
        {"url": "https://guard.example/", "deadline_ms": 0},
        {"url": "https://guard.example/", "headers": {"Content-Type": "text/plain"}},
        {"url": "https://guard.example/", "headers": {"X-A": "a\r\nb"}},
        {"url": "https://guard.example/", "secret": ""},
        {"url": "https://guard.example/", "format": "other"},
        {},
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object]) -> None:
    wrong = GuardrailSpec(
        name="vendor",
        check="webhook",
        on=("response",),
        action="block",
        attach=Attach(tenant="acme"),
        options=Raw(json.dumps(options).encode()),
    )
    with pytest.raises(ConfigurationError, match="'vendor'"):
        check_options(wrong)


def test_a_secret_that_is_not_there_is_found_out_when_the_guard_is_made() -> None:
    sound = spec("https://guard.example/", secret="env:ABSENT")
    check_options(sound)
    with pytest.raises(ConfigurationError, match="not set"):
        made(sound, Callouts(reading))
