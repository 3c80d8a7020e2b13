"""What every guard is: something that looks at content and says what it found."""

from collections.abc import Awaitable
from typing import Protocol

from hub.domain.guarding import Context, Verdict
from hub.guard.content import Content


class Guard(Protocol):
    """One check, made from the options of a guardrail; shared by all calls, so it keeps nothing of them.

    The action and mode of its guardrail are none of its business: ``hub.guard.chain`` applies them.
    """

    def inspect(self, content: Content, context: Context) -> Verdict | Awaitable[Verdict]:
        """What it found. An awaitable is for guards that ask somebody else.

        Never raises for what is in the content; a guard that asks others turns their failures into
        the verdict its options name.
        """
        ...
