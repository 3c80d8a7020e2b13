"""How a peer serves: uvicorn at its fastest, one worker, a free port of 127.0.0.1, said as JSON."""

import json
import socket
import sys
from typing import Any

import uvicorn


async def serve(application: Any) -> None:
    """Serve an ASGI application at ``/mcp`` until told to end."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        await uvicorn.Server(config).serve([listening])
