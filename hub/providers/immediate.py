"""The outcome of a call that Portico answers by itself, at once."""

from collections.abc import Awaitable, Callable
from typing import Self

from hub.domain.outcome import Event, Failure, Result


class Ready:
    """An outcome of one event that takes no waiting. Nothing is worked out before it is asked for."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], Result | Failure]) -> None:
        """``work`` gives the end of the call; it may raise Refusal."""
        self._work: Callable[[], Result | Failure] | None = work

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        work, self._work = self._work, None
        if work is None:
            raise StopAsyncIteration
        return work()

    def first(self, take: Callable[[Event | None], None]) -> None:
        """See :class:`connectors.outcome.Prompt`."""
        work, self._work = self._work, None
        take(None if work is None else work())

    async def aclose(self) -> None:
        """Give up; there is nobody to tell."""
        self._work = None


class Immediate:
    """An outcome of one event. Nothing is worked out before it is awaited."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], Awaitable[Result | Failure]]) -> None:
        """``work`` brings the end of the call; it may raise Refusal."""
        self._work: Callable[[], Awaitable[Result | Failure]] | None = work

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        work, self._work = self._work, None
        if work is None:
            raise StopAsyncIteration
        return await work()

    async def aclose(self) -> None:
        """Give up; there is nobody to tell."""
        self._work = None
