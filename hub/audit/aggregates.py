"""Refusals before anyone was identified: counted, and told once a minute for each source and reason."""

from datetime import datetime
from typing import Final

from hub.domain.record import Entry

OTHER_SOURCES: Final = "others"


class Aggregates:
    """Counts in bounded memory: beyond ``most_sources`` a minute, sources are counted together."""

    def __init__(self, most_sources: int = 1000) -> None:
        self._most_sources = most_sources
        self._counts: dict[tuple[str, str], int] = {}
        self._sources: set[str] = set()

    def add(self, source: str, reason: str, count: int = 1) -> None:
        """Count a refusal; ``reason`` is one of our own words, ``source`` is an address."""
        if source not in self._sources:
            if len(self._sources) < self._most_sources:
                self._sources.add(source)
            else:
                source = OTHER_SOURCES
        key = (source, reason)
        self._counts[key] = self._counts.get(key, 0) + count

    def take(self, now: datetime) -> list[Entry]:
        """One entry for each source and reason since the last time; counting begins anew."""
        counts, self._counts = self._counts, {}
        self._sources.clear()
        return [
            Entry(
                call="",
                at=now,
                tenant="",
                surface="",
                operation="refused_before_identify",
                outcome="aggregate",
                reason=reason,
                peer=source,
                count=count,
            )
            for (source, reason), count in counts.items()
        ]

    def put_back(self, entry: Entry) -> None:
        """Count again what could not be recorded."""
        self.add(entry.peer, entry.reason, entry.count)
