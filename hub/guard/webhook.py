"""A guard that asks a program of somebody else's over HTTP.

What is asked and answered in Portico's own format is a contract, documented in
``docs/GUARDRAILS.md``; the other formats are in ``hub.guard.formats``.
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from connectors.outcome import Failure
from hub.domain.guarding import ALLOW, Context, Verdict
from hub.domain.rules import GuardrailSpec
from hub.errors import ConfigurationError
from hub.guard.callouts import Callouts
from hub.guard.content import Content
from hub.guard.formats import FORMATS, FormatName, Unusable, parts_of
from hub.guard.protocol import Guard

SIGNATURE: Final = "X-Portico-Signature"
_OK: Final = 200
logger = logging.getLogger(__name__)


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom to ask, and what it means when there is no answer."""

    url: str
    deadline_ms: int = 800
    """For everything, connecting included."""
    on_error: Literal["block", "allow"] = "block"
    headers: Mapping[str, str] = {}
    """Values may be references to secrets."""
    secret: str | None = None
    """What requests are signed with, or a reference to it; None: they are not signed."""
    format: FormatName = "portico"


def guard(options: Options, spec: GuardrailSpec, callouts: Callouts) -> Guard:
    """The guard of ``spec``. Raises ConfigurationError for what cannot be meant or read."""
    if options.deadline_ms < 1:
        raise ConfigurationError("deadline_ms must be at least 1")
    return Webhook(options, spec, callouts)


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """The value of the signature's header: when it was made, and HMAC-SHA256 of that and the body."""
    made = hmac.new(secret, b"%d.%b" % (seconds, body), hashlib.sha256)
    return f"t={seconds},v1={made.hexdigest()}"


class Webhook:
    """Asks about each content that has text; the answer decides, no answer means ``on_error``."""

    def __init__(self, options: Options, spec: GuardrailSpec, callouts: Callouts) -> None:
        self._rule = spec.name
        self._deadline_s = options.deadline_ms / 1000
        self._on_error = options.on_error
        self._format = FORMATS[options.format]
        self._now = callouts.now
        self._secret = b"" if options.secret is None else callouts.secret(options.secret).encode()
        if options.secret is not None and not self._secret:
            raise ConfigurationError("the secret is empty")
        headers = {name: callouts.secret(value) for name, value in options.headers.items()}
        self._callouts = {
            direction: callouts.to(options.url, headers, path=path, guarded=spec.guarded)
            for direction, path in self._format.paths.items()
        }

    async def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`; takes at most the deadline. Raises Unreadable."""
        parts = parts_of(content)
        if not parts:
            return ALLOW
        body = self._format.question(self._rule, parts, context)
        signed = {}
        if self._secret:
            seconds = int(self._now().timestamp())
            signed[SIGNATURE] = signature(self._secret, seconds, body)
        callout = self._callouts[context.direction]
        answer = await callout.post(body, deadline_s=self._deadline_s, headers=signed)
        if isinstance(answer, Failure):
            return self._unanswered(answer.message, context, is_news=answer.retry_after_s is None)
        if answer.status != _OK:
            return self._unanswered(f"it answered with status {answer.status}", context)
        try:
            return self._format.verdict(answer.body, parts)
        except Unusable as reason:
            return self._unanswered(str(reason), context)

    def _unanswered(self, reason: str, context: Context, *, is_news: bool = True) -> Verdict:
        if is_news:
            fields = {"rule": self._rule, "call": context.call, "reason": reason}
            logger.warning("a guardrail was not answered", extra=fields)
        if self._on_error == "allow":
            return ALLOW
        return Verdict("block", reason=f"the webhook gave no verdict: {reason}")
