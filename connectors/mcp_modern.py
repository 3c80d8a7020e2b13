"""Calling an upstream of the modern era over HTTP: each request is complete in itself (2026-07-28)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw

from connectors.envelope import own_identity
from connectors.errors import ConnectorError, Misconfigured, ProtocolViolation
from connectors.handshake import LISTING_CAPABILITIES
from connectors.http_answer import (
    end_with_status,
    failure_of,
    is_answer_to,
    is_error_of,
    is_of_http,
)
from connectors.http_exchange import HttpExchange
from connectors.http_message import Headers, Heads, Response, with_body
from connectors.http_pool import HttpPool
from connectors.jsonrpc_peer import result_of
from connectors.listing import find_tool
from connectors.outcome import Failure, Result
from connectors.protocol import Change, Credential, OnChange, Request
from mcp_wire.codes import (
    HEADER_MISMATCH,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_PROGRESS,
    META_REVISION,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_REVISION,
)
from mcp_wire.headers import (
    METHOD_HEADER,
    NAME_HEADER,
    NAME_PARAMS,
    REVISION_HEADER,
    ParamHeaders,
    build_param_headers,
    encode_header_value,
    find_invalid_param_header,
    param_header_map,
)
from mcp_wire.jsonrpc import Message, decode_error, encode_request, members_of, string_of
from mcp_wire.revisions import LATEST_MODERN, MODERN_REVISIONS

MAX_ROUTINGS: Final = 4096
"""Prepared header lines that are kept; one for each tool, prompt or resource in use."""

_strings: Final = msgspec.json.Decoder(list[str])
_OF_THIS_ERA: Final = (UNSUPPORTED_REVISION, HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY)
_tool: Final = msgspec.json.Decoder(dict[str, Raw])


class ModernUpstream:
    """What the calls of one modern upstream share."""

    def __init__(
        self,
        pool: HttpPool,
        heads: Heads,
        *,
        own: Credential,
        timeout_s: float,
        cap_s: float,
        on_change: OnChange,
        on_doubt: Callable[[], None],
    ) -> None:
        self.pool = pool
        self.heads = heads
        self.own = own
        """What authenticates requests of discovery and listing."""
        self.timeout_s = timeout_s
        self.cap_s = cap_s
        self.on_change = on_change
        self.on_doubt = on_doubt
        """Told of answers that a modern upstream would not give."""
        self.revision = LATEST_MODERN
        self.identity = own_identity()
        self._last_id = 0
        self.routed: dict[tuple[str, str, str | None], bytes] = {}
        """Header lines that say where requests go, by revision, method and name."""

    def next_id(self) -> int:
        """An id that no other request of this upstream has."""
        self._last_id += 1
        return self._last_id

    def call(self, request: Request, credential: Credential) -> "ModernCall":
        """A caller's request; sent when its first event is awaited."""
        return ModernCall(self, request, credential)

    def routing(self, revision: str, method: str, name: str | None) -> bytes:
        """Header lines that say where a request goes; the few there are, are made once."""
        key = (revision, method, name)
        fields = self.routed.get(key)
        if fields is None:
            text = f"{REVISION_HEADER}: {revision}\r\n"
            text += f"{METHOD_HEADER}: {encode_header_value(method)}\r\n"
            if name is not None:
                text += f"{NAME_HEADER}: {encode_header_value(name)}\r\n"
            if len(self.routed) >= MAX_ROUTINGS:
                self.routed.clear()
            fields = self.routed[key] = text.encode("ascii")
        return fields

    async def discover(self, timeout_s: float) -> tuple[Result | Failure, Headers]:
        """How ``server/discover`` ended, with the header fields of the answer."""
        call = self._own_call("server/discover", {}, timeout_s)
        return await call.last(), call.headers

    async def ask(self, method: str, params: Mapping[str, Raw]) -> Raw:
        """The result of a request of our own. Raises ConnectorError."""
        return result_of(method, await self._own_call(method, params, self.timeout_s).last())

    async def param_headers_of(self, name: str) -> ParamHeaders:
        """The header map of a tool as it is listed now. Raises ConnectorError when it is not usable."""
        definition = await find_tool(self.ask, name)
        try:
            schema = msgspec.json.decode(_tool.decode(definition)["inputSchema"])
        except (msgspec.DecodeError, KeyError) as error:
            raise ProtocolViolation(f"the tool {name!r} has no input schema") from error
        if find_invalid_param_header(schema) is not None:
            raise ProtocolViolation(f"the tool {name!r} has headers that cannot be sent")
        return param_header_map(schema)

    def _own_call(self, method: str, params: Mapping[str, Raw], timeout_s: float) -> "ModernCall":
        """A request of our own, which takes no caller's place."""
        request = Request(
            method=method,
            params=params,
            revision=self.revision,
            client_capabilities=LISTING_CAPABILITIES,
            timeout_s=timeout_s,
        )
        return ModernCall(self, request, self.own, counted=False)


