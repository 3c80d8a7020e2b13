"""Every operation of an OpenAPI document made a tool; what cannot be one is left out with a reason."""

import hashlib
import re
from collections.abc import Iterator
from time import monotonic
from typing import Final

from connectors.errors import Misconfigured
from connectors.openapi_document import Document, Node, UnusableError
from connectors.openapi_inputs import Inputs
from connectors.openapi_operation import Described, Operation, Scheme, SchemeKind
from connectors.openapi_outputs import output_schema
from connectors.openapi_schema import Budget, Schema, SchemaMaker, TooLargeError
from mcp_wire.jsonrpc import raw

MAX_OPERATIONS: Final = 5_000
MAX_PROBLEMS: Final = 200
MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 4_000
MAX_TITLE: Final = 200
MAX_DEFINITION_BYTES: Final = 1024 * 1024
MAX_DEFINITIONS_BYTES: Final = 64 * 1024 * 1024
"""All tools together: what a document says once may be written out in each of them."""
MAX_COMPILE_S: Final = 30.0
"""After this long no further operation is begun; thousands of harmless ones take less."""

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "query")
_ANNOTATIONS: Final[dict[str, Schema]] = {
    "GET": {"readOnlyHint": True, "openWorldHint": True},
    "HEAD": {"readOnlyHint": True, "openWorldHint": True},
    "OPTIONS": {"readOnlyHint": True, "openWorldHint": True},
    "QUERY": {"readOnlyHint": True, "openWorldHint": True},
    "PUT": {"readOnlyHint": False, "idempotentHint": True, "openWorldHint": True},
    "DELETE": {
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": True,
        "openWorldHint": True,
    },
    "POST": {"readOnlyHint": False, "openWorldHint": True},
    "PATCH": {"readOnlyHint": False, "openWorldHint": True},
}
"""What a method promises (RFC 9110 section 9.2)."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_KINDS: Final[dict[str, SchemeKind]] = {
    "header": "header",
    "query": "query",
    "cookie": "cookie",
    "basic": "basic",
}


def compile_document(document: Document) -> Described:
    """All tools of a document. Raises Misconfigured for a document that has no paths at all."""
    paths = document.root.child("paths")
    if not isinstance(paths.value, dict):
        raise Misconfigured("#/paths: an OpenAPI document needs an object here")
    about = document.root.child("info")
    compiler = _Compiler(document)
    for path, item in paths.members().items():
        if path.startswith("/"):
            compiler.add_path(path, item)
    return Described(
        title=about.text("title")[:MAX_TITLE],
        version=about.text("version")[:MAX_TITLE],
        description=about.text("description")[:MAX_DESCRIPTION],
        server=_server(document.root),
        operations=compiler.operations,
        schemes=tuple(compiler.schemes.values()),
        problems=tuple(compiler.problems[:MAX_PROBLEMS]),
    )


class _Compiler:
    def __init__(self, document: Document) -> None:
        self.operations: dict[str, Operation] = {}
        self.problems: list[str] = []
        self._document = document
        self._budget = Budget()
        self.schemes = dict(_schemes_of(document))
        self._asked_of_all = _scheme_names(document.root.child("security"))
        self._room_bytes = MAX_DEFINITIONS_BYTES
        self._until = monotonic() + MAX_COMPILE_S

    def add_path(self, path: str, item: Node) -> None:
        try:
            item = self._document.follow(item)
        except UnusableError as error:
            self.problems.append(f"{path}: {error}")
            return
        for method in METHODS:
            node = item.child(method)
            if not isinstance(node.value, dict):
                continue
            if len(self.operations) >= MAX_OPERATIONS:
                self.problems.append(f"{method.upper()} {path}: there are too many operations")
                continue
            if monotonic() > self._until:
                self.problems.append(f"{method.upper()} {path}: the operations take too long")
                continue
            try:
                operation = self._operation(method.upper(), path, item, node)
            except UnusableError as error:
                self.problems.append(f"{method.upper()} {path}: {error}")
            else:
                self.operations[operation.name] = operation

    def _operation(self, method: str, path: str, item: Node, node: Node) -> Operation:
        inputs, input_schema = self._inputs(path, item, node)
        output = output_schema(self._document, node, self._budget)
        name = self._free_name(node.text("operationId"), method, path)
        definition: Schema = {"name": name}
        if node.text("summary"):
            definition["title"] = node.text("summary")[:MAX_TITLE]
        definition["description"] = _description(method, path, node)
        definition["inputSchema"] = input_schema
        if output is not None:
            definition["outputSchema"] = output
        definition["annotations"] = _ANNOTATIONS[method]
        encoded = raw(definition)
        if len(encoded) > min(MAX_DEFINITION_BYTES, self._room_bytes):
            raise UnusableError(node.where, "its definition is too large")
        self._room_bytes -= len(encoded)
        return Operation(
            name=name,
            method=method,
            path=path,
            server=_server(node) or _server(item) or _server(self._document.root),
            parameters=tuple(inputs.parameters),
            body=inputs.body,
            schemes=self._schemes_of(node),
            is_structured=output is not None,
            definition=encoded,
        )

    def _inputs(self, path: str, item: Node, node: Node) -> tuple[Inputs, Schema]:
        """With references written out, or with definitions where that is too much."""
        for inline in (True, False):
            maker = SchemaMaker(self._document, "request", self._budget, inline=inline)
            inputs = Inputs(self._document, maker)
            try:
                inputs.add_parameters(path, (item.child("parameters"), node.child("parameters")))
                inputs.add_body(node.child("requestBody"))
                return inputs, inputs.schema()
            except TooLargeError:
                if not inline:
                    raise
        raise AssertionError("one of the two ways returns or raises")

    def _schemes_of(self, node: Node) -> tuple[Scheme, ...]:
        """Schemes that the operation, or else the document, asks for: any of the alternatives."""
        asked = node.child("security")
        is_own = isinstance(asked.value, list)
        names = _scheme_names(asked) if is_own else self._asked_of_all
        return tuple(scheme for name, scheme in self.schemes.items() if name in names)

    def _free_name(self, operation_id: str, method: str, path: str) -> str:
        """The operation's own name; where that is absent or taken, its method and path; numbered."""
        by_path = f"{method.lower()}_{path.lstrip('/')}"
        for wanted in (operation_id or by_path, by_path):
            name = _tool_name(wanted)
            if name not in self.operations:
                return name
        plain, count = _tool_name(by_path)[: MAX_NAME - 5], 2
        while f"{plain}_{count}" in self.operations:
            count += 1
        return f"{plain}_{count}"


