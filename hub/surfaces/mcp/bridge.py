"""The one place that knows pairs of eras: what of an outcome its caller can be shown, and asked.

Pure. A legacy caller is asked while its request runs; a modern one gets ``input_required`` and
comes back (2026-07-28 basic, Multi Round-Trip Requests).
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from hub.domain.call import Call, CallerTraits
from hub.domain.outcome import Ask, Failure, Result
from mcp_wire import codes
from mcp_wire.jsonrpc import EMPTY_OBJECT, decode_batch, decode_members, members_of, raw, string_of

INTERACTIVE: Final = frozenset(("tools/call", "prompts/get", "resources/read"))
"""Requests whose callers may be asked for input (2026-07-28, Supported Requests)."""

INPUT_RESPONSES: Final = "inputResponses"
REQUEST_STATE: Final = "requestState"
RETRY_PARAMS: Final = frozenset((INPUT_RESPONSES, REQUEST_STATE))
"""What a retry has beside the parameters of the request that it repeats."""

MAX_QUESTIONS: Final = 100
"""Questions in one round of a modern upstream; more would flood a legacy caller."""

_ELICITATION: Final = "elicitation/create"
_NEEDED: Final = {
    _ELICITATION: "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""What a client must have declared to be asked."""
_URL: Final = raw("url")
_MODERN_UNREADABLE: Final = Failure(
    "violation", "The upstream asks for input in an unreadable way."
)
_URL_NEEDED: Final = raw({"requiredCapabilities": {"elicitation": {"url": {}}}})


class Question(Struct, frozen=True):
    """What somebody is asked, in the words of both eras."""

    method: str
    params: Raw = EMPTY_OBJECT


class Round(Struct, frozen=True):
    """What a modern upstream wants before it goes on."""

    questions: Mapping[str, Question]
    state: Raw | None
    """To be given back as it is."""

    def retry(self, answers: Mapping[str, Raw]) -> dict[str, Raw]:
        """What the request is repeated with (2026-07-28, Client Requirements)."""
        more: dict[str, Raw] = {}
        if self.questions:
            more[INPUT_RESPONSES] = raw(answers)
        if self.state is not None:
            more[REQUEST_STATE] = self.state
        return more


def why_not_asked(asked: Ask | Question, caller: CallerTraits) -> Failure | None:
    """Why a caller cannot be asked this; None when it can."""
    feature = _NEEDED.get(asked.method)
    try:
        declared, params = members_of(caller.client_capabilities), members_of(asked.params)
        if feature is None or feature not in declared:
            return Failure("unsupported", f"The caller does not support {asked.method}.")
        if asked.method == _ELICITATION:
            modes = decode_members(declared[feature])
            mode = "url" if params.get("mode") == _URL else "form"
            # Who names no mode supports forms (2025-11-25 elicitation, Capabilities).
            if mode not in modes and (mode == "url" or "url" in modes):
                return Failure("unsupported", f"The caller does not support elicitation by {mode}.")
    except (msgspec.DecodeError, RecursionError):
        return Failure("unsupported", f"The request cannot be carried: {asked.method}.")
    return None


def why_not_parked(asked: Ask, call: Call) -> Failure | None:
    """The same for a modern caller, who is asked by the end of a leg."""
    if call.operation not in INTERACTIVE:
        return Failure("unsupported", f"Nobody is asked for input during {call.operation}.")
    return why_not_asked(asked, call.traits)


def not_reachable() -> Failure:
    """Why a legacy caller is not asked that cannot be sent anything before its answer."""
    return Failure("unsupported", "The caller cannot be reached for a question.")


def is_by_url(asked: Ask | Question) -> bool:
    """Whether somebody is asked to go to an address."""
    if asked.method != _ELICITATION:
        return False
    try:
        return members_of(asked.params).get("mode") == _URL
    except (msgspec.DecodeError, RecursionError):
        return False


def round_of(end: Result) -> Round | Failure:
    """What a result that asks for input asks for."""
    try:
        members = decode_members(end.body)
        requests = members_of(_given(members, "inputRequests"))
        if len(requests) > MAX_QUESTIONS:
            return Failure("violation", f"The upstream asks more than {MAX_QUESTIONS} questions.")
        questions = {key: _question_of(request) for key, request in requests.items()}
        state = _given(members, REQUEST_STATE)
        if (not questions and state is None) or (state is not None and string_of(state) is None):
            return _MODERN_UNREADABLE
    except (msgspec.DecodeError, RecursionError):
        return _MODERN_UNREADABLE
    return Round(questions, state)


