"""A Streamable HTTP server that speaks 2026-07-28 only."""

from typing import Any

from tests.peers.eras import only_modern
from tests.peers.offerings import build
from tests.peers.serving import main


def application(**options: Any) -> Any:
    return only_modern(build("modern").streamable_http_app(**options))


if __name__ == "__main__":
    main(application)
