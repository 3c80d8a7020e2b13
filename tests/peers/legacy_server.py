"""A Streamable HTTP server with sessions that speaks revisions up to 2025-11-25."""

from typing import Any

from tests.peers.eras import only_legacy
from tests.peers.offerings import build
from tests.peers.serving import main


def application(**options: Any) -> Any:
    return only_legacy(build("legacy").streamable_http_app(**options))


if __name__ == "__main__":
    main(application)
