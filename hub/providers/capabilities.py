"""Answers calls on capabilities by asking the upstream that has them."""

from typing import Protocol

from connectors.protocol import Connector, Credential, Request
from hub.domain.outcome import Outcome
from hub.domain.principal import Principal
from hub.passage import Admitted
from hub.providers.original_names import original_params
from hub.providers.uris import with_exposed_uris


class Upstreams(Protocol):
    """The running upstreams."""

    def connector(self, tenant: str, upstream: str) -> Connector:
        """The connector of an upstream; one that is down answers with Failure ``unreachable``."""
        ...

    def isolates(self, tenant: str, upstream: str) -> bool:
        """Whether each principal has conversations of its own with it."""
        ...

    def timeout_s(self, tenant: str, upstream: str) -> float:
        """How long its requests may be silent."""
        ...


class Credentials(Protocol):
    """What authenticates a principal's requests upstream."""

    def credential(self, upstream: str, principal: Principal) -> Credential:
        """The credential in force; never the caller's own token."""
        ...


class Capabilities:
    """One upstream request per call, in the upstream's own names."""

    def __init__(self, upstreams: Upstreams, credentials: Credentials) -> None:
        self._upstreams = upstreams
        self._credentials = credentials

    def invoke(self, admitted: Admitted) -> Outcome:
        """Ask the upstream; see ``hub.pipeline.Provider``."""
        call, exposure, server = admitted.call, admitted.exposure, admitted.virtual_server
        if exposure is None or server is None:
            raise ValueError("a call without an exposure cannot be routed to an upstream")
        tenant, upstream = admitted.principal.tenant, exposure.capability.upstream
        params, name = original_params(call, exposure, admitted.params)
        request = Request(
            method=call.operation,
            params=params,
            name=name,
            meta=call.meta,
            revision=call.traits.revision,
            client_capabilities=call.traits.client_capabilities,
            client_info=call.traits.client_info,
            wants_progress=call.traits.wants_progress,
            log_level=call.traits.log_level,
            param_headers=exposure.upstream_param_headers,
            affinity=self._affinity(admitted, upstream),
            timeout_s=self._upstreams.timeout_s(tenant, upstream),
            traceparent=call.traceparent,
        )
        credential = self._credentials.credential(upstream, admitted.principal)
        outcome = self._upstreams.connector(tenant, upstream).invoke(request, credential)
        renamed = server.renamed_uris.get(upstream)
        return with_exposed_uris(outcome, renamed) if renamed else outcome

    def _affinity(self, admitted: Admitted, upstream: str) -> str:
        """Who shares conversation state upstream: a legacy session has its own, else a principal."""
        principal, session = admitted.principal, admitted.call.traits.session
        if session and not self._upstreams.isolates(principal.tenant, upstream):
            return session
        return f"{principal.tenant}/{principal.name}"
