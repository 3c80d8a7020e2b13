"""The children of one stdio upstream: started when needed, shared or lent alone, stopped when idle."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup
from msgspec import Raw

from connectors.child_groups import ChildGroups
from connectors.child_lines import Tail
from connectors.errors import ConnectorError, Misconfigured, Unreachable
from connectors.protocol import Change, OnChange
from connectors.stdio_session import StdioSession, StdioSettings
from connectors.stdio_slots import Rests, SessionKey, Slot, Wanted

logger = logging.getLogger(__name__)


class SessionPool:
    """At most ``max_children`` sessions, keyed by what may be shared.

    Starting and stopping run in ``tasks``, so that no caller's cancellation interrupts them.
    ``on_closed`` is told of the primary session's unexpected end.
    """

    def __init__(
        self,
        settings: StdioSettings,
        groups: ChildGroups,
        tasks: TaskGroup,
        *,
        on_change: OnChange,
        on_closed: Callable[[], None],
    ) -> None:
        self.log = Tail()
        """Last lines of standard error of all children."""
        self._settings = settings
        self._groups = groups
        self._tasks = tasks
        self._on_change = on_change
        self._on_closed = on_closed
        self._slots: list[Slot] = []
        self._sessions: set[StdioSession] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._rests = Rests()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the children that run."""
        return tuple(session.pid for session in self._sessions if session.pid is not None)

    async def acquire(self, wanted: Wanted, timeout_s: float) -> Slot:
        """A place in an open session; give it back with :meth:`release`.

        Raises ConnectorError: Unreachable when none gets free in time, or what starting raised.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (slot := self._claim(wanted)) is None:
                    await self._next_change()
                await self._opened(slot)
        except TimeoutError:
            count = self._settings.max_children
            message = f"None of at most {count} children was free and ready within {timeout_s:g} s."
            raise Unreachable(message) from None
        return slot

    def release(self, slot: Slot, *, reusable: bool = True) -> None:
        """Give a place back; what is not ``reusable`` is stopped."""
        slot.uses -= 1
        slot.idle_since = anyio.current_time()
        if slot.uses == 0:
            slot.exclusive = False
        if not reusable:
            self._retire(slot)
        self._announce()

    def tell(self, concerns: Callable[[SessionKey], bool], method: str) -> None:
        """Send a notification to the children of these keys that run."""
        for slot in self._slots:
            session = slot.session
            if session is not None and not session.ended and concerns(slot.key):
                with suppress(ConnectorError):
                    session.peer.notify(method)

    def stop_resting(self, concerns: Callable[[SessionKey], bool]) -> None:
        """Stop the children of these keys that nobody uses."""
        for slot in list(self._slots):
            if concerns(slot.key) and slot.ready.is_set() and not (slot.uses or slot.kept):
                self._retire(slot)
        self._announce()

    async def close(self) -> None:
        """Stop all children at the same time; bounded to 5 s. Idempotent."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        self._slots.clear()
        self._announce()
        async with anyio.create_task_group() as stopping:
            for session in list(self._sessions):
                stopping.start_soon(self._stop, session)

    def _claim(self, wanted: Wanted) -> Slot | None:
        """A slot that ``wanted`` may use, counted as used; a new one where there is room."""
        if self._closed:
            raise Unreachable("The upstream was closed.")
        slot = self._shareable(wanted)
        if slot is not None:
            return self._used(slot, wanted)
        if not wanted.exclusive and any(slot.key == wanted.key for slot in self._slots):
            return None
        self._rests.check(wanted.key.credential)
        if not self._make_room():
            return None
        slot = Slot(wanted)
        self._slots.append(slot)
        self._tasks.start_soon(self._start, slot)
        self._plan_sweep()
        return self._used(slot, wanted)

    def _shareable(self, wanted: Wanted) -> Slot | None:
        """A slot of the same key that has room; the primary one is nobody's alone."""
        limit = 1 if wanted.exclusive else self._settings.max_in_flight
        for slot in self._slots:
            if slot.key != wanted.key or slot.exclusive or slot.uses >= limit:
                continue
            if not (slot.primary and wanted.exclusive):
                return slot
        return None

    def _used(self, slot: Slot, wanted: Wanted) -> Slot:
        slot.uses += 1
        slot.exclusive = wanted.exclusive
        if wanted.primary and not slot.primary:
            for other in self._slots:
                other.primary = other.kept = False
            slot.primary = True
        return slot

    def _make_room(self) -> bool:
        """Have one place free, at the cost of the session that was idle longest.

        The primary one goes only where there is no place beside it.
        """
        if len(self._slots) < self._settings.max_children:
            return True
        idle = [slot for slot in self._slots if not slot.uses and slot.ready.is_set()]
        if self._settings.max_children > 1:
            idle = [slot for slot in idle if not slot.primary]
        if not idle:
            return False
        self._retire(min(idle, key=lambda slot: slot.idle_since))
        return True

    async def _opened(self, slot: Slot) -> None:
        try:
            await slot.ready.wait()
            _ = slot.live
        except BaseException:
            self.release(slot)
            raise

    async def _start(self, slot: Slot) -> None:
        try:
            slot.session = await self._open(slot)
        except ConnectorError as error:
            slot.error = error
        except Exception:  # a background task's barrier: whoever waits must hear of it
            logger.exception("Starting a child failed unexpectedly")
            slot.error = Unreachable("Starting the child failed unexpectedly.")
        finally:
            if slot.session is None:
                self._start_failed(slot)
            else:
                slot.key = slot.key.settled(slot.session.eras[0])
                slot.idle_since = anyio.current_time()
            slot.ready.set()
            self._announce()

    def _start_failed(self, slot: Slot) -> None:
        slot.error = slot.error or Unreachable("Starting the child was interrupted.")
        if slot in self._slots:
            self._slots.remove(slot)
        if not (slot.tentative or isinstance(slot.error, Misconfigured)):
            self._rests.note(slot.key.credential, str(slot.error))

    async def _open(self, slot: Slot) -> StdioSession:
        """Open a session of the wanted era; of any, with a fresh child for the second try."""
        timeout_s = self._settings.start_timeout_s
        capabilities = Raw(slot.key.capabilities)
        if slot.key.era == "modern":
            return await self._attempt(slot, lambda session: session.open_modern(timeout_s))
        if slot.key.era == "legacy":
            return await self._attempt(
                slot, lambda session: session.open_legacy(capabilities, timeout_s)
            )
        give_up_at = anyio.current_time() + timeout_s
        try:
            return await self._attempt(slot, lambda session: session.open_any(capabilities))
        except Misconfigured:
            raise
        except ConnectorError:
            left_s = give_up_at - anyio.current_time()
            if self._closed or left_s <= 0:
                raise
        return await self._attempt(slot, lambda session: session.open_legacy(capabilities, left_s))

    async def _attempt(
        self, slot: Slot, open_it: Callable[[StdioSession], Awaitable[None]]
    ) -> StdioSession:
        session = StdioSession(
            self._settings,
            self.log,
            on_change=partial(self._heard, slot),
            on_gone=self._gone,
        )
        self._sessions.add(session)
        opened = False
        try:
            await session.start(slot.environment, self._groups)
            await open_it(session)
            opened = not session.ended
        except Misconfigured:
            raise
        except ConnectorError as error:
            await self._stop(session)
            raise session.failure_of(error) from error
        finally:
            if not opened:
                await self._stop(session)
        if not opened:
            raise Unreachable(session.ended)
        return session

    def _heard(self, slot: Slot, change: Change) -> None:
        if slot.primary or change.what == "elicitation":
            self._on_change(change)

    def _gone(self, session: StdioSession) -> None:
        """A child ended by itself; one that was still being opened is its opener's business."""
        slot = next((slot for slot in self._slots if slot.session is session), None)
        if slot is None:
            return
        self._slots.remove(slot)
        lived_s = anyio.current_time() - slot.born
        self._rests.note(slot.key.credential, session.ended, lived_s=lived_s)
        self._stop_soon(session)
        self._announce()
        if slot.primary:
            self._on_closed()

    def _retire(self, slot: Slot) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
            if slot.session is not None:
                self._stop_soon(slot.session)

    def _stop_soon(self, session: StdioSession) -> None:
        if not self._closed:
            self._tasks.start_soon(self._stop, session)

    async def _stop(self, session: StdioSession) -> None:
        with anyio.CancelScope(shield=True):
            await session.stop()
            self._sessions.discard(session)

    def _announce(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _next_change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _plan_sweep(self) -> None:
        if self._sweep is None:
            delay_s = max(0.05, self._settings.idle_stop_s / 4)
            self._sweep = asyncio.get_running_loop().call_later(delay_s, self._stop_idle)

    def _stop_idle(self) -> None:
        self._sweep = None
        too_long_ago = anyio.current_time() - self._settings.idle_stop_s
        for slot in list(self._slots):
            idle = slot.ready.is_set() and not slot.uses and not slot.kept
            if idle and slot.idle_since <= too_long_ago:
                self._retire(slot)
        if self._slots:
            self._plan_sweep()
