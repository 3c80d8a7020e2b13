"""What modern callers come back with: sealed states, and the upstream requests that wait for them.

Every ``requestState`` that leaves is sealed here, and opens for nobody and nothing else: not for
another principal, key, virtual server or request, and not after ten minutes (mcp.md S22, row 8).
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from hub.domain.catalog import CapabilityId
from hub.domain.outcome import Ask, Failure, Refusal, Result
from hub.domain.parked import AbandonReason, ParkedCall
from hub.pipeline import Admitted, Resumed, Running
from hub.surfaces.mcp.asked import Asked
from hub.surfaces.mcp.bridge import (
    INPUT_RESPONSES,
    INTERACTIVE,
    REQUEST_STATE,
    RETRY_PARAMS,
    input_required,
    legacy_answer,
    modern_question,
    with_state,
)
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.inbound import is_object, text_of
from mcp_wire.jsonrpc import EMPTY_OBJECT, decode_batch, decode_members, encode, members_of, raw
from mcp_wire.revisions import era_of

STATE_LIFETIME_S: Final = 600.0
_PURPOSE: Final = "mcp request state"
_HANDLE_BYTES: Final = 16
_NULL: Final = Raw(b"null")
_EMPTY: Final = (_NULL, EMPTY_OBJECT)


class State(Struct, frozen=True, array_like=True):
    """What a sealed ``requestState`` holds."""

    interaction: str
    capability: CapabilityId
    handle: str = ""
    """Of a parked call; empty: ``said`` is the state."""
    said: str = ""
    """What the upstream said, to be given back as it is."""


_state: Final = msgspec.json.Decoder(State)


class Parking:
    """Seals states and opens them; parks upstream requests and finds them again."""

    def __init__(self, given: Collaborators) -> None:
        self._given = given

    def retried(self, asked: Asked) -> tuple[Asked, "Retry | None"]:
        """A request without what only a retry has, and that; it means nothing to the legacy era."""
        params = dict(asked.call.params)
        brought = {
            name: value for name in RETRY_PARAMS if (value := params.pop(name, _NULL)) != _NULL
        }
        asked = replace(asked, call=replace(asked.call, params=params))
        if asked.era == "legacy" or not brought or asked.call.operation not in INTERACTIVE:
            return asked, None
        return asked, Retry(self, brought)

    def sealed(self, end: Result, running: Running) -> Result | Failure:
        """A modern upstream's question to its modern caller, with its state sealed."""
        admitted = running.admitted
        try:
            said = decode_members(end.body).get(REQUEST_STATE, _NULL)
            text = text_of(said)
        except msgspec.DecodeError:
            return _violation()
        if admitted.call.operation not in INTERACTIVE or (text is None and said != _NULL):
            return _violation()
        if text is None:
            return end
        return with_state(end, self._seal(admitted, said=text))

    def park(self, running: Running, questions: Mapping[str, Ask], rounds: int) -> Result:
        """End a leg with questions to its caller; its upstream request waits for the answers.

        Raises Refusal where no more can be parked, DecodeError for an unreadable question.
        """
        admitted = running.admitted
        call, principal = admitted.call, admitted.principal
        asked = {key: modern_question(question) for key, question in questions.items()}
        owner = (principal.tenant, principal.name)
        self._given.parked.make_room(owner)
        handle = secrets.token_urlsafe(_HANDLE_BYTES)
        end = input_required(asked, self._seal(admitted, handle=handle))
        outcome = running.park(end, handle)
        interaction = call.interaction_id or call.id

        def abandon(reason: AbandonReason) -> None:
            last = replace(call, id=self._given.new_call_id(), interaction_id=interaction)
            self._given.tasks.start_soon(
                self._given.pipeline.abandoned, last, admitted, outcome, reason
            )

        parked = ParkedCall(
            handle=handle,
            call=call,
            owner=owner,
            outcome=outcome,
            questions=questions,
            hold=admitted.hold,
            rounds=rounds,
            abandon=abandon,
        )
        self._given.parked.park(parked)
        return end

    def abandon(self, handle: str, reason: AbandonReason) -> None:
        """Give up a parked call that nobody will come back for."""
        self._given.parked.abandon(handle, reason)

    def opened(self, token: Raw, admitted: Admitted) -> State:
        """What was sealed for this very caller and request. Raises Refusal for everything else."""
        text = text_of(token)
        content = None
        if text is not None:
            content = self._given.seal.unseal(text, purpose=_PURPOSE, associated=_bound(admitted))
        if content is None:
            raise _stale("request state")
        state = _state.decode(content)
        if _capability(admitted) != state.capability:
            self.abandon(state.handle, "refused")
            raise _stale("request state of another capability")
        return state

    def taken(self, handle: str) -> ParkedCall:
        """The parked call of a handle. Raises Refusal where there is none any more."""
        parked = self._given.parked.take(handle)
        if parked is None:
            raise _stale("request state of no parked call")
        return parked

    def _seal(self, admitted: Admitted, *, handle: str = "", said: str = "") -> str:
        call = admitted.call
        interaction = call.interaction_id or call.id
        state = State(interaction, _capability(admitted), handle, said)
        return self._given.seal.seal(
            encode(state),
            purpose=_PURPOSE,
            associated=_bound(admitted),
            lifetime_s=STATE_LIFETIME_S,
        )


