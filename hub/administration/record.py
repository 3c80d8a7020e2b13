"""The record, as administrators and auditors look into it."""

from datetime import datetime
from typing import Any

import anyio
import msgspec
from pydantic import Field

from hub.administration.authority import is_platform
from hub.administration.desk import Desk, Shape
from hub.audit.pages import page
from hub.audit.reading import Filters, Recorded
from hub.domain.principal import Principal
from hub.domain.record import EntryOutcome
from hub.errors import ConfigurationError, StoreUnavailableError

MAX_ENTRIES = 1000
"""Entries in one answer."""


class EntriesRequest(Shape):
    """Which entries are wanted; what is absent may be anything."""

    principal: str = ""
    group: str = Field("", description="A group that the principal was in.")
    capability: str = Field("", description="Exposed or original name, or upstream/original.")
    virtual_server: str = ""
    outcome: EntryOutcome | None = Field(None, description="How the call ended.")
    rule: str = Field(
        "", description="A guardrail, limit or budget that acted: its name, or name=action."
    )
    since: datetime | None = Field(None, description="From this moment on.")
    until: datetime | None = Field(None, description="Before this moment.")
    text: str = Field("", description="Text that occurs in the entry.")
    limit: int = Field(100, ge=1, le=MAX_ENTRIES, description="How many, newest first.")
    cursor: str = Field("", description="Goes on behind an answer; the filters are the same.")


class Entries(Shape):
    """Entries, newest first."""

    items: tuple[dict[str, Any], ...]
    cursor: str = Field("", description="Asks for those that follow; empty: there are no more.")


async def entries(
    desk: Desk, principal: Principal, tenant: str, request: EntriesRequest
) -> Entries:
    """Entries of the record, newest first; platform administrators see every tenant's.

    Raises ConfigurationError for a time without a zone, or a cursor that is none.
    """
    record = desk.record
    if record is None:
        raise StoreUnavailableError("There is no record here.")
    for moment in (request.since, request.until):
        if moment is not None and moment.tzinfo is None:
            raise ConfigurationError("Times need a zone: 2026-11-21T09:00:00Z.")
    filters = Filters(
        tenant="" if is_platform(principal) else tenant,
        principal=request.principal,
        group=request.group,
        capability=request.capability,
        virtual_server=request.virtual_server,
        outcome=request.outcome,
        rule=request.rule,
        since=request.since,
        until=request.until,
        text=request.text,
    )
    try:
        found = await anyio.to_thread.run_sync(page, record, filters, request.limit, request.cursor)
    except ValueError as error:
        raise ConfigurationError("'cursor' is not one that an answer gave.") from error
    return Entries(items=tuple(map(_shown, found.items)), cursor=found.cursor)


def _shown(item: Recorded) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(item.entry)
    return {**shown, "writer": item.writer, "sequence": item.sequence, "hash": item.hash}
