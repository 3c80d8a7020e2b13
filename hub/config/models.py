"""The shape of ``portico.yaml``; the admin API takes and gives the same sections.

Units are in the field names or descriptions. Unknown keys are errors. What can be seen within one
section is checked here; what needs other sections is in ``hub.config.cross_references``.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from hub.config.rule_sections import BudgetSection, GuardrailSection, LimitSection, PriceSection
from hub.config.section import (
    Address,
    Flag,
    HttpUrl,
    Line,
    Name,
    Network,
    Origin,
    OriginOrAny,
    Seconds,
    Section,
    Text,
    Version,
)
from hub.config.section_checks import (
    check_argument,
    check_grant,
    check_include,
    check_upstream,
)
from hub.config.texts import is_loopback
from hub.domain.desired import Prefix, Presentation
from hub.domain.principal import Role


class ServerSection(Section):
    """How this process is reached. Read at start."""

    bind: Address = Field(
        "127.0.0.1", description="Address to listen on: an IP address or 'localhost'."
    )
    port: Annotated[int, Field(strict=True, ge=0, le=65_535)] = Field(
        8080, description="TCP port to listen on; 0 takes any free one."
    )
    public_url: Origin | None = Field(
        None, description="Origin under which clients reach Portico; null: what it listens on."
    )
    allowed_hosts: tuple[Line, ...] = Field(
        (), description="Further Host values to accept; loopback and public_url always are."
    )
    allowed_origins: tuple[OriginOrAny, ...] = Field(
        (), description="Browser origins that may call; '*' allows all of them."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Networks whose Forwarded and X-Forwarded-* headers are believed."
    )
    fast_lane: Flag = Field(
        True,
        description="Whether simple calls are answered on the shorter of two ways that give the "
        "same answers.",
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.bind)


class StoreSection(Section):
    """Where configuration, keys and listings are kept. Read at start."""

    url: Line | None = Field(
        None,
        description="postgresql://user@host/database, or 'env:NAME' or 'file:PATH' that holds it; "
        "null: an SQLite file in the data directory.",
    )


class RedisSection(Section):
    """Where several processes count limits and budgets together. Read at start."""

    url: Line | None = Field(
        None,
        description="redis://host:port/number, or 'env:NAME' or 'file:PATH' that holds it; "
        "null: this process counts alone.",
    )
    processes: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        1,
        description="How many processes count there at least: each may spend so small a share of what "
        "is left while Redis is away; more are known when they were seen.",
    )


class RecordSection(Section):
    """How durable an audit record is before the caller sees the answer's end, and how long it stays."""

    level: Literal["written", "synced", "stored"] | None = Field(
        None,
        description="written survives kill -9, synced also power loss, stored is acknowledged by "
        "the database; null: written on a lasting disk, stored on an ephemeral one.",
    )
    retention_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] | None = Field(
        None,
        description="Days after which whole segments of the record are removed, their seals kept; "
        "null: never.",
    )


