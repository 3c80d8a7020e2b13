"""An HTTP+SSE server of 2024-11-05."""

from typing import Any

from tests.peers.offerings import build
from tests.peers.serving import main


def application() -> Any:
    return build("sse").sse_app()


if __name__ == "__main__":
    main(application, "/sse")
