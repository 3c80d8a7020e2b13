"""One MCP session with one child: how it is opened in either era, and what it then takes."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec
from anyio import current_time
from msgspec import Raw, Struct

from connectors.child import Child, ChildSpec
from connectors.child_groups import ChildGroups
from connectors.child_lines import MAX_LOG_LINE_BYTES, Tail
from connectors.envelope import modern_meta, with_meta
from connectors.errors import ConnectorError, ErrorAnswer, ProtocolViolation, Unreachable
from connectors.exchange import Exchange, severity
from connectors.handshake import (
    LISTING_CAPABILITIES,
    discover_params,
    identity_of_discovery,
    identity_of_initialization,
    initialize_params,
)
from connectors.jsonrpc_peer import Peer, result_of
from connectors.outcome import Result
from connectors.protocol import OnChange, Request, ServerIdentity
from mcp_wire.codes import LOG_LEVELS, UNSUPPORTED_REVISION
from mcp_wire.jsonrpc import decode_members, raw
from mcp_wire.revisions import Era, era_of

__all__ = ["LISTING_CAPABILITIES", "StartFailed", "StdioSession", "StdioSettings"]

LOG_LEVEL_S: Final = 5.0
"""How long a legacy server may take to accept a log level before a call goes on without."""
_LAST_WORDS_BYTES: Final = 2048

Isolation = Literal["shared", "principal"]


class StdioSettings(Struct, frozen=True, kw_only=True):
    """How an upstream's children are run."""

    command: tuple[str, ...]
    env: Mapping[str, str] = {}
    cwd: str | None = None
    isolation: Isolation = "shared"
    """``principal``: children are kept per ``Request.affinity``."""
    max_children: int = 4
    max_in_flight: int = 64
    """Requests that one child may have at a time."""
    idle_stop_s: float = 900.0
    timeout_s: float = 60.0
    """For requests of discovery and listing; calls bring their own."""
    timeout_cap_s: float = 600.0
    start_timeout_s: float = 60.0
    """From starting a child to its first answer; a first ``npx`` downloads before that."""
    probe_timeout_s: float = 10.0
    """Silence after which a server is taken for one that ignores ``server/discover``."""

    def __repr__(self) -> str:
        return f"StdioSettings({self.command!r})"


class StartFailed(Unreachable):
    """The child did not start as an MCP server; the message has its last words."""