class ModernCall(HttpExchange):
    """One request: its POST, its answer, and the retries that a refusal before execution allows."""

    __slots__ = (
        "_credential",
        "_param_headers",
        "_request",
        "_retried",
        "_revision",
        "_upstream",
    )

    def __init__(
        self,
        upstream: ModernUpstream,
        request: Request,
        credential: Credential,
        *,
        counted: bool = True,
        cap_s: float | None = None,
    ) -> None:
        super().__init__(
            upstream.pool,
            (credential.id, credential.version),
            upstream.next_id(),
            timeout_s=request.timeout_s,
            cap_s=upstream.cap_s if cap_s is None else cap_s,
            counted=counted,
        )
        self.wants_progress = request.wants_progress
        self.log_level = request.log_level
        self._upstream = upstream
        self._request = request
        self._credential = credential
        self._param_headers = request.param_headers
        self._revision = upstream.revision
        self._retried: tuple[int, ...] = ()
        """Error codes that were answered with a second try."""

    def launch(self) -> Failure | None:
        """See :meth:`connectors.http_exchange.HttpExchange.launch`."""
        try:
            head = self._upstream.heads.of("POST", self._credential)
        except Misconfigured as error:
            return Failure("unreachable", str(error))
        self.post(with_body(head, self._routing(), self._body()))
        return None

    def take_answer(self, message: Message, status: int) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.take_answer`."""
        if isinstance(message.error, Raw):
            if self._may_retry(message.error):
                return
            if is_error_of(message, UNSUPPORTED_REVISION):
                self._upstream.on_doubt()
        if not is_answer_to(self.request_id, message):
            self.finish(Failure("violation", "The upstream answered another request."))
            return
        capabilities = self._request.client_capabilities
        self.finish(end_with_status(message, status, modern=True, client_capabilities=capabilities))

    def take_response(self, response: Response, message: Message | None) -> None:
        """See :meth:`connectors.http_exchange.HttpExchange.take_response`.

        A refusal that is no answer to this request shows another era.
        """
        status = response.status
        if 400 <= status < 500 and not is_of_http(status) and not self._is_of_this_era(message):
            self._upstream.on_doubt()
            self.finish(failure_of(response, message))
        else:
            super().take_response(response, message)

    def _is_of_this_era(self, message: Message | None) -> bool:
        return message is not None and (
            bytes(message.id or b"") == b"%d" % self.request_id
            or any(is_error_of(message, code) for code in _OF_THIS_ERA)
        )

    def _body(self) -> bytes:
        """The message, written in one pass; see :func:`connectors.envelope.request_params`."""
        request = self._request
        meta: dict[str, object] = {
            **request.meta,
            META_REVISION: self._revision,
            META_CLIENT_CAPABILITIES: request.client_capabilities,
            META_CLIENT_INFO: request.client_info or self._upstream.identity,
        }
        if request.wants_progress:
            meta[META_PROGRESS] = self.request_id
        if request.log_level is not None:
            meta[META_LOG_LEVEL] = request.log_level
        if request.traceparent is not None:
            meta["traceparent"] = request.traceparent
        params = {**request.params, "_meta": meta}
        return encode_request(self.request_id, request.method, params)

    def _routing(self) -> bytes:
        """The fields that repeat what the body says (2026-07-28 transports, Standard Headers)."""
        request = self._request
        fields = self._upstream.routed.get((self._revision, request.method, request.name))
        if fields is None:
            member = NAME_PARAMS.get(request.method)
            name = None
            if member is not None:
                name = request.name or string_of(request.params.get(member)) or ""
            fields = self._upstream.routing(self._revision, request.method, name)
        if self._param_headers:
            arguments = request.params.get("arguments")
            for header, value in build_param_headers(self._param_headers, arguments):
                fields += f"{header}: {value}\r\n".encode("ascii")
        return fields

    def _may_retry(self, raw_error: Raw) -> bool:
        """Try once more after a refusal that comes before execution (mcp.md C5)."""
        try:
            error = decode_error(raw_error)
        except msgspec.DecodeError:
            return False
        if error.code in self._retried:
            return False
        if error.code == UNSUPPORTED_REVISION:
            revision = mutual_revision(error.data)
            if revision is None:
                return False
            self._revision = self._upstream.revision = revision
            self._retried = (*self._retried, error.code)
            self.proceed(self._resend)
            return True
        if error.code == HEADER_MISMATCH and self._request.method == "tools/call":
            self._retried = (*self._retried, error.code)
            self.proceed(partial(self._relist_and_resend, error.message))
            return True
        return False

    async def _resend(self) -> None:
        failure = self.launch()
        if failure is not None:
            self.finish(failure)

    async def _relist_and_resend(self, words: str) -> None:
        """The tool's schema has changed since it was listed: headers follow the one in force."""
        name = self._request.name or string_of(self._request.params.get("name")) or ""
        self._upstream.on_change(Change("tools"))
        try:
            self._param_headers = await self._upstream.param_headers_of(name)
        except ConnectorError:
            self.finish(Failure("error", words, code=HEADER_MISMATCH))
            return
        if self.end is None:
            await self._resend()


def mutual_revision(data: Raw | msgspec.UnsetType) -> str | None:
    """The newest modern revision of ours that the data of a -32022 error names."""
    supported = supported_revisions(data)
    return next((known for known in reversed(MODERN_REVISIONS) if known in supported), None)


def supported_revisions(data: Raw | msgspec.UnsetType | None) -> list[str]:
    """What the data of a -32022 error says the upstream speaks; empty when it says nothing readable."""
    try:
        return _strings.decode(members_of(data).get("supported", b"[]"))
    except msgspec.DecodeError:
        return []
