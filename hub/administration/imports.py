"""Upstreams from files that others wrote.

Known are clients' ``mcpServers`` and their like, the MCP registry's ``server.json``, and OpenAPI
documents.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import anyio.to_thread
from msgspec.structs import replace
from pydantic import Field

from hub.administration import objects
from hub.administration.authority import check_upstream, is_platform
from hub.administration.client_files import parse_foreign, read_client_file, servers_in
from hub.administration.desk import Desk, Shape
from hub.administration.differences import is_same
from hub.administration.imported import Imported, Surroundings, upstream_name
from hub.administration.registry_entries import Preference, read_registry_entries, registry_entries
from hub.administration.upstreams import shown_section
from hub.config.conversion import section_of
from hub.config.models import UpstreamSection
from hub.domain.desired import UpstreamSpec
from hub.domain.principal import Principal
from hub.stores.objects import Change, Stored

Outcome = Literal["added", "changed", "unchanged"]


class ImportRequest(Shape):
    """A foreign file."""

    text: str = Field(description="Its text: JSON, TOML or YAML.")
    path: str = Field("", description="Where it lies; its folder is where relative paths start.")
    prefer: Preference = Field(
        "remote", description="Of a registry entry that has both: its URL, or its package."
    )
    dry_run: bool = Field(False, description="Only show what would be taken.")


class ImportedUpstream(UpstreamSection):
    """An upstream that was read."""

    name: str
    outcome: Outcome


class ImportNote(Shape):
    """Something about an entry: left out, or to be done before it works."""

    name: str
    message: str


class ImportAnswer(Shape):
    """What a foreign file gave."""

    upstreams: tuple[ImportedUpstream, ...] = ()
    notes: tuple[ImportNote, ...] = ()


def read_foreign(
    text: str,
    *,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    prefer: Preference = "remote",
) -> Imported:
    """The upstreams in a foreign file, and notes about them.

    ``environ`` fills variables in addresses and arguments. Raises ConfigurationError when the file
    cannot be read or nothing in it is known.
    """
    document = parse_foreign(text, path.name if path is not None else "")
    if path is not None and isinstance(document, dict) and "openapi" in document:
        return _described(path)
    entries = [] if servers_in(document) else registry_entries(document)
    if entries:
        return read_registry_entries(entries, prefer)
    return read_client_file(document, Surroundings(path, environ or {}))


async def import_upstreams(
    desk: Desk, principal: Principal, tenant: str, request: ImportRequest
) -> ImportAnswer:
    """Read a foreign file and keep its upstreams; a second time changes only what changed.

    Raises ConfigurationError, ForbiddenError, and ConflictError when a file owns one of them.
    """
    path = Path(request.path) if request.path else None
    if path is not None and not is_platform(principal):
        path = Path(path.name)
    read = partial(read_foreign, request.text, path=path, prefer=request.prefer)
    imported = await anyio.to_thread.run_sync(read)
    return await keep_imported(desk, principal, tenant, imported, dry_run=request.dry_run)


async def keep_imported(
    desk: Desk, principal: Principal, tenant: str, imported: Imported, *, dry_run: bool = False
) -> ImportAnswer:
    """Keep upstreams that were read, all of them or none. Raises as :func:`import_upstreams`."""
    guarded = not is_platform(principal)
    specs = [replace(spec, guarded=guarded) for spec in imported.upstreams]
    at = desk.timestamp()

    def decide(stored: Stored) -> Change:
        put = [spec for spec in specs if _outcome(stored, spec) != "unchanged"]
        for spec in put:
            before = stored.objects.get(("upstream", spec.name))
            if before is not None:
                objects.refuse_file_owned(("upstream", spec.name), before)
            check_upstream(principal, spec)
        return Change(put=() if dry_run else tuple(put), at=at)

    stored = await objects.edit(desk, tenant, decide)
    return ImportAnswer(
        upstreams=tuple(_shown(spec, _outcome(stored, spec), principal) for spec in specs),
        notes=tuple(ImportNote(name=note.name, message=note.message) for note in imported.notes),
    )


def _described(document: Path) -> Imported:
    """An OpenAPI document: the upstream that it describes."""
    return Imported((UpstreamSpec(name=upstream_name(document.stem, {}), openapi=str(document)),))


def _outcome(stored: Stored, spec: UpstreamSpec) -> Outcome:
    item = stored.objects.get(("upstream", spec.name))
    if item is None:
        return "added"
    return "unchanged" if is_same(item.spec, spec) else "changed"


def _shown(spec: UpstreamSpec, outcome: Outcome, principal: Principal) -> ImportedUpstream:
    section = shown_section(section_of(spec), principal)
    return ImportedUpstream.model_validate({**section, "name": spec.name, "outcome": outcome})
