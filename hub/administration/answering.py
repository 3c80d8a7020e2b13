"""Answering administrative operations: parameters -> request -> function -> JSON."""

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Raw
from pydantic import BaseModel, ValidationError

from hub.administration.authority import check_tenant
from hub.administration.desk import Desk, Owned
from hub.administration.nouns import FUNCTIONS, Function
from hub.admission import Admitted
from hub.config.problems import model_problems
from hub.domain.outcome import Event, Outcome, Refusal, RefusalReason, Result
from hub.domain.principal import Principal
from hub.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PorticoError,
)
from mcp_wire.wellformed import UNREADABLE

_REASONS: Final[Mapping[type, RefusalReason]] = {
    ConfigurationError: "invalid",
    ForbiddenError: "forbidden",
    ConflictError: "conflict",
    NotFoundError: "absent",
}


def encoded(model: BaseModel) -> bytes:
    """An answer as JSON. Objects and what holds them leave out what has its default."""
    owned = isinstance(model, Owned) or any(
        isinstance(value, tuple) and value and isinstance(value[0], Owned) for _, value in model
    )
    return model.model_dump_json(exclude_unset=owned).encode()


class Administration:
    """Answers calls on the target ``administration`` (``hub.pipeline.Provider``).

    ``more`` are functions beside those of ``hub.administration.nouns``: what the running hub knows.
    """

    def __init__(self, desk: Desk, more: Iterable[Function[Any]] = ()) -> None:
        self._desk = desk
        self._functions = {item.operation.name: item for item in (*FUNCTIONS, *more)}

    async def answer(
        self, principal: Principal, tenant: str, operation: str, params: Mapping[str, Any]
    ) -> BaseModel:
        """What an operation answers; ``params`` are plain values, all of them together.

        Raises PorticoError; ConfigurationError for parameters that are not as described.
        """
        function = self._functions[operation]
        check_tenant(principal, tenant)
        if tenant != principal.tenant and tenant not in await self._desk.objects.tenants():
            raise NotFoundError(f"There is no tenant '{tenant}'; 'portico tenant add' makes one.")
        try:
            request = function.request.model_validate(params)
        except ValidationError as error:
            problems = [str(problem) for problem in model_problems(error, function.request)]
            raise ConfigurationError("; ".join(problems), problems) from error
        return await function.run(self._desk, principal, tenant, request)

    def invoke(self, admitted: Admitted) -> Outcome:
        """The outcome of one administrative call. Awaiting it may raise Refusal."""
        return self._outcome(admitted)

    async def _outcome(self, admitted: Admitted) -> AsyncGenerator[Event, None]:
        operation, principal = admitted.call.target.name, admitted.principal
        tenant = admitted.call.evidence.tenant or principal.tenant
        try:
            params = _plain(admitted.params)
            model = await self.answer(principal, tenant, operation, params)
        except PorticoError as error:
            raise refusal_of(error) from error
        yield Result(Raw(encoded(model)))


def refusal_of(error: PorticoError) -> Refusal:
    """An error as a call's end; the problems of a configuration go along as data."""
    known = [kind for kind in type(error).__mro__ if kind in _REASONS]
    reason: RefusalReason = _REASONS[known[0]] if known else "unavailable"
    data = None
    if isinstance(error, ConfigurationError) and error.problems:
        data = Raw(msgspec.json.encode({"problems": error.problems}))
    return Refusal(reason, str(error), cause=type(error).__name__, data=data)


def _plain(params: Mapping[str, Raw]) -> dict[str, Any]:
    """Parameters as plain values; the body's members stand beside the others and yield to them."""
    try:
        values = {
            name: json.loads(bytes(value), parse_float=_finite) for name, value in params.items()
        }
    except UNREADABLE as error:
        raise ConfigurationError(
            "The body is JSON with numbers or nesting beyond bounds."
        ) from error
    body = values.pop("body", {})
    if not isinstance(body, dict):
        raise ConfigurationError("The body must be an object.")
    twice = [name for name in body if name in values and body[name] != values[name]]
    if twice:
        raise ConfigurationError(f"'{twice[0]}' in the body differs from the one in the path.")
    return {**body, **values}


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number
