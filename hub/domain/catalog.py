"""What can be used: upstream capabilities, how they are exposed, and virtual servers."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw, Struct

from connectors.protocol import Kind, Listing, ServerIdentity
from hub.domain.desired import ArgumentRule, Presentation

__all__ = [
    "KINDS",
    "SYSTEM_BIT",
    "SYSTEM_UPSTREAM",
    "SYSTEM_VIRTUAL_SERVER",
    "CapabilityId",
    "Definition",
    "Exposure",
    "Kind",
    "Listing",
    "NameClaim",
    "ServerIdentity",
    "UpstreamListing",
    "UpstreamState",
    "UpstreamStatus",
    "VirtualServer",
]

SYSTEM_UPSTREAM = "portico"
"""Reserved upstream name: capabilities that Portico itself answers."""

SYSTEM_VIRTUAL_SERVER = "portico"
"""The virtual server with nothing but Portico's own tools; everyone who is identified may enter."""

SYSTEM_BIT = 1 << 62
"""Stands for "in no bitmap": Portico's own tools are allowed by virtual server, not by view."""

KINDS: tuple[Kind, ...] = ("tool", "resource", "template", "prompt")


class CapabilityId(Struct, frozen=True, gc=False, order=True):
    """Identity of a definition: where it comes from and its original name (URI, URI template)."""

    upstream: str
    kind: Kind
    name: str


class Definition(Struct, frozen=True, gc=False):
    """One capability as its upstream describes it."""

    id: CapabilityId
    digest: str
    """SHA-256 over the definition's canonical JSON, hexadecimal."""
    body: Raw


class NameClaim(Struct, frozen=True, gc=False):
    """One row of the name ledger: the only capability that may ever bear this exposed name.

    At most one row per tenant, ``virtual_server``, ``capability.kind`` and ``name``; rows are added
    and never changed.
    """

    virtual_server: str
    name: str
    """Exposed name, case-folded for tools and prompts, so that it is unique in every case; the
    exposed URI or URI template as it is for resources and templates."""
    capability: CapabilityId


class UpstreamListing(Struct, frozen=True, kw_only=True):
    """The last known good listing of one upstream; what is persisted."""

    upstream: str
    identity: ServerIdentity
    listing: Listing
    listed_at: str
    """RFC 3339, UTC."""


UpstreamState = Literal["pending", "live", "stale", "down", "disabled"]
"""``stale``: answered before, not now; its last listing is served. ``down``: never listed."""


class UpstreamStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an upstream is doing; state is desired, liveness is this."""

    upstream: str
    state: UpstreamState
    since: str = ""
    error: str = ""
    """For administrators; callers see ``state`` and ``since`` of their own view."""
    problems: tuple[str, ...] = ()
    """Definitions that were left out, and why."""


class Exposure(Struct, frozen=True, kw_only=True, gc=False):
    """How one capability appears in one virtual server."""

    name: str
    """Exposed name, URI or URI template: what callers say and grants name."""
    kind: Kind
    capability: CapabilityId
    digest: str
    bit: int
    """Its place in every view's bitmap."""
    default_bit: int | None = None
    """The bit of its appearance in the virtual server ``default``, which a grant on this one gives
    as well; None for what only ``default`` exposes."""
    fragment: bytes
    """The encoded definition as listed, exposed name and overrides applied."""
    arguments: Mapping[str, ArgumentRule] = {}
    param_headers: Mapping[tuple[str, ...], str] = {}
    """``x-mcp-header`` map of the exposed schema, validated on the modern wire."""
    upstream_param_headers: Mapping[tuple[str, ...], str] = {}
    """The same of the upstream's schema, recomputed from the final arguments."""
    destructive: bool = False
    """``destructiveHint``: the attempt itself is recorded before it is made."""
    input_schema: Raw | None = None
    """The exposed ``inputSchema`` of a tool, for search and checks."""


class VirtualServer(Struct, frozen=True, kw_only=True):
    """A compiled virtual server."""

    name: str
    tenant: str
    title: str
    revision: int = 0
    """Grows when anything of it changes; tags what is cached of it."""
    instructions: str = ""
    """Its own text; ``upstream_instructions`` of the caller's view follow it."""
    upstream_instructions: Mapping[str, str] = {}
    anonymous: bool = False
    presentation: Presentation = "full"
    tools: Mapping[str, Exposure] = {}
    """By exposed name, in listing order."""
    resources: Mapping[str, Exposure] = {}
    templates: Mapping[str, Exposure] = {}
    """By exposed URI template, most specific first."""
    prompts: Mapping[str, Exposure] = {}
    system_tools: Mapping[str, Exposure] = {}
    """Portico's own tools here, open to everyone who reaches this virtual server; never filtered."""
    upstreams: tuple[str, ...] = ()
    """Upstreams it draws on, sorted."""
    upstream_bits: Mapping[str, int] = {}
    """By upstream: the bit of views that may know of its state here."""
    upstream_features: Mapping[str, Raw] = {}
    """By upstream: the protocol capabilities it declared; absent when it was never listed."""
    upstream_revisions: Mapping[str, tuple[str, ...]] = {}
    """By upstream: revisions it speaks; absent when it was never listed."""
    shadowed: tuple[Exposure, ...] = ()
    """What ``prefix: never`` kept out because its name belongs to another capability."""
    renamed_uris: Mapping[str, Mapping[str, str]] = {}
    """By upstream: original resource URI -> exposed URI, only where they differ."""
    cacheable_publicly: bool = False

    def of_kind(self, kind: Kind) -> Mapping[str, Exposure]:
        """The exposures of one kind, by exposed name."""
        if kind == "tool":
            return self.tools
        if kind == "resource":
            return self.resources
        return self.templates if kind == "template" else self.prompts
