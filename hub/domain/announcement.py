"""What running parts announce to open streams: hints that something changed, never the change."""

from typing import Literal

from msgspec import Struct

ListKind = Literal["tools", "resources", "prompts"]
"""Lists that can change; ``resources`` stands for resource templates too."""

LIST_KINDS: tuple[ListKind, ...] = ("tools", "resources", "prompts")


class ListChanged(Struct, frozen=True, gc=False):
    """A list may have changed. Whoever passes it on compares what its own caller sees."""

    tenant: str
    kind: ListKind
    virtual_server: str | None = None
    """None: every virtual server of the tenant."""


class ResourceUpdated(Struct, frozen=True, gc=False):
    """A resource has new content."""

    tenant: str
    virtual_server: str
    uri: str
    """As this virtual server exposes it."""


class ElicitationCompleted(Struct, frozen=True, gc=False):
    """What a legacy upstream asked by URL is settled; of interest to the one session that was asked."""

    session: str
    """Nonce of that session."""
    elicitation: str


Announcement = ListChanged | ResourceUpdated | ElicitationCompleted
