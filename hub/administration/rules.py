"""Rules on what is used — guardrails, limits, prices, budgets: list, put, delete."""

from msgspec.structs import replace
from pydantic import Field

from hub.administration import objects
from hub.administration.authority import check_guardrail, is_platform
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.rule_conversion import budget_spec, guardrail_spec, limit_spec, price_spec
from hub.config.rule_sections import BudgetSection, GuardrailSection, LimitSection, PriceSection
from hub.domain.principal import Principal
from hub.guard.checks import check_options


class GuardrailObject(GuardrailSection, Owned):
    """A guardrail as it is configured."""


class LimitObject(LimitSection, Owned):
    """A limit as it is configured."""


class PriceObject(PriceSection, Owned):
    """A price; its name is made of upstream and tool."""


class BudgetObject(BudgetSection, Owned):
    """A budget as it is configured."""


class GuardrailList(Shape):
    """Guardrails."""

    guardrails: tuple[GuardrailObject, ...] = Field(description="Sorted by name.")


class LimitList(Shape):
    """Limits."""

    limits: tuple[LimitObject, ...] = Field(description="Sorted by name.")


class PriceList(Shape):
    """Prices."""

    prices: tuple[PriceObject, ...] = Field(description="Sorted by upstream and tool.")


class BudgetList(Shape):
    """Budgets."""

    budgets: tuple[BudgetObject, ...] = Field(description="Sorted by name.")


async def list_guardrails(desk: Desk, _: Principal, tenant: str, request: Nothing) -> GuardrailList:
    """Every guardrail of the tenant."""
    del request
    items = objects.of_noun(await desk.objects.load(tenant), "guardrail")
    found = tuple(GuardrailObject.model_validate(objects.owned_document(item)) for item in items)
    return GuardrailList(guardrails=found)


async def get_guardrail(desk: Desk, _: Principal, tenant: str, request: Named) -> GuardrailObject:
    """One guardrail. Raises NotFoundError."""
    item = objects.find(await desk.objects.load(tenant), "guardrail", request.name)
    return GuardrailObject.model_validate(objects.owned_document(item))


async def put_guardrail(
    desk: Desk, principal: Principal, tenant: str, request: GuardrailSection
) -> GuardrailObject:
    """Add or replace a guardrail. Raises ForbiddenError, ConfigurationError, ConflictError."""
    spec = replace(guardrail_spec(request, "api"), guarded=not is_platform(principal))
    check_guardrail(principal, spec)
    check_options(spec)
    item = await objects.put(desk, tenant, spec)
    return GuardrailObject.model_validate(objects.owned_document(item))


async def delete_guardrail(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a guardrail. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "guardrail", request.name)
    return Nothing()


async def list_limits(desk: Desk, _: Principal, tenant: str, request: Nothing) -> LimitList:
    """Every limit of the tenant."""
    del request
    items = objects.of_noun(await desk.objects.load(tenant), "limit")
    found = tuple(LimitObject.model_validate(objects.owned_document(item)) for item in items)
    return LimitList(limits=found)


async def get_limit(desk: Desk, _: Principal, tenant: str, request: Named) -> LimitObject:
    """One limit. Raises NotFoundError."""
    item = objects.find(await desk.objects.load(tenant), "limit", request.name)
    return LimitObject.model_validate(objects.owned_document(item))


async def put_limit(desk: Desk, _: Principal, tenant: str, request: LimitSection) -> LimitObject:
    """Add or replace a limit; what was counted goes on. Raises ConfigurationError, ConflictError."""
    item = await objects.put(desk, tenant, limit_spec(request, "api"))
    return LimitObject.model_validate(objects.owned_document(item))


async def delete_limit(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a limit. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "limit", request.name)
    return Nothing()


async def list_prices(desk: Desk, _: Principal, tenant: str, request: Nothing) -> PriceList:
    """Every price of the tenant."""
    del request
    items = objects.of_noun(await desk.objects.load(tenant), "price")
    found = tuple(PriceObject.model_validate(objects.owned_document(item)) for item in items)
    return PriceList(prices=found)


async def put_price(desk: Desk, _: Principal, tenant: str, request: PriceSection) -> PriceObject:
    """Set what a tool costs from now on. Raises ConfigurationError, ConflictError."""
    item = await objects.put(desk, tenant, price_spec(request, "api"))
    return PriceObject.model_validate(objects.owned_document(item))


async def delete_price(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a price by its name. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "price", request.name)
    return Nothing()


async def list_budgets(desk: Desk, _: Principal, tenant: str, request: Nothing) -> BudgetList:
    """Every budget of the tenant."""
    del request
    items = objects.of_noun(await desk.objects.load(tenant), "budget")
    found = tuple(BudgetObject.model_validate(objects.owned_document(item)) for item in items)
    return BudgetList(budgets=found)


async def get_budget(desk: Desk, _: Principal, tenant: str, request: Named) -> BudgetObject:
    """One budget. Raises NotFoundError."""
    item = objects.find(await desk.objects.load(tenant), "budget", request.name)
    return BudgetObject.model_validate(objects.owned_document(item))


async def put_budget(
    desk: Desk, principal: Principal, tenant: str, request: BudgetSection
) -> BudgetObject:
    """Add or replace a budget; what was spent stays. Raises ConfigurationError, ConflictError."""
    spec = replace(budget_spec(request, "api"), guarded=not is_platform(principal))
    item = await objects.put(desk, tenant, spec)
    return BudgetObject.model_validate(objects.owned_document(item))


async def delete_budget(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove a budget. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "budget", request.name)
    return Nothing()
