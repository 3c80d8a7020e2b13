"""One operation of an OpenAPI document, ready to be called: plain values without the document."""

from typing import Final, Literal

from msgspec import Raw, Struct

Place = Literal["path", "query", "header", "cookie"]
Style = Literal[
    "simple",
    "label",
    "matrix",
    "form",
    "spaceDelimited",
    "pipeDelimited",
    "deepObject",
    "json",
    "auto",
]
"""``json`` is the JSON text; ``auto`` repeats arrays and says objects as their JSON text."""
BodyKind = Literal["json", "form", "multipart", "text", "binary"]
SchemeKind = Literal["header", "query", "cookie", "bearer", "basic"]

BODY_ARGUMENT: Final = "body"


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter outside of the body (OpenAPI 3.1, Parameter Object)."""

    argument: str
    """What callers name it."""
    name: str
    """What the upstream names it."""
    place: Place
    style: Style
    explode: bool
    allow_reserved: bool = False
    required: bool = False


class Field(Struct, frozen=True, kw_only=True):
    """A member of the body that is an argument of its own."""

    argument: str
    name: str
    style: Style = "auto"
    explode: bool = True
    is_binary: bool = False
    """The argument is base64 of a file's content."""
    media_type: str = ""
    """Of this part of a multipart body; empty: by its value."""


class Body(Struct, frozen=True, kw_only=True):
    """How the request's body is made of the arguments."""

    kind: BodyKind
    media_type: str
    argument: str = ""
    """The one argument that is the whole body; empty: it is made of ``fields``."""
    fields: tuple[Field, ...] = ()
    required: bool = False


class Scheme(Struct, frozen=True, kw_only=True):
    """A way to authenticate (OpenAPI 3.1, Security Scheme Object)."""

    name: str
    kind: SchemeKind
    field: str = ""
    """The header, query parameter or cookie of an API key."""


class Operation(Struct, frozen=True, kw_only=True):
    """One tool."""

    name: str
    method: str
    path: str
    """Template with ``{name}`` for path parameters."""
    server: str
    """As the document says it, variables filled in; may be relative to the document."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    schemes: tuple[Scheme, ...] = ()
    """Those that the document lets this operation be authenticated by."""
    is_structured: bool = False
    """The definition promises structured content."""
    definition: Raw
    """The tool as MCP lists it."""

    @property
    def arguments(self) -> frozenset[str]:
        """Every argument it knows."""
        names = {parameter.argument for parameter in self.parameters}
        if self.body is not None:
            names |= {field.argument for field in self.body.fields}
            names |= {self.body.argument} - {""}
        return frozenset(names)


class Described(Struct, frozen=True, kw_only=True):
    """Everything usable of one document."""

    title: str
    version: str
    description: str
    server: str
    """The first of the document's own servers."""
    operations: dict[str, Operation]
    """By tool name, in the document's order."""
    schemes: tuple[Scheme, ...] = ()
    """All that the document declares."""
    problems: tuple[str, ...] = ()
    """What was left out, and why."""
