"""Exposed names: a pure function of configuration and the stored name ledger.

Who comes first keeps the plain name, later ones get their upstream's prefix. The ledger only grows:
a name that was assigned once is never given to another capability, so that a grant or a client's
memory of a name cannot come to mean something else. Neither the caller, nor the order of upstreams,
nor whether they are up has a say.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Final, Protocol
from urllib.parse import quote

from msgspec import Struct

from hub.domain.catalog import CapabilityId, Exposure, Kind, NameClaim
from hub.domain.desired import Prefix

MAX_LENGTH: Final = 48
"""Clients put ``mcp__<server>__`` in front, and some language models stop at 64 (mcp.md §5)."""

_HASH_LENGTH: Final = 6
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]")
_URI_SCHEME: Final = "portico://"


class NameLedger(Protocol):
    """Where assignments of names are kept for good; shared by all replicas."""

    async def load(self, tenant: str) -> Sequence[NameClaim]:
        """Every row of a tenant."""
        ...

    async def claim(self, tenant: str, claims: Sequence[NameClaim]) -> Sequence[NameClaim]:
        """Keep the claims on names that are free, in one transaction.

        Returns the rows now in force for the claimed names, in the order of ``claims``: one that
        was taken before, by whomever, comes back with its owner.
        """
        ...


class MemoryLedger:
    """A name ledger that lasts as long as the process: for planning, embedding and measuring."""

    def __init__(self, claims: Iterable[NameClaim] = ()) -> None:
        self._rows: dict[str, dict[tuple[str, Kind, str], NameClaim]] = {}
        self._first = tuple(claims)

    async def load(self, tenant: str) -> Sequence[NameClaim]:
        """Every row of a tenant; the rows given at first are every tenant's."""
        return tuple(self._of(tenant).values())

    async def claim(self, tenant: str, claims: Sequence[NameClaim]) -> Sequence[NameClaim]:
        """See :class:`NameLedger`."""
        rows = self._of(tenant)
        return [rows.setdefault(_key_of(claim), claim) for claim in claims]

    def _of(self, tenant: str) -> dict[tuple[str, Kind, str], NameClaim]:
        return self._rows.setdefault(tenant, {_key_of(claim): claim for claim in self._first})


class Wish(Struct, frozen=True, kw_only=True, gc=False):
    """What an exposure would like to be called."""

    virtual_server: str
    capability: CapabilityId
    name: str
    """The name, URI or URI template without any prefix."""
    explicit: bool = False
    """Written by an administrator: ``prefix: always`` leaves it alone."""
    variant: str = ""
    """Tells apart several exposures of one capability in one virtual server."""


class Names:
    """The ledger of one tenant as far as it is known here, and what is claimed on top of it.

    New assignments are drafts until :meth:`keep` takes the rows that the ledger answered.
    """

    def __init__(self, claims: Iterable[NameClaim] = ()) -> None:
        self._owners = {_key_of(claim): claim.capability for claim in claims}
        self._drafts: dict[tuple[str, Kind, str], NameClaim] = {}

    @property
    def drafts(self) -> tuple[NameClaim, ...]:
        """Claims that the ledger has to confirm."""
        return tuple(self._drafts.values())

    def discard(self) -> None:
        """Forget the drafts."""
        self._drafts.clear()

    def keep(self, rows: Sequence[NameClaim]) -> bool:
        """Take the ledger's answer to some of the drafts; False when a name was another's already."""
        kept = True
        for row in rows:
            key = _key_of(row)
            kept = self._drafts.pop(key, None) == row and kept
            self._owners[key] = row.capability
        return kept

    def assign(self, wish: Wish, prefix: Prefix, taken: set[str]) -> str | None:
        """The exposed name for ``wish``; None when ``prefix: never`` cannot give it.

        ``taken`` are the folded names that are spoken for in this virtual server: Portico's own
        tools, and other exposures of the same capability. The name is added to it.
        """
        kind = wish.capability.kind
        for name in candidates(wish, prefix):
            folded = fold(kind, name)
            if folded in taken:
                continue
            key = (wish.virtual_server, kind, folded)
            owner = self.owner(*key)
            if owner is None:
                self._drafts[key] = NameClaim(wish.virtual_server, folded, wish.capability)
            elif owner != wish.capability:
                continue
            taken.add(folded)
            return name
        return None

    def owner(self, virtual_server: str, kind: Kind, folded: str) -> CapabilityId | None:
        """Whose name this is, drafts included."""
        key = (virtual_server, kind, folded)
        draft = self._drafts.get(key)
        return draft.capability if draft is not None else self._owners.get(key)


