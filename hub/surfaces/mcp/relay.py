"""What happens of a call before its end: told to its caller, asked of it, or parked until it returns."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import anyio
import msgspec
from msgspec import UNSET, Raw

from hub.domain.outcome import (
    Ask,
    Event,
    Failure,
    Log,
    Pause,
    Progress,
    Result,
    Withdrawn,
)
from hub.pipeline import Running
from hub.surfaces.mcp import bridge, wire
from hub.surfaces.mcp.asked import Asked
from hub.surfaces.mcp.bridge import Question, Round
from hub.surfaces.mcp.collaborators import LiveSession
from hub.surfaces.mcp.inbound import is_object, text_of
from hub.surfaces.mcp.parking import Parking
from mcp_wire import codes
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.jsonrpc import Message, decode_error, encode_notification

MAX_ROUNDS: Final = 10
"""How often one call may ask its caller for input, as in the SDKs."""
_FIRST_PAUSE_S: Final = 0.05
_MAX_PAUSE_S: Final = 0.25
"""How soon an upstream that asks nothing and wants to be called again is."""

_number: Final = msgspec.json.Decoder(float)


class Relay:
    """Takes the events of one call that are no plain result; made when the first of them comes."""

    def __init__(
        self,
        asked: Asked,
        running: Running,
        parking: Parking,
        ask_ids: Iterator[int],
        *,
        answer_within_s: float,
        rounds: int = 0,
    ) -> None:
        """``rounds``: how often the caller was asked before, in earlier legs of the call."""
        self._asked = asked
        self._running = running
        self._parking = parking
        self._ask_ids = ask_ids
        self._answer_within_s = answer_within_s
        self._rounds = rounds
        self._pause_s = _FIRST_PAUSE_S
        self._progress = float("-inf")
        self._open: dict[int, str] = {}
        """Id of the request that puts a question, by the question's own identity."""

    async def take(self, event: Event) -> Result | Failure | None:
        """Do with an event what can be done; what the call ends with, or None when it goes on.

        Raises Refusal when the caller cannot come back, as too many calls wait already.
        """
        if isinstance(event, Result):
            return await self._after_input_required(event)
        if isinstance(event, Failure):
            return self._failed(event)
        if isinstance(event, Ask):
            return await self._asked_for(event)
        await self._tell(event)
        return None

    async def park(self, questions: Mapping[str, Ask]) -> Result | Failure:
        """End the leg with questions; the call's upstream waits for their answers. Raises Refusal."""
        try:
            return self._parking.park(self._running, questions, self._rounds + 1)
        except (msgspec.DecodeError, RecursionError):
            await self._running.abandon()
            return self._concluded(Failure("violation", "The upstream's question is unreadable."))

    def close(self) -> None:
        """Forget questions that are still open; their answers come too late."""
        session = self._asked.session
        if session is not None:
            for ask_id in self._asked.questions:
                session.asks.pop(ask_id, None)

    def _concluded(self, end: Result | Failure) -> Result | Failure:
        """An end of ours, which the record shall tell of as well."""
        self._running.end = end
        return end

    async def _tell(self, event: Event) -> None:
        """What its caller hears of a call that goes on."""
        exchange = self._asked.exchange
        if isinstance(event, Progress):
            token = self._asked.progress_token
            if token is not None and exchange.can_show and self._advances(event):
                await exchange.show(wire.progress(token, event.params))
        elif isinstance(event, Log):
            if exchange.can_show and self._is_wanted(event):
                await exchange.show(wire.log_message(event.params))
        elif isinstance(event, Pause):
            await exchange.pause(event.retry_ms)
        elif isinstance(event, Withdrawn):
            await self._withdraw(self._open.get(id(event.ask), ""))

    def _failed(self, failure: Failure) -> Result | Failure:
        if self._asked.era == "legacy":
            return failure
        return self._concluded(bridge.crossed(failure, self._asked.call))

    async def _asked_for(self, question: Ask) -> Result | Failure | None:
        if self._asked.era == "legacy":
            await self._ask(question)
            return None
        declined = bridge.why_not_parked(question, self._asked.call)
        if declined is not None:
            await question.answer(declined)
            return None
        return await self.park({f"r{self._rounds + 1}": question})

    async def _after_input_required(self, end: Result) -> Result | Failure | None:
        """A modern caller comes back with its answers; a legacy one is asked right now."""
        if self._asked.era == "modern":
            sealed = self._parking.sealed(end, self._running)
            return self._concluded(sealed) if isinstance(sealed, Failure) else sealed
        # Until the caller has answered the call has no end: it may be cancelled, or given up.
        self._running.end = None
        needed = bridge.round_of(end)
        if isinstance(needed, Failure):
            return self._concluded(needed)
        answers = await self._answers_to(needed)
        if isinstance(answers, Failure):
            return self._concluded(answers)
        await self._running.again(needed.retry(answers))
        return None

    async def _answers_to(self, needed: Round) -> Mapping[str, Raw] | Failure:
        """What the caller says to a round of questions; a Failure ends the call."""
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            return Failure("unsupported", f"it asked for input more than {MAX_ROUNDS} times")
        if not needed.questions:
            await anyio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, _MAX_PAUSE_S)
            return {}
        self._pause_s = _FIRST_PAUSE_S
        unable = self._why_unable(needed)
        return unable if unable is not None else await self._ask_all(needed.questions)

    def _why_unable(self, needed: Round) -> Failure | None:
        """Why this caller cannot be asked so; addresses it can be told of all the same (-32042)."""
        for question in needed.questions.values():
            declined = bridge.why_not_asked(question, self._asked.call.traits)
            if declined is None and self._session() is not None:
                continue
            if bridge.is_by_url(question):
                return bridge.url_required(needed.questions, _new_elicitation)
            if declined is not None:
                return Failure("unsupported", f"it asks what it may not: {declined.message}")
            return bridge.not_reachable()
        return None

    async def _ask_all(self, questions: Mapping[str, Question]) -> Mapping[str, Raw] | Failure:
        """Put all questions at once; the first refusal is everyone's."""
        answers: dict[str, Raw] = {}
        ended: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()

        async def take(key: str, answer: Raw | Failure) -> None:
            if ended.done():
                return
            if isinstance(answer, Failure) or not is_object(answer):
                words = answer.message if isinstance(answer, Failure) else "that is no answer"
                ended.set_result(Failure("unsupported", f"its question was not answered: {words}"))
                return
            answers[key] = answer
            if len(answers) == len(questions):
                ended.set_result(None)

        for key, question in questions.items():
            said = bridge.legacy_question(question, _new_elicitation)
            await self._ask(Ask(said.method, said.params, partial(take, key)))
        with anyio.move_on_after(self._answer_within_s):
            failure = await ended
            if failure is None:
                return answers
            await self._withdraw(*self._asked.questions)
            return failure
        await self._withdraw(*self._asked.questions)
        within = f"{self._answer_within_s:g} s"
        return Failure("unsupported", f"its question was not answered within {within}")

    async def _withdraw(self, *ask_ids: str) -> None:
        """Tell the caller that these questions need no answer any more, where it owes one."""
        session = self._asked.session
        for ask_id in ask_ids:
            if session is not None and session.asks.pop(ask_id, None) is not None:
                params = {"requestId": ask_id}
                withdrawn = encode_notification("notifications/cancelled", params)
                await self._asked.exchange.show(withdrawn)

    def _advances(self, event: Progress) -> bool:
        """Progress must increase with each notification (mcp.md S13)."""
        try:
            value = _number.decode(event.params["progress"])
        except (KeyError, msgspec.DecodeError):
            return False
        if value <= self._progress:
            return False
        self._progress = value
        return True

    def _is_wanted(self, event: Log) -> bool:
        wanted = self._asked.call.traits.log_level
        if wanted is None:
            return self._asked.era == "legacy"
        level = text_of(event.params.get("level"))
        return level in LOG_LEVELS and LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted)

    def _session(self) -> LiveSession | None:
        """Where the caller's answers arrive; None when it cannot be reached for a question."""
        exchange = self._asked.exchange
        return None if exchange.gone or not exchange.can_show else self._asked.session

    async def _ask(self, question: Ask) -> None:
        asked, session = self._asked, self._session()
        declined = bridge.why_not_asked(question, asked.call.traits)
        if declined is not None or session is None:
            await question.answer(declined or bridge.not_reachable())
            return
        ask_id = f"portico-{next(self._ask_ids)}"

        async def take(message: Message) -> None:
            session.asks.pop(ask_id, None)
            await question.answer(_answer_in(message))

        session.asks[ask_id] = take
        self._open[id(question)] = ask_id
        asked.questions.append(ask_id)
        await asked.exchange.show(
            wire.ask(ask_id, question.method, question.params, asked.call.meta)
        )


def _new_elicitation() -> str:
    return secrets.token_urlsafe(12)


def _answer_in(message: Message) -> Raw | Failure:
    """What a client said to a question: its result, or its error in its own words."""
    if isinstance(message.result, Raw):
        return message.result
    error = None
    with suppress(msgspec.DecodeError, RecursionError):
        error = decode_error(message.error) if message.error is not UNSET else None
    if error is None:
        return Failure("error", "The caller's answer cannot be read.", code=codes.INVALID_REQUEST)
    data = error.data if isinstance(error.data, Raw) else None
    return Failure("error", error.message, code=error.code, data=data)
