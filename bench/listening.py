"""How the small servers of the bench listen, and say where."""

import asyncio
import json
import sys
from collections.abc import Callable


async def listen(connected: Callable[[], asyncio.Protocol], port: int, path: str = "") -> None:
    """Serve on 127.0.0.1 until the process is told to end; port 0 takes any free one.

    Prints ``{"url": "http://127.0.0.1:PORT/path"}`` when it listens.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connected, "127.0.0.1", port)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}{path}"}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()