def _scheme_names(asked: Node) -> frozenset[str]:
    choices = asked.value if isinstance(asked.value, list) else []
    return frozenset(name for choice in choices if isinstance(choice, dict) for name in choice)


def _tool_name(text: str) -> str:
    """``[A-Za-z0-9_-]`` only; what is cut off a long name is told by a digest."""
    name = _UNSAFE.sub("_", text).strip("_") or "operation"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{name[: MAX_NAME - 7]}_{digest}"


def _description(method: str, path: str, node: Node) -> str:
    words = node.text("description") or node.text("summary") or f"{method} {path}"
    if node.flag("deprecated"):
        words = f"Deprecated. {words}"
    return words[:MAX_DESCRIPTION]


def _server(node: Node) -> str:
    """The first server a part of the document names, its variables at their defaults."""
    for server in node.child("servers").items():
        variables = server.child("variables")

        def default(match: re.Match[str], variables: Node = variables) -> str:
            value = variables.child(match[1]).child("default").value
            return str(value) if isinstance(value, str | int) else ""

        return _VARIABLE.sub(default, server.text("url"))
    return ""


def _schemes_of(document: Document) -> Iterator[tuple[str, Scheme]]:
    """Schemes that a fixed header, parameter or token can satisfy; the others are passed over."""
    for name, node in document.root.child("components").child("securitySchemes").members().items():
        try:
            scheme = document.follow(node)
        except UnusableError:
            continue
        kind = scheme.text("type")
        if kind == "apiKey" and scheme.text("in") in {"header", "query", "cookie"}:
            place = _KINDS[scheme.text("in")]
            yield name, Scheme(name=name, kind=place, field=scheme.text("name"))
        elif kind in {"oauth2", "openIdConnect"} or (
            kind == "http" and scheme.text("scheme").lower() == "bearer"
        ):
            yield name, Scheme(name=name, kind="bearer")
        elif kind == "http" and scheme.text("scheme").lower() == "basic":
            yield name, Scheme(name=name, kind="basic")