class StdioSession:
    """A child that can be asked once one of the ``open_`` methods has returned.

    ``on_gone`` is called once when the child ends without having been stopped.
    """

    def __init__(
        self,
        settings: StdioSettings,
        log: Tail,
        *,
        on_change: OnChange | None,
        on_gone: Callable[["StdioSession"], None],
    ) -> None:
        self.identity: ServerIdentity | None = None
        self.eras: tuple[Era, ...] = ()
        """Eras this child was seen to answer in, the session's own first."""
        self.ended = ""
        """Why it ended; empty while it lives."""
        self._settings = settings
        self._log = log
        self._last_words = Tail(_LAST_WORDS_BYTES)
        self._on_gone = on_gone
        self._child: Child | None = None
        self._log_rank = len(LOG_LEVELS)
        self._peer = Peer(self._send, on_change=on_change, cap_s=settings.timeout_cap_s)

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._child.pid if self._child is not None else None

    @property
    def peer(self) -> Peer:
        """The connection to the child."""
        return self._peer

    async def start(self, environment: Mapping[str, str], groups: ChildGroups) -> None:
        """Start the child. Raises Misconfigured or Unreachable."""
        spec = ChildSpec(
            command=self._settings.command,
            environment={**self._settings.env, **environment},
            cwd=self._settings.cwd,
        )
        self._child = await Child.start(
            spec, groups, on_frame=self._take, on_log=self._take_log, on_end=self._end
        )

    async def open_modern(self, timeout_s: float) -> None:
        """Make sure that it speaks our modern revision. Raises ConnectorError."""
        params = discover_params()
        result = await self._peer.ask(
            "server/discover", params, timeout_s=timeout_s, cancellable=False
        )
        self._adopt(identity_of_discovery(result, "stdio"))

    async def open_legacy(self, client_capabilities: Raw, timeout_s: float) -> None:
        """Shake hands, declaring ``client_capabilities``. Raises ConnectorError."""
        params = initialize_params(client_capabilities)
        result = await self._peer.ask("initialize", params, timeout_s=timeout_s, cancellable=False)
        self._adopt(identity_of_initialization(result, "stdio"))
        self._peer.notify("notifications/initialized")

    async def open_any(self, client_capabilities: Raw) -> None:
        """Find out the era: ``server/discover`` first, else ``initialize`` (mcp.md C1).

        A server may be slow to start, so silence is no verdict: the probe stays open while the
        handshake is tried, and a server that a late probe made modern says so by its error. Raises
        ConnectorError.
        """
        give_up_at = current_time() + self._settings.start_timeout_s
        probe = self._peer.request(
            "server/discover",
            discover_params(),
            timeout_s=self._settings.start_timeout_s,
            cancellable=False,
        )
        try:
            end = await probe.wait(self._settings.probe_timeout_s)
            if isinstance(end, Result):
                try:
                    self._adopt(identity_of_discovery(end.body, "stdio"))
                except ProtocolViolation:
                    pass  # no proof of the modern era: it is asked for the other
                else:
                    return
            elif end is not None and end.kind in {"disconnected", "unreachable"}:
                result_of("server/discover", end)
            await self._open_after_probe(client_capabilities, give_up_at)
            if isinstance(probe.end, Result):
                self._note_late_discovery(probe.end)
        finally:
            probe.give_up("The probe is over.")

    def exchange(self, request: Request, *, interactive: bool) -> Exchange:
        """A caller's request; see :meth:`connectors.jsonrpc_peer.Peer.exchange`."""
        return self._peer.exchange(request, interactive=interactive)

    async def ask(self, method: str, params: Mapping[str, Raw]) -> Raw:
        """A request of discovery or listing, and its result. Raises ConnectorError."""
        return await self._peer.ask(
            method, self.stamped(params), timeout_s=self._settings.timeout_s
        )

    def stamped(self, params: Mapping[str, Raw]) -> Mapping[str, Raw]:
        """Parameters of our own requests with the envelope of this session's era."""
        if self._peer.era == "legacy":
            return params
        return with_meta(params, modern_meta(self._peer.revision, LISTING_CAPABILITIES))

    def offers(self, feature: str, flag: str = "") -> bool:
        """Whether the server declared a protocol capability, or one flag of it."""
        if self.identity is None:
            return False
        declared = decode_members(self.identity.protocol_capabilities).get(feature)
        if declared is None or not flag:
            return declared is not None
        try:
            return bytes(decode_members(declared).get(flag, b"")) == b"true"
        except msgspec.DecodeError:
            return False

    async def allow_logs(self, level: str) -> None:
        """Have a legacy server send log messages from ``level`` on; it is never made quieter again.

        Sessions are shared and levels are not, so each request's own level filters what comes. A
        server that refuses keeps its own choice.
        """
        rank = severity(level)
        if self._peer.era == "modern" or not 0 <= rank < self._log_rank:
            return
        self._log_rank = rank
        if self.offers("logging"):
            try:
                await self._peer.ask(
                    "logging/setLevel", {"level": raw(level)}, timeout_s=LOG_LEVEL_S
                )
            except ConnectorError:
                return

    async def stop(self) -> None:
        """End the child and its process group; bounded to 5 s. Idempotent."""
        self.ended = self.ended or "It was stopped."
        self._peer.disconnect("The child was stopped.")
        if self._child is not None:
            await self._child.stop()

    def failure_of(self, error: ConnectorError) -> StartFailed:
        """Why opening failed, in words for an administrator: with the last ones of the child."""
        name = " ".join(self._settings.command[:3])
        words = "\n".join(self._last_words.lines)
        said = f" It wrote:\n{words}" if words else " It wrote nothing to its standard error."
        return StartFailed(f"{name} did not start as an MCP server. {error}{said}")

    async def _open_after_probe(self, client_capabilities: Raw, give_up_at: float) -> None:
        try:
            await self.open_legacy(client_capabilities, _left(give_up_at))
        except ErrorAnswer as error:
            if error.code != UNSUPPORTED_REVISION:
                raise
            await self.open_modern(_left(give_up_at))

    def _note_late_discovery(self, discovery: Result) -> None:
        try:
            identity_of_discovery(discovery.body, "stdio")
        except ProtocolViolation:
            return
        self.eras = (*self.eras, "modern")

    def _adopt(self, identity: ServerIdentity) -> None:
        self.identity = identity
        self._peer.revision = identity.revisions[0]
        self.eras = (era_of(identity.revisions[0]),)

    def _send(self, frame: bytes) -> None:
        if self._child is None:
            raise Unreachable("The child was not started.")
        self._child.send(frame)

    def _take(self, frame: bytes) -> None:
        if not self._peer.receive(frame):
            self._log.add(b"(standard output) " + frame[:MAX_LOG_LINE_BYTES])

    def _take_log(self, line: bytes) -> None:
        self._log.add(line)
        self._last_words.add(line)

    def _end(self, reason: str) -> None:
        self.ended = reason
        self._peer.disconnect(reason)
        self._on_gone(self)


def _left(until: float) -> float:
    return max(0.1, until - current_time())
