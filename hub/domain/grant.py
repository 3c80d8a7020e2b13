"""What was decided, and the view that makes deciding a bit test."""

from typing import Literal

from msgspec import Struct


class View(Struct, frozen=True, gc=False):
    """Which exposures principals with equal grants may use: one bit each, shared by all of them."""

    id: str
    """Digest of the grants it was made from; equal grants give the same view."""
    bits: bytes
    virtual_servers: frozenset[str] = frozenset()
    """Virtual servers of which at least one grant names something, empty or not."""

    def allows(self, bit: int) -> bool:
        """Whether the exposure with this bit may be listed, searched and called."""
        index = bit >> 3
        return index < len(self.bits) and bool(self.bits[index] >> (bit & 7) & 1)


Layer = Literal["tenant", "credential", "virtual_server", "grant", "role", "key_scope"]


class Decision(Struct, frozen=True, gc=False):
    """Allow or deny, with the layer and rule that decided; the reason is for administrators."""

    allowed: bool
    layer: Layer
    rule: str = ""