class Retry:
    """A request that continues another one; see :class:`hub.pipeline.Resumption`."""

    def __init__(self, parking: Parking, brought: Mapping[str, Raw]) -> None:
        self._parking = parking
        self._brought = brought
        self._answers: Mapping[str, Raw] = {}
        self.parked: ParkedCall | None = None
        """The call that is continued, once it was found to be this caller's."""

    def resume(self, admitted: Admitted) -> Resumed:
        """See :class:`hub.pipeline.Resumption`.

        Nobody but the caller who was asked learns whether a state is known.
        """
        token = self._brought.get(REQUEST_STATE)
        if token is None:
            return Resumed(more=self._more(admitted))
        state = self._parking.opened(token, admitted)
        if not state.handle:
            return Resumed(state.interaction, more=self._more(admitted, raw(state.said)))
        self._answers = self._readable_answers()
        self.parked = self._parking.taken(state.handle)
        return Resumed(state.interaction, self.parked.outcome, hold=self.parked.hold)

    async def deliver(self) -> Mapping[str, Ask]:
        """Give the upstream of a parked call its answers; what is left is still to be asked."""
        if self.parked is None:
            return {}
        left: dict[str, Ask] = {}
        for key, question in self.parked.questions.items():
            answer = self._answers.get(key)
            if answer is None:
                left[key] = question
            else:
                await question.answer(answer)
        return left

    def _more(self, admitted: Admitted, said: Raw | None = None) -> Mapping[str, Raw]:
        """What a modern upstream gets beside the parameters; a legacy one knows none of it."""
        if not _speaks_modern(admitted):
            return {}
        more = dict(self._brought)
        if said is not None:
            more[REQUEST_STATE] = said
        return more

    def _readable_answers(self) -> Mapping[str, Raw]:
        try:
            responses = members_of(self._brought.get(INPUT_RESPONSES))
            return {key: legacy_answer(response) for key, response in responses.items()}
        except (msgspec.DecodeError, RecursionError):
            words = f"'{INPUT_RESPONSES}' must hold an object for each request."
            raise Refusal("invalid", words, cause="input responses") from None


def _capability(admitted: Admitted) -> CapabilityId:
    if admitted.exposure is None:
        raise ValueError("only the use of a capability is interactive")
    return admitted.exposure.capability


def _speaks_modern(admitted: Admitted) -> bool:
    """Whether the upstream of a call may know the modern era; one never listed may."""
    if admitted.virtual_server is None:
        return False
    upstream = _capability(admitted).upstream
    revisions = admitted.virtual_server.upstream_revisions.get(upstream)
    return revisions is None or any(era_of(revision) == "modern" for revision in revisions)


def _bound(admitted: Admitted) -> bytes:
    """Whom and what a state is for."""
    call, principal = admitted.call, admitted.principal
    return encode([
        principal.tenant,
        principal.name,
        principal.key_id,
        call.virtual_server,
        call.operation,
        call.target.name,
        _digest(call.params),
    ])


def _digest(params: Mapping[str, Raw]) -> str:
    """Equal for equal parameters, whatever the order of members and the space between them.

    Empty ones count as absent: clients write the same request either way.
    """
    digest = hashlib.sha256()
    given = {name: value for name, value in params.items() if value not in _EMPTY}
    for token in _tokens(raw(given)):
        digest.update(b"%d:%b" % (len(token), token))
    return digest.hexdigest()


def _tokens(value: Raw) -> Iterator[bytes]:
    """The parts of a JSON value, members in the order of their names; numbers as they were written."""
    waiting: list[Raw | bytes] = [value]
    while waiting:
        item = waiting.pop()
        parts = None if isinstance(item, bytes) else _parts(item)
        if parts is None:
            yield bytes(item)
        else:
            yield b"%d" % len(parts)
            waiting += reversed(parts)


def _parts(value: Raw) -> list[Raw | bytes] | None:
    """Names and values of an object, or the items of an array; None for what has no readable parts."""
    try:
        if is_object(value):
            members = decode_members(value)
            parts: list[Raw | bytes] = [b"{"]
            for name in sorted(members):
                parts += (name.encode(), members[name])
            return parts
        if bytes(memoryview(value)[:1]) == b"[":
            return [b"[", *decode_batch(value)]
    except (msgspec.DecodeError, RecursionError):
        pass  # it is compared as it was written
    return None


def _stale(cause: str) -> Refusal:
    return Refusal("invalid", "Invalid or expired requestState.", cause=cause)


def _violation() -> Failure:
    return Failure("violation", "The upstream asks for input in a way that is not allowed.")
