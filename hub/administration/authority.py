"""How far an administrator's role reaches, beyond what the pipeline decided about the call.

Whoever can start a process, read the hub's files or environment, or make platform administrators
is one; so only platform administrators may.
"""

from typing import Any, Final

import msgspec

from hub.config.references import parse_reference
from hub.domain.desired import PrincipalSpec, UpstreamSpec
from hub.domain.principal import Principal, Role
from hub.domain.rules import GuardrailSpec
from hub.errors import ForbiddenError

PLATFORM: Final[Role] = "platform_admin"


def local_administrator(tenant: str) -> Principal:
    """Whoever runs the command line on this machine's data directory without a hub."""
    return Principal(tenant=tenant, name="local", kind="person", roles=frozenset((PLATFORM,)))


def is_platform(principal: Principal) -> bool:
    """Whether this is a platform administrator."""
    return PLATFORM in principal.roles


def reads_values(principal: Principal) -> bool:
    """Whether literal values of headers and environments may be shown, unless they look secret."""
    return is_platform(principal) or "admin" in principal.roles


def check_tenant(principal: Principal, tenant: str) -> None:
    """Tenants' administrators stay in their tenant. Raises ForbiddenError."""
    if not is_platform(principal) and principal.tenant != tenant:
        raise ForbiddenError("This key administers another tenant.")


def check_upstream(principal: Principal, spec: UpstreamSpec) -> None:
    """Raises ForbiddenError for what only platform administrators may set up."""
    if is_platform(principal):
        return
    if spec.command:
        raise ForbiddenError("Only platform administrators may set up upstreams with a command.")
    if spec.openapi is not None and not spec.openapi.startswith(("http://", "https://")):
        raise ForbiddenError("Only platform administrators may have files read.")
    if any(parse_reference(value) for value in spec.headers.values()):
        raise ForbiddenError("Only platform administrators may use 'env:' and 'file:'.")


def check_guardrail(principal: Principal, spec: GuardrailSpec) -> None:
    """Raises ForbiddenError for what only platform administrators may have read."""
    if is_platform(principal) or spec.check != "webhook":
        return
    options = msgspec.json.decode(spec.options, type=dict[str, Any])
    given = [options.get("secret"), *(options.get("headers") or {}).values()]
    if any(isinstance(value, str) and parse_reference(value) for value in given):
        raise ForbiddenError("Only platform administrators may use 'env:' and 'file:'.")


def check_principal(principal: Principal, *specs: PrincipalSpec | None) -> None:
    """Raises ForbiddenError when a platform administrator is made, changed or given keys."""
    if any(spec is not None and PLATFORM in spec.roles for spec in specs):
        check_platform(principal)


def check_platform(principal: Principal) -> None:
    """Raises ForbiddenError for everybody else."""
    if not is_platform(principal):
        raise ForbiddenError("Only platform administrators may do this.")
