"""What administrators can ask for: one table that the admin API, its document and the CLI share."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct


class Operation(Struct, frozen=True, kw_only=True):
    """One administrative operation, and how it is asked for over HTTP.

    It travels as a call on target ``administration``; its parameters are the path's placeholders
    and the query, as strings, and ``body``.
    """

    name: str
    """``upstreams.put``: noun and verb."""
    method: Literal["GET", "PUT", "POST", "DELETE"]
    path: str
    """Below ``/api``: ``/upstreams/{name}``."""
    action: Literal["inspect", "administer"]
    summary: str
    query: tuple[str, ...] = ()
    body: Mapping[str, Any] | None = None
    """JSON Schema of the request body; None where there is none."""
    answer: Mapping[str, Any] = {}
    """JSON Schema of the answer."""
    status: int = 200
