"""Legacy session ids: sealed, holding only what never changes, so that any process can read them."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from hub.domain.principal import Principal
from hub.surfaces.mcp.collaborators import Seal
from mcp_wire.jsonrpc import raw
from mcp_wire.revisions import at_least

MAX_CAPABILITIES_BYTES: Final = 1024
MAX_ID_LENGTH: Final = 8192
_PURPOSE: Final = "mcp session"
_MAX_READ: Final = 4096
_RELAYED: Final = ("elicitation", "sampling", "roots", "extensions")
"""What of a client's protocol capabilities a legacy upstream may be told."""


class Session(Struct, frozen=True, array_like=True):
    """The constants of one session."""

    revision: str
    client_capabilities: Raw
    principal: str
    tenant: str
    virtual_server: str
    nonce: str

    def belongs_to(self, principal: Principal) -> bool:
        """Whether this principal opened it; for everybody else the id is unknown."""
        return principal.name == self.principal and principal.tenant == self.tenant


def knows_completion(session: Session) -> bool:
    """Whether its client may be told that an elicitation by URL is settled."""
    return at_least(session.revision, "2025-11-25")


_session: Final = msgspec.json.Decoder(Session)


class SessionIds:
    """Makes session ids, and reads them back."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._read: OrderedDict[str, Session] = OrderedDict()

    def seal(self, session: Session) -> str:
        """The id of a session: visible ASCII, as the ``Mcp-Session-Id`` header wants it (S18)."""
        return self._seal.seal(msgspec.json.encode(session), purpose=_PURPOSE)

    def unseal(self, session_id: str) -> Session | None:
        """The session an id stands for; None for ids that were not made here."""
        session = self._read.get(session_id)
        if session is not None:
            self._read.move_to_end(session_id)
            return session
        if len(session_id) > MAX_ID_LENGTH:
            return None
        content = self._seal.unseal(session_id, purpose=_PURPOSE)
        if content is None:
            return None
        session = _session.decode(content)
        self._read[session_id] = session
        if len(self._read) > _MAX_READ:
            self._read.popitem(last=False)
        return session


def relayed_capabilities(declared: Mapping[str, Raw]) -> Raw:
    """What of a legacy client's protocol capabilities is kept: what can be relayed, in 1 KiB."""
    kept = {name: declared[name] for name in _RELAYED if name in declared}
    if len(raw(kept)) > MAX_CAPABILITIES_BYTES:
        kept = {name: raw({}) for name in kept if name != "extensions"}
    return raw(kept)
