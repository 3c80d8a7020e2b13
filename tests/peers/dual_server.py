"""A Streamable HTTP server that speaks both eras on one address."""

from typing import Any

from tests.peers.offerings import build
from tests.peers.serving import main


def application(**options: Any) -> Any:
    return build("dual").streamable_http_app(**options)


if __name__ == "__main__":
    main(application)
