"""What every section of ``portico.yaml`` is made of: its base, names, lines, URLs."""

import ipaddress
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hub.config.section_checks import Finding
from hub.config.texts import is_http_origin, is_http_url

NAME_PATTERN: Final = r"^[A-Za-z0-9_-]{1,48}$"
TEXT_PATTERN: Final = r"^[^\x00]*$"
LINE_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"
FINDINGS: Final = "findings"
"""Type of the pydantic error that carries several findings in its context."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, StringConstraints(pattern=TEXT_PATTERN)]
Line = Annotated[str, StringConstraints(pattern=LINE_PATTERN, min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400)]


def _http_url(value: str) -> str:
    if not is_http_url(value):
        raise PydanticCustomError("url", "must be a URL with http or https and a host")
    return value


def _origin(value: str) -> str:
    if not is_http_origin(value):
        raise PydanticCustomError("origin", "must be http(s)://host[:port], without a path")
    return value


def _origin_or_any(value: str) -> str:
    return value if value == "*" else _origin(value)


def _address(value: str) -> str:
    if value != "localhost":
        try:
            ipaddress.ip_address(value)
        except ValueError as error:
            raise PydanticCustomError("address", "must be an IP address or 'localhost'") from error
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        message = "must be an IP address or a network such as '10.0.0.0/8'"
        raise PydanticCustomError("network", message) from error
    return value


def _version(value: int) -> int:
    if value != 1:
        raise PydanticCustomError("version", "must be 1, the only version of this format")
    return value


Version = Annotated[
    int, Field(strict=True, json_schema_extra={"const": 1}), AfterValidator(_version)
]
HttpUrl = Annotated[Line, AfterValidator(_http_url)]
Origin = Annotated[Line, AfterValidator(_origin)]
OriginOrAny = Annotated[Line, AfterValidator(_origin_or_any)]
Address = Annotated[Line, AfterValidator(_address)]
Network = Annotated[Line, AfterValidator(_network)]


class Section(BaseModel):
    """A mapping of the file: unknown keys are errors, and it never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)

    def _raise(self, findings: list[Finding]) -> None:
        if findings:
            shown = "; ".join(finding.message for finding in findings)
            raise PydanticCustomError(FINDINGS, "{shown}", {"shown": shown, FINDINGS: findings})
