"""The OpenAPI 3.1 document of the admin API, made from the table of functions."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hub.administration.nouns import FUNCTIONS, REFERENCE, Function
from hub.domain.administration import Operation

_PROBLEM: Final[Mapping[str, Any]] = {
    "description": "Problem details (RFC 9457).",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
                "required": ["title", "status"],
            }
        }
    },
}


def openapi_document(version: str, more: Iterable[Function[Any]] = ()) -> dict[str, Any]:
    """The document; ``more`` are the functions beside those of ``hub.administration.nouns``."""
    functions = (*FUNCTIONS, *more)
    paths: dict[str, dict[str, Any]] = {}
    for function in functions:
        operation = function.operation
        path = paths.setdefault(f"/api{operation.path}", {})
        path[operation.method.lower()] = _operation(operation, function)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Portico administration",
            "version": version,
            "description": "Every request needs an administrator's key.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(functions),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(operation: Operation, function: Function[Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.name.partition(".")[0]],
        "parameters": [
            *(_parameter(name, "path") for name in re.findall(r"\{(\w+)\}", operation.path)),
            *(
                _parameter(name, "query", required=_is_required(function, name))
                for name in operation.query
            ),
        ],
        "responses": {
            str(operation.status): _answer(operation),
            "default": _PROBLEM,
        },
    }
    if operation.body is not None:
        content = {"application/json": {"schema": operation.body}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(name: str, place: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": {"type": "string"}}


def _is_required(function: Function[Any], name: str) -> bool:
    field = function.request.model_fields.get(name)
    return field is not None and field.is_required()


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.status == 204:
        return {"description": "Done."}
    content = {"application/json": {"schema": operation.answer}}
    return {"description": operation.summary, "content": content}


def _schemas(functions: Iterable[Function[Any]]) -> dict[str, Any]:
    models: dict[type[BaseModel], None] = {}
    for function in functions:
        for model in (function.body, function.answer):
            if model is not None:
                models[model] = None
    _, schema = models_json_schema(
        [(model, "validation") for model in models], ref_template=REFERENCE
    )
    schemas: dict[str, Any] = schema["$defs"]
    return schemas
