"""How the guardrails of one call are combined: a block wins, redactions compose, monitors only tell."""

from collections.abc import Awaitable, Sequence
from typing import Final, Literal

import anyio
from msgspec import Struct

from hub.domain.guarding import Context, Span, Verdict
from hub.domain.rules import Direction, GuardAction, Mode
from hub.guard.content import Content, Unreadable
from hub.guard.protocol import Guard

_UNREADABLE: Final = Verdict("block", reason="the content cannot be read")


class Guardrail(Struct, frozen=True, kw_only=True):
    """A guard, and what is done with what it says."""

    name: str
    on: tuple[Direction, ...]
    action: GuardAction
    mode: Mode
    order: int
    """Of several that block, the one with the smallest (order, name) is named."""
    guard: Guard
    waits: bool = False
    """Whether it asks others: it then sees what the guards that do not wait have let through."""


class Passed(Struct, frozen=True):
    """What came through."""

    body: bytes
    """What may go on: byte for byte what came, but for what was cut out."""
    notes: tuple[str, ...] = ()
    """Every guardrail that found something and what that meant, by (order, name): ``no-secrets=redact``,
    ``pilot=monitor``, ``limits=block``."""
    blocked_by: str = ""
    """Name of the guardrail that blocks; ``body`` must then go nowhere. Empty: nothing blocks."""


def inspected(
    guardrails: Sequence[Guardrail], body: bytes, context: Context
) -> Passed | Awaitable[Passed]:
    """``body``, a JSON text, through the guardrails of its direction.

    Those that do not wait all look at the same content, so that their order decides nothing but
    names: what they redact is cut out together. Unless one blocks, those that wait then look, side by
    side, at what is left. An awaitable is returned only if there are such. Content that a guard needs
    and cannot read is blocked by it.
    """
    content = Content(body)
    found: list[tuple[Guardrail, Verdict]] = []
    is_waited_for = False
    for guardrail in guardrails:
        if guardrail.waits:
            is_waited_for = True
        elif (verdict := _local(guardrail, content, context)).outcome != "allow":
            found.append((guardrail, verdict))
    passed = _combined(found, content) if found else Passed(body)
    if not is_waited_for or passed.blocked_by:
        return passed
    return _waited(guardrails, passed, context)


def _local(guardrail: Guardrail, content: Content, context: Context) -> Verdict:
    try:
        verdict = guardrail.guard.inspect(content, context)
    except Unreadable:
        return _UNREADABLE
    if not isinstance(verdict, Verdict):
        raise TypeError(f"guardrail {guardrail.name!r} waits and does not say so")
    return verdict


async def _waited(guardrails: Sequence[Guardrail], before: Passed, context: Context) -> Passed:
    content = Content(before.body)
    found: list[tuple[Guardrail, Verdict]] = []

    async def ask(guardrail: Guardrail) -> None:
        try:
            verdict = guardrail.guard.inspect(content, context)
            if not isinstance(verdict, Verdict):
                verdict = await verdict
        except Unreadable:
            verdict = _UNREADABLE
        if verdict.outcome != "allow":
            found.append((guardrail, verdict))

    async with anyio.create_task_group() as tasks:
        for guardrail in guardrails:
            if guardrail.waits:
                tasks.start_soon(ask, guardrail)
    after = _combined(found, content)
    return Passed(after.body, before.notes + after.notes, after.blocked_by)


def _combined(found: list[tuple[Guardrail, Verdict]], content: Content) -> Passed:
    """What guardrails that looked at the same content mean together."""
    notes: list[str] = []
    spans: list[Span] = []
    blocked_by = ""
    for guardrail, verdict in sorted(found, key=lambda one: (one[0].order, one[0].name)):
        can_cut = bool(verdict.spans) and content.holds(verdict.spans)
        effect = effect_of(guardrail, verdict, can_cut=can_cut)
        notes.append(f"{guardrail.name}={effect}")
        if effect == "block":
            blocked_by = blocked_by or guardrail.name
        elif effect == "redact":
            spans.extend(verdict.spans)
    if blocked_by:
        return Passed(content.body, tuple(notes), blocked_by)
    return Passed(content.without(spans).body, tuple(notes))


def effect_of(
    guardrail: Guardrail, verdict: Verdict, *, can_cut: bool
) -> Literal["monitor", "redact", "block"]:
    """What is done about a verdict that is not to allow.

    ``require_approval`` blocks, as long as nobody can be asked; so does a redaction that would cut
    nothing out.
    """
    if guardrail.mode == "monitor":
        return "monitor"
    if guardrail.action == "redact" and verdict.outcome == "redact" and can_cut:
        return "redact"
    return "block"