def original_uri(exposure: Exposure, uri: str) -> str:
    """The upstream's URI behind an exposed one, or behind an expansion of an exposed template."""
    original = exposure.capability.name
    if exposure.name == original or not exposure.name.endswith(original):
        return uri
    return uri.removeprefix(exposure.name.removesuffix(original))


def fold(kind: Kind, name: str) -> str:
    """What must be unique of a name: its letters in any case; a URI is compared as it is."""
    return name if kind in ("resource", "template") else name.casefold()


def candidates(wish: Wish, prefix: Prefix) -> Iterator[str]:
    """Names for ``wish`` in order of preference; without end, but for ``prefix: never``."""
    if wish.capability.kind in ("resource", "template"):
        return _uri_candidates(wish, prefix)
    return _name_candidates(wish, prefix)


def legal(text: str, identity: str) -> str:
    """``text`` as an exposed name: foreign characters become ``_``, what is too long is hashed.

    ``identity`` goes into the hash, so that two long names with one beginning stay apart.
    """
    name = _ILLEGAL.sub("_", text)
    if not name:
        name = "_"
    return name if len(name) <= MAX_LENGTH else _hashed(name, identity)


def _name_candidates(wish: Wish, prefix: Prefix) -> Iterator[str]:
    upstream, identity = wish.capability.upstream, _identity(wish)
    if prefix != "always" or wish.explicit:
        yield legal(wish.name, identity)
    if prefix == "never":
        return
    yield legal(f"{upstream}_{wish.name}", identity)
    if wish.variant:
        yield legal(f"{upstream}_{wish.variant}_{wish.name}", identity)
    name = _ILLEGAL.sub("_", f"{upstream}_{wish.name}")
    for attempt in count():
        yield _hashed(name, f"{identity}\0{attempt}")


def _uri_candidates(wish: Wish, prefix: Prefix) -> Iterator[str]:
    """URIs keep their text where they can: those inside of texts are never rewritten (mcp.md row 15).

    A prefix is put in front of the whole, so that taking it away gives the upstream's URI, or an
    expansion of its template, back.
    """
    yield wish.name
    if prefix == "never":
        return
    upstream = quote(wish.capability.upstream, safe="")
    yield f"{_URI_SCHEME}{upstream}/{wish.name}"
    for attempt in count():
        variant = _hash(f"{_identity(wish)}\0{attempt}")
        yield f"{_URI_SCHEME}{upstream}.{variant}/{wish.name}"


def _hashed(name: str, identity: str) -> str:
    return f"{name[: MAX_LENGTH - _HASH_LENGTH - 1]}_{_hash(identity)}"


def _hash(identity: str) -> str:
    digest = hashlib.sha256(identity.encode(errors="surrogatepass")).digest()
    return base64.b32encode(digest)[:_HASH_LENGTH].decode().lower()


def _identity(wish: Wish) -> str:
    capability = wish.capability
    return "\0".join((
        capability.upstream, capability.kind, capability.name, wish.name, wish.variant
    ))  # fmt: skip


def _key_of(claim: NameClaim) -> tuple[str, Kind, str]:
    return claim.virtual_server, claim.capability.kind, claim.name
