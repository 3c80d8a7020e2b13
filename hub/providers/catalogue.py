"""Answers what a caller asks about a virtual server as a whole: lists, discovery, subscriptions.

Lists come from encoded bytes and wait for no upstream. They are joined on first use for each virtual
server, view and revision, never for one principal; only the states of upstreams are said anew.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from hub.admission import Admitted
from hub.cache import Page, PageCache, join
from hub.catalog.search import ToolSearch
from hub.catalog.views import instructions_for, listed, protocol_capabilities_for, states_for
from hub.domain.catalog import Kind, VirtualServer
from hub.domain.grant import View
from hub.domain.outcome import Outcome, Refusal, Result
from hub.providers.immediate import Immediate, Ready
from hub.providers.searching import find_tools
from mcp_wire.codes import META_UPSTREAMS
from mcp_wire.jsonrpc import EMPTY_OBJECT, NULL, encode, raw, string_of

_PURPOSE: Final = "list cursor"
_MEMBERS: Final[Mapping[Kind, bytes]] = {
    "tool": b"tools",
    "resource": b"resources",
    "template": b"resourceTemplates",
    "prompt": b"prompts",
}
_META: Final = encode(META_UPSTREAMS)


class Sealer(Protocol):
    """Makes and reads tokens that only this installation can make."""

    def seal(self, content: bytes, *, purpose: str, associated: bytes = b"") -> str:
        """A token of visible ASCII."""
        ...

    def unseal(self, token: str, *, purpose: str, associated: bytes = b"") -> bytes | None:
        """What was sealed; None for whatever was not."""
        ...


class Catalogue:
    """See ``hub.pipeline.Provider``. Calls that only had to be authorized get an empty result."""

    def __init__(self, sealer: Sealer, search: ToolSearch, pages: PageCache) -> None:
        self._sealer = sealer
        self._search = search
        self._pages = pages

    def invoke(self, admitted: Admitted) -> Outcome:
        """The answer, worked out when it is asked for; a bad cursor raises Refusal ``invalid``."""
        call, server, view = admitted.call, admitted.virtual_server, admitted.view
        if server is None or view is None:
            raise ValueError("a call that reaches no virtual server has no catalogue")
        if call.action == "search":
            arguments = {
                name: msgspec.json.decode(value) for name, value in admitted.params.items()
            }
            return Immediate(lambda: find_tools(self._search, server, view, arguments))
        return Ready(lambda: self._answer(admitted, server, view))

    def _answer(self, admitted: Admitted, server: VirtualServer, view: View) -> Result:
        call = admitted.call
        kind = call.target.kind
        if call.action == "list" and (
            kind == "tool" or kind == "resource" or kind == "template" or kind == "prompt"
        ):
            return self._list(admitted, server, view, kind)
        if call.action == "discover":
            return Result(raw(_discovered(admitted, server, view)))
        return Result(EMPTY_OBJECT)

    def _list(self, admitted: Admitted, server: VirtualServer, view: View, kind: Kind) -> Result:
        bound = f"{server.tenant}\0{server.name}\0{kind}".encode()
        after = self._after(admitted.params.get("cursor"), bound)
        page = self._page(server, view, kind, after)
        states = encode(states_for(server, view, admitted.tenant.statuses))
        shown = page.shown.get(states)
        if shown is None:
            page.shown.clear()
            body = _body(kind, page, states, self._cursor(page, bound))
            shown = page.shown[states] = Result(body, forms={})
        return shown

    def _cursor(self, page: Page, bound: bytes) -> bytes:
        """Where the next page begins; holds as long as our keys do, and is nobody's own."""
        if page.last is None:
            return b""
        token = self._sealer.seal(page.last.encode(), purpose=_PURPOSE, associated=bound)
        return b',"nextCursor":%b' % encode(token)

    def _after(self, cursor: Raw | None, bound: bytes) -> str | None:
        if cursor is None or cursor == NULL:
            return None
        token = string_of(cursor)
        last = None
        if token is not None:
            last = self._sealer.unseal(token, purpose=_PURPOSE, associated=bound)
        if last is None:
            raise Refusal("invalid", "Unknown cursor.", cause="cursor")
        return last.decode()

    def _page(self, server: VirtualServer, view: View, kind: Kind, after: str | None) -> Page:
        key = (server.tenant, server.name, server.revision, kind, view.id, after)
        page = self._pages.get(key)
        if page is None:
            shown = listed(server, view, kind, after)
            page = join((exposure.name, exposure.fragment) for exposure in shown)
            self._pages.put(key, page)
        return page


def _body(kind: Kind, page: Page, states: bytes, cursor: bytes) -> Raw:
    parts = (_MEMBERS[kind], page.items, cursor, _META, states)
    return Raw(b'{"%b":%b%b,"_meta":{%b:%b}}' % parts)


def _discovered(admitted: Admitted, server: VirtualServer, view: View) -> dict[str, Any]:
    found: dict[str, Any] = {
        "capabilities": protocol_capabilities_for(server, view, admitted.tenant.statuses),
        "title": server.title,
    }
    instructions = instructions_for(server, view)
    if instructions:
        found["instructions"] = instructions
    return found
