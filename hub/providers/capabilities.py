"""Answers calls on capabilities by asking the upstream that has them."""

from typing import Protocol

from connectors.protocol import Connector, Credential, Request
from hub.admission import Admitted
from hub.catalog.guarded import NoConnector
from hub.domain.desired import UpstreamSpec
from hub.domain.outcome import Outcome
from hub.domain.principal import Principal
from hub.providers.original_names import original_params
from hub.providers.uris import with_exposed_uris


class Reached(Protocol):
    """One running upstream."""

    @property
    def spec(self) -> UpstreamSpec:
        """What it was configured as."""
        ...

    @property
    def connector(self) -> Connector:
        """What reaches it; one that is down answers with Failure ``unreachable``."""
        ...


class Upstreams(Protocol):
    """The running upstreams."""

    def reached(self, tenant: str, upstream: str) -> Reached | None:
        """The upstream; None for one that is gone."""
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
        principal, upstream, traits = admitted.principal, exposure.capability.upstream, call.traits
        reached = self._upstreams.reached(principal.tenant, upstream)
        if reached is None:
            return NoConnector("The upstream was removed.").fail()
        params, name = original_params(call, exposure, admitted.params)
        affinity = traits.session
        if not affinity or reached.spec.isolation == "principal":
            # A legacy session has conversations of its own upstream, anybody else as a principal.
            affinity = f"{principal.tenant}/{principal.name}"
        request = Request(
            method=call.operation,
            params=params,
            name=name,
            meta=call.meta,
            revision=traits.revision,
            client_capabilities=traits.client_capabilities,
            client_info=traits.client_info,
            wants_progress=traits.wants_progress,
            log_level=traits.log_level,
            param_headers=exposure.upstream_param_headers,
            affinity=affinity,
            timeout_s=reached.spec.timeout_s,
            traceparent=call.traceparent,
        )
        credential = self._credentials.credential(upstream, principal)
        outcome = reached.connector.invoke(request, credential)
        if upstream in server.renamed_uris:
            return with_exposed_uris(outcome, server.renamed_uris[upstream])
        return outcome
