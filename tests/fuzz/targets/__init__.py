"""Every target by name; a module for each side of the product, loaded when it is asked for."""

import importlib
from typing import Final

from tests.fuzz.target import Target

WHERE: Final = {
    "inbound": "wire",
    "sse": "wire",
    "header_values": "wire",
    "param_headers": "wire",
    "request_fields": "edges",
    "answer_fields": "edges",
    "tokens": "edges",
    "uri_template": "edges",
    "configuration": "files",
    "client_file": "files",
    "openapi": "files",
    "key_ring": "files",
    "http_answer": "upstream",
    "child_frames": "upstream",
    "listing": "upstream",
    "mcp_request": "hub",
    "admin_request": "hub",
    "lanes": "connections",
    "socket": "connections",
    "standard_input": "connections",
    "guarded_content": "rules",
    "guarded_stream": "rules",
}
"""Name of the target -> its module here."""


def named(name: str) -> Target:
    """The target of that name."""
    targets: tuple[Target, ...] = importlib.import_module(f"{__name__}.{WHERE[name]}").TARGETS
    (found,) = (target for target in targets if target.name == name)
    return found
