"""An event loop for checks that need something running, and what goes wrong beside the answer."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar

Service = TypeVar("Service")
Answer = TypeVar("Answer")

BOUND_S = 10.0
"""How long one input may take."""


class _Noted(logging.Handler):
    """Keeps what is logged as an error: what a barrier caught is a finding all the same."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


class Running(Generic[Service]):
    """Something that runs while inputs are checked, one after the other."""

    def __init__(
        self, service: Service, loop: asyncio.AbstractEventLoop, noted: list[str], held: Any
    ) -> None:
        self.service = service
        self._loop = loop
        self._noted = noted
        self._held = held

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What ``work`` returns; fails for errors anywhere on the loop, logged ones included."""
        self._noted.clear()
        answer = self._loop.run_until_complete(asyncio.wait_for(work, BOUND_S))
        if self._held.done():
            self._held.result()
            raise AssertionError("what was served came to an end")
        assert not self._noted, self._noted[0]
        return answer


@contextmanager
def served(serving: AbstractAsyncContextManager[Service]) -> Iterator[Running[Service]]:
    """Keep an asynchronous context open on an event loop of its own."""
    loop = asyncio.new_event_loop()
    noted = _Noted()
    root = logging.getLogger()
    root.addHandler(noted)
    loop.set_exception_handler(lambda _, context: noted.found.append(_text(context)))
    ready: asyncio.Future[Service] = loop.create_future()
    over = asyncio.Event()

    async def hold() -> None:
        try:
            async with serving as service:
                ready.set_result(service)
                await over.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    held = loop.create_task(hold())
    try:
        service = loop.run_until_complete(ready)
        yield Running(service, loop, noted.found, held)
    finally:
        over.set()
        loop.run_until_complete(asyncio.wait([held]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        root.removeHandler(noted)


def _text(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}: {error!r}"
