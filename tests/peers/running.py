"""Starting and stopping peers: in a thread of this process, or as a process of its own.

``with modern_server() as peer:`` serves on a free port of 127.0.0.1 and has stopped when the block
is left; it works in synchronous and asynchronous tests and in fixtures of every scope.
``with spawned("modern_server") as peer:`` is the same in a process that can be killed.
``with serving(application) as peer:`` serves any ASGI application.
"""

from contextlib import AbstractContextManager
from typing import Any

from tests.peers.dual_server import application as dual_application
from tests.peers.legacy_server import application as legacy_application
from tests.peers.modern_server import application as modern_application
from tests.peers.serving import Peer, serving, spawned
from tests.peers.sse_server import application as sse_application

__all__ = [
    "Peer",
    "dual_server",
    "legacy_server",
    "modern_server",
    "serving",
    "spawned",
    "sse_server",
]


def modern_server(*, port: int = 0, **options: Any) -> AbstractContextManager[Peer]:
    """Streamable HTTP, 2026-07-28 only. ``json_response=True`` answers without streams."""
    return serving(modern_application(**options), port=port)


def legacy_server(*, port: int = 0, **options: Any) -> AbstractContextManager[Peer]:
    """Streamable HTTP with sessions, up to 2025-11-25. Options are the SDK's for its application."""
    return serving(legacy_application(**options), port=port)


def dual_server(**options: Any) -> AbstractContextManager[Peer]:
    """Streamable HTTP of both eras on one address."""
    return serving(dual_application(**options))


def sse_server() -> AbstractContextManager[Peer]:
    """HTTP+SSE of 2024-11-05: the address is that of the event stream."""
    return serving(sse_application(), path="/sse")
