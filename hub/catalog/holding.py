"""Definitions that guardrails hold back: they are known, and neither listed nor callable."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from hub.catalog.definitions import Definitions, Described
from hub.catalog.steps import Steps
from hub.domain.catalog import Kind, UpstreamListing

Screen = Callable[[bytes], str]
"""Takes the JSON of a definition; why it is held, or nothing. Compared by identity."""

_INSTRUCTIONS: Final = "instructions"


class Screening:
    """What a screen let through of one upstream's definitions, and of which it is the result."""

    __slots__ = ("found", "held", "passed", "screen")

    def __init__(
        self, found: Definitions, screen: Screen, passed: Definitions, held: tuple[str, ...]
    ) -> None:
        self.found = found
        self.screen = screen
        self.passed = passed
        self.held = held
        """What is held and why, one sentence each."""

    def is_of(self, found: Definitions, screen: Screen) -> bool:
        """Whether it is the result of these very two."""
        return self.found is found and self.screen is screen


def screened(found: Definitions, screen: Screen) -> Steps[Screening]:
    """Look at every definition, and at what the upstream tells models about itself."""
    held: list[str] = []
    by_kind: dict[Kind, tuple[Described, ...]] = {}
    for kind, definitions in found.by_kind.items():
        passed: list[Described] = []
        for described in definitions:
            yield
            reason = screen(bytes(described.definition.body))
            if reason:
                held.append(f"{kind} '{described.name}' is held: {reason}")
            else:
                passed.append(described)
        by_kind[kind] = tuple(passed)
    listing = _without_hostile_instructions(found.listing, screen, held)
    if not held:
        return Screening(found, screen, found, ())
    return Screening(found, screen, found.only(listing, by_kind), tuple(held))


def _without_hostile_instructions(
    listing: UpstreamListing, screen: Screen, held: list[str]
) -> UpstreamListing:
    instructions = listing.identity.instructions
    if not instructions:
        return listing
    reason = screen(msgspec.json.encode({_INSTRUCTIONS: instructions}))
    if not reason:
        return listing
    held.append(f"its instructions are held: {reason}")
    return replace(listing, identity=replace(listing.identity, instructions=""))
