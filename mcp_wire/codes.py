"""JSON-RPC error codes, reserved ``_meta`` keys and log levels of MCP, and Portico's own outside the reserved range."""

from typing import Final

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
LEGACY_RESOURCE_NOT_FOUND: Final = -32002
LEGACY_URL_ELICITATION_REQUIRED: Final = -32042
HEADER_MISMATCH: Final = -32020
MISSING_CLIENT_CAPABILITY: Final = -32021
UNSUPPORTED_REVISION: Final = -32022

BUDGET_SPENT: Final = -31402
VIRTUAL_SERVER_DENIED: Final = -31403
LIMIT_REACHED: Final = -31429
GUARDRAIL_BLOCKED: Final = -31451
UNAVAILABLE: Final = -31503
UNAUTHENTICATED: Final = -31401

HTTP_STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CLIENT_CAPABILITY: 400,
    UNSUPPORTED_REVISION: 400,
    METHOD_NOT_FOUND: 404,
    UNAUTHENTICATED: 401,
    BUDGET_SPENT: 402,
    VIRTUAL_SERVER_DENIED: 403,
    GUARDRAIL_BLOCKED: 403,
    LIMIT_REACHED: 429,
    UNAVAILABLE: 503,
}
"""HTTP status that carries an error of this code on the modern wire; unlisted codes travel with 200."""

META_REVISION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
META_RESERVED_PREFIX: Final = "io.modelcontextprotocol/"
META_PROGRESS: Final = "progressToken"
META_CALL: Final = "io.portico/call"
META_REFUSAL: Final = "io.portico/refusal"
META_UPSTREAMS: Final = "io.portico/upstreams"

LOG_LEVELS: Final = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
"""RFC 5424 levels, least severe first."""
