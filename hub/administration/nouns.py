"""Everything administrators can ask for: one explicit table, shared by admin API and command line."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, Literal, TypeVar

from msgspec import Struct
from pydantic import BaseModel

from hub.administration import (
    access,
    configuration,
    grants,
    groups,
    imports,
    inspection,
    keys,
    principals,
    record,
    rules,
    tenants,
    upstreams,
    usage,
    virtual_servers,
)
from hub.administration.desk import Desk, Named, Nothing
from hub.config.models import (
    GrantSection,
    GroupSection,
    PrincipalSection,
    UpstreamSection,
    VirtualServerSection,
)
from hub.config.rule_sections import BudgetSection, GuardrailSection, LimitSection, PriceSection
from hub.domain.administration import Operation
from hub.domain.principal import Principal

REFERENCE: Final = "#/components/schemas/{model}"
"""How schemas refer to each other in the OpenAPI document."""

Asked = TypeVar("Asked", bound=BaseModel)
Method = Literal["GET", "PUT", "POST", "DELETE"]


class Function(Struct, Generic[Asked], frozen=True, kw_only=True):
    """One thing administrators can ask for, and what answers it."""

    operation: Operation
    request: type[Asked]
    """What the parameters are read as: placeholders, query and the members of the body together."""
    body: type[BaseModel] | None
    """The part of it that the body is."""
    answer: type[BaseModel]
    run: Callable[[Desk, Principal, str, Asked], Awaitable[BaseModel]]
    """Takes the desk, who asks, the tenant and the request. Raises PorticoError."""


def function(
    name: str,
    route: str,
    run: Callable[[Desk, Principal, str, Asked], Awaitable[BaseModel]],
    *,
    request: type[Asked],
    answer: type[BaseModel],
    body: type[BaseModel] | None = None,
    query: tuple[str, ...] = (),
    inspects: bool = False,
) -> Function[Asked]:
    """An entry: ``name`` is noun and verb, ``route`` method and path below ``/api``.

    ``GET`` inspects, everything else administers unless it ``inspects``.
    """
    method, path = route.split()
    reading = inspects or method == "GET"
    status = 204 if answer is Nothing else 200
    operation = Operation(
        name=name,
        method=_METHODS[method],
        path=path,
        action="inspect" if reading else "administer",
        summary=(run.__doc__ or name).splitlines()[0].split(" Raises")[0],
        query=query,
        body=_schema(body),
        answer=_schema(answer) or {},
        status=status,
    )
    return Function(operation=operation, request=request, body=body, answer=answer, run=run)


def _schema(model: type[BaseModel] | None) -> Mapping[str, Any] | None:
    return (
        None
        if model is None or model is Nothing
        else {"$ref": REFERENCE.format(model=model.__name__)}
    )


_METHODS: Final[Mapping[str, Method]] = {
    "GET": "GET",
    "PUT": "PUT",
    "POST": "POST",
    "DELETE": "DELETE",
}

FUNCTIONS: Final[tuple[Function[Any], ...]] = (
    function(
        "upstreams.list", "GET /upstreams", upstreams.list_upstreams,
        request=Nothing, answer=upstreams.UpstreamList,
    ),
    function(
        "upstreams.get", "GET /upstreams/{name}", upstreams.get_upstream,
        request=Named, answer=upstreams.UpstreamObject,
    ),
    function(
        "upstreams.put", "PUT /upstreams/{name}", upstreams.put_upstream,
        request=upstreams.UpstreamPut, answer=upstreams.UpstreamObject, body=UpstreamSection,
    ),
    function(
        "upstreams.delete", "DELETE /upstreams/{name}", upstreams.delete_upstream,
        request=Named, answer=Nothing,
    ),
    function(
        "upstreams.enable", "POST /upstreams/{name}/enable", upstreams.enable_upstream,
        request=Named, answer=upstreams.UpstreamState,
    ),
    function(
        "upstreams.disable", "POST /upstreams/{name}/disable", upstreams.disable_upstream,
        request=Named, answer=upstreams.UpstreamState,
    ),
    function(
        "upstreams.refresh", "POST /upstreams/{name}/refresh", inspection.refresh_upstream,
        request=Named, answer=inspection.StatusOfUpstream,
    ),
    function(
        "upstreams.test", "POST /upstreams/{name}/test", inspection.refresh_upstream,
        request=Named, answer=inspection.StatusOfUpstream,
    ),
    function(
        "upstreams.logs", "GET /upstreams/{name}/logs", inspection.upstream_logs,
        request=Named, answer=inspection.LogLines,
    ),
    function(
        "upstreams.import", "POST /imports", imports.import_upstreams,
        request=imports.ImportRequest, answer=imports.ImportAnswer, body=imports.ImportRequest,
    ),
    function(
        "virtual_servers.list", "GET /virtual-servers", virtual_servers.list_virtual_servers,
        request=Nothing, answer=virtual_servers.VirtualServerList,
    ),
    function(
        "virtual_servers.get", "GET /virtual-servers/{name}", virtual_servers.get_virtual_server,
        request=Named, answer=virtual_servers.VirtualServerObject,
    ),
    function(
        "virtual_servers.put", "PUT /virtual-servers/{name}", virtual_servers.put_virtual_server,
        request=virtual_servers.VirtualServerPut, answer=virtual_servers.VirtualServerObject,
        body=VirtualServerSection,
    ),
    function(
        "virtual_servers.delete", "DELETE /virtual-servers/{name}",
        virtual_servers.delete_virtual_server, request=Named, answer=Nothing,
    ),
    function(
        "principals.list", "GET /principals", principals.list_principals,
        request=Nothing, answer=principals.PrincipalList,
    ),
    function(
        "principals.get", "GET /principals/{name}", principals.get_principal,
        request=Named, answer=principals.PrincipalObject,
    ),
    function(
        "principals.put", "PUT /principals/{name}", principals.put_principal,
        request=principals.PrincipalPut, answer=principals.PrincipalObject, body=PrincipalSection,
    ),
    function(
        "principals.delete", "DELETE /principals/{name}", principals.delete_principal,
        request=Named, answer=Nothing,
    ),
    function(
        "groups.list", "GET /groups", groups.list_groups,
        request=Nothing, answer=groups.GroupList,
    ),
    function(
        "groups.get", "GET /groups/{name}", groups.get_group,
        request=Named, answer=groups.GroupObject,
    ),
    function(
        "groups.put", "PUT /groups/{name}", groups.put_group,
        request=groups.GroupPut, answer=groups.GroupObject, body=GroupSection,
    ),
    function(
        "groups.delete", "DELETE /groups/{name}", groups.delete_group,
        request=Named, answer=Nothing,
    ),
    function(
        "groups.add_member", "PUT /groups/{name}/members/{principal}", groups.add_member,
        request=groups.Membership, answer=groups.GroupObject,
    ),
    function(
        "groups.remove_member", "DELETE /groups/{name}/members/{principal}", groups.remove_member,
        request=groups.Membership, answer=Nothing,
    ),
    function(
        "grants.list", "GET /grants", grants.list_grants,
        request=Nothing, answer=grants.GrantList,
    ),
    function(
        "grants.add", "POST /grants", grants.add_grant,
        request=GrantSection, answer=grants.GrantObject, body=GrantSection,
    ),
    function(
        "grants.delete", "DELETE /grants", grants.delete_grant,
        request=Named, answer=Nothing, query=("name",),
    ),
    function(
        "guardrails.list", "GET /guardrails", rules.list_guardrails,
        request=Nothing, answer=rules.GuardrailList,
    ),
    function(
        "guardrails.get", "GET /guardrails/{name}", rules.get_guardrail,
        request=Named, answer=rules.GuardrailObject,
    ),
    function(
        "guardrails.put", "PUT /guardrails/{name}", rules.put_guardrail,
        request=GuardrailSection, answer=rules.GuardrailObject, body=GuardrailSection,
    ),
    function(
        "guardrails.delete", "DELETE /guardrails/{name}", rules.delete_guardrail,
        request=Named, answer=Nothing,
    ),
    function(
        "limits.list", "GET /limits", rules.list_limits,
        request=Nothing, answer=rules.LimitList,
    ),
    function(
        "limits.get", "GET /limits/{name}", rules.get_limit,
        request=Named, answer=rules.LimitObject,
    ),
    function(
        "limits.put", "PUT /limits/{name}", rules.put_limit,
        request=LimitSection, answer=rules.LimitObject, body=LimitSection,
    ),
    function(
        "limits.delete", "DELETE /limits/{name}", rules.delete_limit,
        request=Named, answer=Nothing,
    ),
    function(
        "budgets.list", "GET /budgets", rules.list_budgets,
        request=Nothing, answer=rules.BudgetList,
    ),
    function(
        "budgets.get", "GET /budgets/{name}", rules.get_budget,
        request=Named, answer=rules.BudgetObject,
    ),
    function(
        "budgets.put", "PUT /budgets/{name}", rules.put_budget,
        request=BudgetSection, answer=rules.BudgetObject, body=BudgetSection,
    ),
    function(
        "budgets.delete", "DELETE /budgets/{name}", rules.delete_budget,
        request=Named, answer=Nothing,
    ),
    function(
        "prices.list", "GET /prices", rules.list_prices,
        request=Nothing, answer=rules.PriceList,
    ),
    function(
        "prices.put", "PUT /prices", rules.put_price,
        request=PriceSection, answer=rules.PriceObject, body=PriceSection,
    ),
    function(
        "prices.delete", "DELETE /prices", rules.delete_price,
        request=Named, answer=Nothing, query=("name",),
    ),
    function(
        "keys.list", "GET /keys", keys.list_keys,
        request=Nothing, answer=keys.KeyList,
    ),
    function(
        "keys.create", "POST /keys", keys.create_key,
        request=keys.KeyCreate, answer=keys.KeyCreated, body=keys.KeyCreate,
    ),
    function(
        "keys.revoke", "DELETE /keys/{id}", keys.revoke_key,
        request=keys.KeyNamed, answer=keys.KeyObject,
    ),
    function(
        "keys.rotate", "POST /keys/{id}/rotate", keys.rotate_key,
        request=keys.KeyRotate, answer=keys.KeyCreated, query=("overlap_s",),
    ),
    function(
        "tenants.list", "GET /tenants", tenants.list_tenants,
        request=Nothing, answer=tenants.TenantList,
    ),
    function(
        "tenants.get", "GET /tenants/{name}", tenants.get_tenant,
        request=Named, answer=tenants.TenantObject,
    ),
    function(
        "tenants.put", "PUT /tenants/{name}", tenants.put_tenant,
        request=tenants.TenantPut, answer=tenants.TenantObject, body=tenants.TenantSection,
    ),
    function(
        "tenants.delete", "DELETE /tenants/{name}", tenants.delete_tenant,
        request=tenants.TenantDelete, answer=Nothing, query=("force",),
    ),
    function(
        "configuration.validate", "POST /configuration/validate", configuration.validate,
        request=configuration.Document, answer=configuration.Validation,
        body=configuration.Document, inspects=True,
    ),
    function(
        "configuration.plan", "POST /configuration/plan", configuration.plan,
        request=configuration.PlanRequest, answer=configuration.Plan,
        body=configuration.PlanRequest, inspects=True,
    ),
    function(
        "configuration.apply", "POST /configuration/apply", configuration.apply,
        request=configuration.ApplyRequest, answer=configuration.Plan,
        body=configuration.ApplyRequest,
    ),
    function(
        "configuration.export", "POST /configuration/export", configuration.export,
        request=configuration.ExportRequest, answer=configuration.Exported,
        body=configuration.ExportRequest,
    ),
    function(
        "status.get", "GET /status", inspection.status,
        request=Nothing, answer=inspection.Status,
    ),
    function(
        "capabilities.list", "GET /capabilities", inspection.list_capabilities,
        request=inspection.CapabilitiesRequest, answer=inspection.Exposed,
        query=("virtual_server",),
    ),
    function(
        "access.explain", "GET /explain", access.explain,
        request=access.ExplainRequest, answer=access.Explanation,
        query=("principal", "capability", "kind", "virtual_server", "key", "peer"),
    ),
    function(
        "audit.entries", "GET /audit/entries", record.entries,
        request=record.EntriesRequest, answer=record.Entries,
        query=tuple(record.EntriesRequest.model_fields),
    ),
    function(
        "usage.get", "GET /usage", usage.usage,
        request=usage.UsageRequest, answer=usage.Usage, query=usage.QUERY,
    ),
)  # fmt: skip
"""In the order of the documentation."""

OPERATIONS: Final[tuple[Operation, ...]] = tuple(item.operation for item in FUNCTIONS)
"""For the admin surface, which must not know the functions."""
