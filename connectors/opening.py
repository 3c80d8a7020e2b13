"""Calls that come before it is known how their upstream is called."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from connectors.errors import ConnectorError, Inconclusive
from connectors.outcome import Event, Failure, Outcome


async def opened_first(
    begin: Callable[[], Awaitable[Outcome]], within_s: float | None
) -> AsyncGenerator[Event]:
    """The events of the outcome that ``begin`` gives when its upstream is open.

    That may take ``within_s`` seconds; None: ``begin`` sees to that. It may raise ConnectorError.
    """
    try:
        async with asyncio.timeout(within_s):
            outcome = await begin()
    except ConnectorError as error:
        yield _not_sent(error)
        return
    except TimeoutError:
        yield Failure("unreachable", "The upstream was not opened in time.")
        return
    try:
        async for event in outcome:
            yield event
    finally:
        await outcome.aclose()


def _not_sent(error: ConnectorError) -> Failure:
    """A call whose upstream could not be opened: nothing was executed."""
    if isinstance(error, Inconclusive) and error.status is not None:
        return Failure(
            "status",
            str(error),
            status=error.status,
            retry_after_s=error.retry_after_s,
            challenge=error.challenge,
        )
    return Failure("unreachable", str(error))
