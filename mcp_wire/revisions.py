"""Protocol revisions and the two eras they belong to."""

from typing import Final, Literal

Era = Literal["legacy", "modern"]
"""``legacy`` begins with a handshake (``initialize``); ``modern`` has an envelope on each request."""

LEGACY_REVISIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Handshake revisions, oldest first."""

MODERN_REVISIONS: Final = ("2026-07-28",)
"""Envelope revisions, oldest first."""

REVISIONS: Final = (*LEGACY_REVISIONS, *MODERN_REVISIONS)
LATEST_LEGACY: Final = LEGACY_REVISIONS[-1]
LATEST_MODERN: Final = MODERN_REVISIONS[-1]
ASSUMED_LEGACY: Final = "2025-03-26"
"""What a legacy HTTP request without a version header speaks (2025-06-18 transports, Protocol Version Header)."""


def era_of(revision: str) -> Era:
    """The era of a known revision; an unknown one is taken for legacy, the era that can negotiate."""
    return "modern" if revision in MODERN_REVISIONS else "legacy"


def at_least(revision: str, minimum: str) -> bool:
    """Whether a known revision is as new as ``minimum``; an unknown one never is."""
    return revision in REVISIONS and REVISIONS.index(revision) >= REVISIONS.index(minimum)


def negotiate(requested: str) -> str:
    """The revision to answer an ``initialize`` with: the one asked for, else our latest legacy one.

    Source: 2025-11-25 lifecycle, Version Negotiation.
    """
    return requested if requested in LEGACY_REVISIONS else LATEST_LEGACY
