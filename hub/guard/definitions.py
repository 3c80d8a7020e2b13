"""How upstreams describe what they offer, through the guardrails that look at it.

A model reads a definition before anything is called, so what a guard finds there holds it back as a
whole: cutting words out would leave a text that its upstream never wrote.
"""

from collections.abc import Sequence

from msgspec import Raw

from hub.domain.guarding import Context, Verdict
from hub.guard.chain import Guardrail
from hub.guard.content import Content, Unreadable


def held(guardrails: Sequence[Guardrail], body: Raw, context: Context) -> str:
    """Why a definition is held back: the first guardrail that enforces and objects; else nothing.

    It depends on nothing but its arguments: whoever asks often keeps it by digest and guardrails.
    Whether a guardrail redacts or blocks makes no difference. Those that ask others are not made
    for definitions, see :func:`hub.guard.checks.made`.
    """
    content = Content(bytes(body))
    for guardrail in sorted(guardrails, key=lambda one: (one.order, one.name)):
        if guardrail.mode == "monitor" or "definition" not in guardrail.on:
            continue
        try:
            verdict = guardrail.guard.inspect(content, context)
        except Unreadable as error:
            verdict = Verdict("block", reason=str(error))
        if isinstance(verdict, Verdict) and verdict.outcome != "allow":
            return f"guardrail {guardrail.name}: {verdict.reason}"
    return ""
