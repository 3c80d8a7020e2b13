"""How upstreams are reached: a connector for each specification, and what authenticates at it."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from anyio.abc import TaskGroup

from connectors.address_guard import AddressGuard
from connectors.child_groups import ChildGroups
from connectors.errors import Misconfigured
from connectors.http_client import HttpClient
from connectors.http_connection import Limits
from connectors.mcp_http import HttpSettings, McpHttpConnector
from connectors.mcp_stdio import McpStdioConnector, StdioSettings
from connectors.openapi import OpenApiConnector, OpenApiSettings
from connectors.protocol import Connector, Credential, OnChange
from hub.domain.desired import UpstreamSpec
from hub.domain.principal import Principal
from hub.errors import PorticoError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_STATIC: Final = Credential()


class StaticCredentials:
    """Everybody reaches an upstream with what its specification says; nothing is added per call."""

    def credential(self, upstream: str, principal: Principal) -> Credential:
        """See ``hub.providers.capabilities.Credentials``."""
        del upstream, principal
        return _STATIC


class Connecting:
    """Makes connectors. What they all share is given once: watchdog, tasks, control-plane client."""

    def __init__(
        self,
        *,
        groups: ChildGroups,
        tasks: TaskGroup,
        client: HttpClient,
        secret: Callable[[str], str],
    ) -> None:
        """``secret`` gives the value behind ``env:NAME`` and ``file:PATH``, else its argument."""
        self._groups = groups
        self._tasks = tasks
        self._client = client
        self._secret = secret

    def __call__(self, spec: UpstreamSpec, on_change: OnChange) -> Connector:
        """The connector of one upstream, not open yet. Raises Misconfigured."""
        try:
            if spec.command:
                return self._stdio(spec, on_change)
            if spec.openapi is not None:
                return self._openapi(spec)
            return self._http(spec, on_change)
        except PorticoError as error:
            raise Misconfigured(str(error)) from error

    def _stdio(self, spec: UpstreamSpec, on_change: OnChange) -> Connector:
        settings = StdioSettings(
            command=spec.command,
            env=self._secrets(spec.env),
            cwd=spec.cwd,
            isolation=spec.isolation,
            max_children=spec.max_children,
            max_in_flight=spec.max_in_flight,
            idle_stop_s=spec.idle_stop_s,
            timeout_s=spec.timeout_s,
            timeout_cap_s=spec.timeout_cap_s,
        )
        return McpStdioConnector(
            settings, groups=self._groups, tasks=self._tasks, on_change=on_change
        )

    def _http(self, spec: UpstreamSpec, on_change: OnChange) -> Connector:
        settings = HttpSettings(
            url=spec.url or "",
            transport=spec.transport,
            headers=self._secrets(spec.headers),
            timeout_s=spec.timeout_s,
            timeout_cap_s=spec.timeout_cap_s,
            max_in_flight=spec.max_in_flight,
            keep_alive_s=spec.keep_alive_s,
        )
        return McpHttpConnector(
            settings, resolve=_guard(spec), tasks=self._tasks, on_change=on_change
        )

    def _openapi(self, spec: UpstreamSpec) -> Connector:
        settings = OpenApiSettings(
            source=spec.openapi or "",
            base_url=spec.base_url,
            headers=self._secrets(spec.headers),
            timeout_cap_s=spec.timeout_cap_s,
            limits=Limits(max_in_flight=spec.max_in_flight, keep_alive_s=spec.keep_alive_s),
        )
        return OpenApiConnector(settings, client=self._client, resolve=_guard(spec))

    def _secrets(self, values: Mapping[str, str]) -> Mapping[str, str]:
        return {name: self._secret(value) for name, value in values.items()}


def _guard(spec: UpstreamSpec) -> AddressGuard:
    """Lets through what a platform administrator wrote, and public addresses."""
    if spec.guarded:
        return AddressGuard()
    written = (spec.url, spec.base_url, spec.openapi)
    return AddressGuard(frozenset(place for url in written if (place := _place(url)) is not None))


def _place(url: str | None) -> tuple[str, int] | None:
    parts = urlsplit(url or "")
    if parts.scheme not in _DEFAULT_PORTS or parts.hostname is None:
        return None
    return parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
