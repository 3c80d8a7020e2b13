"""A legacy upstream over standard input and output that fails at random. Standard library only."""

import json
import os
import random
import sys
from typing import Any, Final

TOOLS: Final = [{"name": "work", "description": "work", "inputSchema": {"type": "object"}}]


def say(message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request: Any, result: Any) -> None:
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})


def work(request: Any) -> None:
    """Most calls are answered."""
    fate = random.random()  # noqa: S311  # what fails when, not a secret
    if fate < 0.0002:
        os._exit(3)
    if fate < 0.002:
        return  # never answered
    if fate < 0.02:
        sys.stdout.write("Starting up ...\n")
    answer(request, {"content": [{"type": "text", "text": "x" * int(fate * 5000)}]})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if method == "initialize":
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "soak", "version": "0"},
            }
            answer(message, result)
        elif method == "tools/list":
            answer(message, {"tools": TOOLS})
        elif method == "tools/call":
            work(message)
        elif "id" in message and method is not None:
            error = {"code": -32601, "message": "no"}
            say({"jsonrpc": "2.0", "id": message["id"], "error": error})


if __name__ == "__main__":
    main()