def input_required(questions: Mapping[str, Question], state: str | None = None) -> Result:
    """The end of a leg of ours that asks a modern caller for input."""
    body: dict[str, object] = {
        "resultType": "input_required",
        "inputRequests": {
            key: {"method": question.method, "params": question.params}
            for key, question in questions.items()
        },
    }
    if state is not None:
        body[REQUEST_STATE] = state
    return Result(raw(body), input_required=True)


def with_state(end: Result, state: str) -> Result:
    """The same result with another ``requestState``."""
    return Result(raw({**decode_members(end.body), REQUEST_STATE: state}), input_required=True)


def modern_question(asked: Ask) -> Question:
    """What a legacy upstream asks, without what only the legacy wire has. Raises DecodeError."""
    members = members_of(asked.params)
    members.pop("elicitationId", None)
    meta = members_of(members.pop("_meta", None))
    meta.pop(codes.META_PROGRESS, None)
    if meta:
        members["_meta"] = raw(meta)
    return Question(asked.method, raw(members))


def legacy_question(question: Question, new_id: Callable[[], str]) -> Question:
    """What a modern upstream asks, as a legacy client is asked it. Raises DecodeError.

    Elicitation by URL has an id there (2025-11-25 elicitation, URL Mode).
    """
    if not is_by_url(question):
        return question
    members = {"elicitationId": raw(new_id()), **members_of(question.params)}
    return Question(question.method, raw(members))


def legacy_answer(response: Raw) -> Raw:
    """A modern caller's answer as a legacy upstream gets it. Raises DecodeError for no object."""
    members = decode_members(response)
    if members.pop("resultType", None) is None:
        return response
    return raw(members)


def url_required(questions: Mapping[str, Question], new_id: Callable[[], str]) -> Failure:
    """How a legacy caller learns of addresses it cannot be asked to visit (-32042, mcp.md 6a)."""
    elicitations = [
        legacy_question(question, new_id).params
        for question in questions.values()
        if is_by_url(question)
    ]
    return Failure(
        "error",
        "The request needs elicitation by URL first.",
        code=codes.LEGACY_URL_ELICITATION_REQUIRED,
        data=raw({"elicitations": elicitations}),
    )


def crossed(failure: Failure, call: Call) -> Result | Failure:
    """How a failure is shown to a modern caller where the eras have different ways to say it.

    -32042 names addresses to be visited before the request is made again, as it was: the modern
    way is to ask for that; the retry is a call like the first.
    """
    is_asking = failure.code == codes.LEGACY_URL_ELICITATION_REQUIRED
    if not is_asking or failure.kind != "error" or call.operation not in INTERACTIVE:
        return failure
    try:
        elicitations = decode_batch(members_of(failure.data).get("elicitations", b""))
        questions = {
            f"url-{number}": _by_url(params) for number, params in enumerate(elicitations, 1)
        }
    except (msgspec.DecodeError, RecursionError):
        return failure
    if not questions:
        return failure
    if any(why_not_asked(question, call.traits) for question in questions.values()):
        return Failure(
            "error",
            "The request needs elicitation by URL, which the caller did not declare.",
            code=codes.MISSING_CLIENT_CAPABILITY,
            data=_URL_NEEDED,
        )
    return input_required(questions)


def _by_url(elicitation: Raw) -> Question:
    params = {**decode_members(elicitation), "mode": _URL}
    return modern_question(Ask(_ELICITATION, raw(params), _nobody))


async def _nobody(answer: Raw | Failure) -> None:
    """The upstream has ended: it waits for no answer."""


def _question_of(request: Raw) -> Question:
    members = decode_members(request)
    method = string_of(members.get("method"))
    if method is None:
        raise msgspec.ValidationError("a request without a method")
    params = _given(members, "params") or EMPTY_OBJECT
    decode_members(params)
    return Question(method, params)


def _given(members: Mapping[str, Raw], name: str) -> Raw | None:
    """A member; null reads as absent."""
    value = members.get(name)
    return None if value is None or bytes(value) == b"null" else value
