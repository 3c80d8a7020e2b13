"""The one protocol every connector speaks, and the plain types it exchanges."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, runtime_checkable

from msgspec import Raw, Struct

from connectors.outcome import Outcome
from mcp_wire.jsonrpc import EMPTY_OBJECT

Kind = Literal["tool", "resource", "template", "prompt"]


class Credential(Struct, frozen=True):
    """How a request authenticates upstream. Sessions and pools are kept per (id, version).

    ``headers`` go on HTTP requests, ``environment`` into stdio children; ``repr`` shows neither.
    """

    id: str = "static"
    version: int = 0
    headers: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Credential({self.id!r}, version={self.version})"


class Request(Struct, frozen=True, kw_only=True):
    """One request in the upstream's own names; connectors add what their wire needs."""

    method: str
    """``tools/call``, ``resources/read``, ``prompts/get``, ``completion/complete``."""
    params: Mapping[str, Raw]
    """Parameters without ``_meta``."""
    name: str = ""
    """Original tool or prompt name, or URI: what routing headers carry."""
    meta: Mapping[str, Raw] = {}
    """The caller's vendor ``_meta`` keys, forwarded; never reserved keys nor a progress token."""
    revision: str
    """The caller's revision. A connector whose upstream speaks both eras uses the caller's."""
    client_capabilities: Raw = EMPTY_OBJECT
    """What the caller declared, narrowed to what can be relayed to it."""
    client_info: Raw | None = None
    wants_progress: bool = False
    log_level: str | None = None
    """The least severe log messages wanted; None: a modern caller wants none, a legacy one takes what
    a legacy upstream sends of its own accord."""
    param_headers: Mapping[tuple[str, ...], str] = {}
    """``x-mcp-header`` map of the upstream's own schema: property path -> header token."""
    affinity: str = ""
    """Callers with the same text share upstream conversation state; empty: anyone may share."""
    timeout_s: float = 60.0
    """Until the first sign of life and between signs of progress; the cap is the connector's."""
    traceparent: str | None = None


class ServerIdentity(Struct, frozen=True, kw_only=True):
    """What opening an upstream told about it."""

    revisions: tuple[str, ...]
    """Revisions it was seen to speak, preferred first; one of each era at the most is used."""
    name: str = ""
    version: str = ""
    instructions: str = ""
    protocol_capabilities: Raw = EMPTY_OBJECT
    transport: str = ""
    """``http``, ``sse``, ``stdio``, ``openapi``: what was found, for status pages."""


class Listing(Struct, frozen=True, kw_only=True):
    """Everything an upstream offers, each definition as it was received."""

    tools: tuple[Raw, ...] = ()
    resources: tuple[Raw, ...] = ()
    templates: tuple[Raw, ...] = ()
    prompts: tuple[Raw, ...] = ()
    ttl_ms: int | None = None
    """The shortest life a modern upstream gave its lists; None where it gave none."""
    public: bool = False
    """Whether every page said ``cacheScope: public``."""


class Change(Struct, frozen=True):
    """Something an upstream announced without being asked."""

    what: Literal["tools", "resources", "prompts", "resource", "elicitation", "closed"]
    uri: str = ""
    """The resource that was updated, for ``resource``; for ``elicitation`` the id of the one that is over."""
    affinity: str = ""
    """Whom alone it concerns, for ``elicitation``: the :attr:`Request.affinity` of who was asked."""


OnChange = Callable[[Change], None]
"""Called on the event loop; returns at once."""


@runtime_checkable
class Conversing(Protocol):
    """A connector whose upstream keeps conversations with callers, and may know their roots."""

    def roots_changed(self, affinity: str) -> None:
        """The roots of the callers of this affinity changed; their conversations are told, no others."""
        ...

    def left(self, affinity: str) -> None:
        """The caller of this affinity will not come back: conversations that rest are ended now."""
        ...


class Connector(Protocol):
    """One upstream. Safe for concurrent use; every method but ``close`` may be retried.

    ``open`` and ``list`` raise :class:`connectors.errors.ConnectorError`; ``invoke`` never raises for
    what the upstream does: that is a Failure event.
    """

    async def open(self) -> ServerIdentity:
        """Connect, find out the era, and start listening for changes. Idempotent."""
        ...

    async def list(self) -> Listing:
        """Fetch all definitions, every page of every kind the upstream has."""
        ...

    def invoke(self, request: Request, credential: Credential) -> Outcome:
        """Send one request; nothing is sent before the first event is awaited."""
        ...

    async def watch(self, uris: frozenset[str]) -> frozenset[str]:
        """Keep announcing updates of exactly these resources; returns those the upstream honours."""
        ...

    async def close(self) -> None:
        """Let go of sockets, sessions and children; bounded to 5 s. Idempotent."""
        ...