class TelemetrySection(Section):
    """Logs and traces. Read at start."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important messages that are logged."
    )
    log_format: Literal["plain", "json"] = Field("plain", description="How log lines look.")
    otlp_endpoint: HttpUrl | None = Field(
        None, description="OTLP/HTTP base URL that gets traces; null: none are made."
    )
    sample_ratio: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        1.0, description="Share of calls that are traced, from 0 to 1."
    )


class UpstreamSection(Section):
    """One server that Portico may call. Exactly one of command, url and openapi."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [key]} for key in ("command", "url", "openapi")]}
    )

    command: Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        None, description="Program and arguments of a stdio server; no shell is involved."
    )
    env: dict[str, Text] = Field(
        {},
        description="Environment of the program, beside PATH, HOME and LANG; "
        "values may be 'env:NAME' or 'file:PATH'.",
    )
    cwd: Line | None = Field(
        None, description="Working directory of the program; relative to the file it stands in."
    )
    isolation: Literal["shared", "principal"] = Field(
        "shared", description="One program for all callers, or one for each principal."
    )
    max_children: Annotated[int, Field(strict=True, ge=1, le=256)] = Field(
        4, description="Programs that may run at the same time."
    )
    idle_stop_s: Seconds = Field(900.0, description="Seconds of idleness before one is stopped.")
    url: HttpUrl | None = Field(None, description="MCP URL of a remote server.")
    transport: Literal["auto", "http", "sse"] = Field(
        "auto", description="Streamable HTTP, the older HTTP+SSE, or find out."
    )
    headers: dict[str, Line] = Field(
        {},
        description="Headers of each request; values may be 'env:NAME', 'file:PATH' or "
        "'Bearer env:NAME'.",
    )
    openapi: Line | None = Field(
        None,
        description="OpenAPI 3 document, a URL or a path relative to this file; "
        "each operation becomes a tool.",
    )
    base_url: HttpUrl | None = Field(
        None, description="Where the operations are; null: the document's first server."
    )
    timeout_s: Seconds = Field(
        60.0, description="Seconds to the first sign of life and between signs of progress."
    )
    timeout_cap_s: Seconds = Field(600.0, description="Seconds that a call may take at the most.")
    max_in_flight: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        64, description="Calls under way at the same time; further ones wait."
    )
    keep_alive_s: Seconds = Field(
        4.0, description="Seconds an idle connection is kept; below the server's own keep-alive."
    )
    refresh_s: Seconds = Field(300.0, description="Seconds between two listings.")
    enabled: Flag = Field(True, description="false: its capabilities are absent.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_upstream(self.model_dump(exclude_defaults=True)))
        return self


class PrincipalSection(Section):
    """A caller that may hold keys and grants."""

    kind: Literal["person", "service", "agent"] = Field("person", description="What it is.")
    roles: tuple[Role, ...] = Field((), description="Administrative roles.")
    groups: tuple[Name, ...] = Field(
        (), description="Groups it belongs to, beside those that name it as a member."
    )


class GroupSection(Section):
    """A set of principals."""

    members: tuple[Name, ...] = Field((), description="Names of principals.")


class ArgumentSection(Section):
    """What an exposure does to one argument."""

    fix: JsonValue = Field(None, description="The value it always has; callers cannot change it.")
    default: JsonValue = Field(None, description="The value it has where the caller gives none.")
    hide: Flag = Field(False, description="Whether it disappears from the schema.")
    description: Text | None = Field(None, description="Replaces its description.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_argument(self.model_fields_set))
        return self


class OverrideSection(Section):
    """How one capability appears; absent keys stay as the upstream has them."""

    name: Annotated[Line, StringConstraints(max_length=1024)] | None = Field(
        None,
        description="Exposed name: letters, digits, '_' and '-', at most 48; a URI for resources.",
    )
    title: Text | None = Field(None, description="Title for people.")
    description: Text | None = Field(None, description="Description for models.")
    annotations: dict[str, JsonValue] = Field({}, description="Annotations to set.")
    arguments: dict[str, ArgumentSection] = Field({}, description="Rules by argument name.")


AnnotationHint = Literal["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"]


class IncludeSection(Section):
    """Capabilities of one upstream, by its own names or shell patterns; no list means all."""

    upstream: str = Field(description="Name of an upstream.")
    tools: tuple[Line, ...] | None = Field(None, description="Names or patterns of tools.")
    resources: tuple[Line, ...] | None = Field(
        None, description="URIs or patterns of resources and resource templates."
    )
    prompts: tuple[Line, ...] | None = Field(None, description="Names or patterns of prompts.")
    where: dict[AnnotationHint, Flag] = Field(
        {}, description="Only tools with these annotations, such as {readOnlyHint: true}."
    )
    override: dict[str, OverrideSection] = Field({}, description="Changes by the upstream's name.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_include({key: item.name for key, item in self.override.items()}))
        return self


class VirtualServerSection(Section):
    """An MCP endpoint composed of chosen capabilities, at /v/NAME/mcp."""

    title: Text | None = Field(None, description="Title for people.")
    description: Text | None = Field(None, description="What it is for.")
    instructions: Annotated[Text, StringConstraints(max_length=2000)] | None = Field(
        None, description="Instructions for models, at most 2,000 characters."
    )
    prefix: Prefix = Field(
        "auto", description="Upstream name in front of exposed names: when needed, always, never."
    )
    presentation: Presentation = Field(
        "full", description="List every tool, or only search_tools and call_tool."
    )
    anonymous: Flag = Field(False, description="No credential is needed; loopback only.")
    include: tuple[IncludeSection, ...] = Field((), description="What it is composed of.")


class GrantSection(Section):
    """Lets a group or a principal use a virtual server, or only what is named of it."""

    virtual_server: str = Field(description="Name of a virtual server; 'default' is /mcp.")
    group: str | None = Field(None, description="Name of a group.")
    principal: str | None = Field(None, description="Name of a principal.")
    tools: tuple[Line, ...] | None = Field(None, description="Exposed names or patterns.")
    resources: tuple[Line, ...] | None = Field(None, description="Exposed URIs or patterns.")
    prompts: tuple[Line, ...] | None = Field(None, description="Exposed names or patterns.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._raise(check_grant(self.group, self.principal))
        return self


class PorticoFile(Section):
    """portico.yaml: the desired state of one tenant, and the settings of the process."""

    version: Version = Field(description="Version of this format: 1.")
    tenant: Name = Field("default", description="The tenant that the objects belong to.")
    server: ServerSection = ServerSection()
    store: StoreSection = StoreSection()
    redis: RedisSection = RedisSection()
    record: RecordSection = RecordSection()
    telemetry: TelemetrySection = TelemetrySection()
    upstreams: dict[Name, UpstreamSection] = Field({}, description="Servers to call, by name.")
    principals: dict[Name, PrincipalSection] = Field({}, description="Callers, by name.")
    groups: dict[Name, GroupSection] = Field({}, description="Sets of principals, by name.")
    virtual_servers: dict[Name, VirtualServerSection] = Field(
        {}, description="MCP endpoints, by name; each at /v/NAME/mcp."
    )
    grants: tuple[GrantSection, ...] = Field((), description="Who may use what.")
    guardrails: tuple[GuardrailSection, ...] = Field(
        (), description="What is looked for in content, and what happens where it is found."
    )
    limits: tuple[LimitSection, ...] = Field((), description="How much may be used.")
    prices: tuple[PriceSection, ...] = Field((), description="What one use of a tool costs.")
    budgets: tuple[BudgetSection, ...] = Field((), description="How much may be spent.")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        """A section whose key stands alone is empty: ``groups:`` reads as ``groups: {}``."""
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None}
