"""A stdio server by script, standard library only: what it does wrong is chosen by its arguments.

It has a tool ``noise`` that answers after lines that are no messages, ``die`` that ends it, ``pid`` that tells its process id and variables, ``ask`` that asks its client
for input, ``wait`` that never answers; any other tool answers with the member in the file ``--result``:
a result without its name, or ``"result":…`` or ``"error":…``. What comes is written to ``--seen``.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

DISCOVERY: Final = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
}
NOISE: Final = (
    b"listening on a port",
    b"\xff\xfe",
    b'{"jsonrpc":"2.0","id":1,"result":',
    b"[" * 100_000,
    b"7",
    b"[]",
    b'{"jsonrpc":"2.0","id":987654321,"result":{}}',
    b'{"jsonrpc":"2.0","id":"x","method":"no/such"}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":0}}',
)


def say(message: bytes) -> None:
    sys.stdout.buffer.write(message + b"\n")
    sys.stdout.buffer.flush()


def answer(request: Any, result: Any) -> None:
    say(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode())


def refuse(request: Any, code: int, data: Any = None) -> None:
    error = {"code": code, "message": "no", **({"data": data} if data is not None else {})}
    say(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())


class Server:
    """One connection, served a line at a time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.capabilities: Any = {}
        self.asking: Any = None
        self.is_legacy = False

    def take(self, message: Any) -> None:
        method = message.get("method")
        if method is None:
            self.answered(message)
        elif method == "server/discover":
            self.discover(message)
        elif method == "initialize":
            self.initialize(message)
        elif method == "tools/list":
            self.list_tools(message)
        elif method == "tools/call":
            self.call(message)
        elif "id" in message:
            refuse(message, -32601)

    def discover(self, message: Any) -> None:
        how = self.options.discover
        if how == "die":
            sys.stderr.write("unexpected message before the handshake\n")
            raise SystemExit(1)
        if how == "legacy":
            answer(message, {**DISCOVERY, "supportedVersions": ["2025-11-25"]})
        elif how == "modern":
            answer(message, DISCOVERY)
        elif how == "error":
            refuse(message, -32601)

    def initialize(self, message: Any) -> None:
        if self.options.discover == "modern":
            refuse(message, -32022, {"supported": ["2026-07-28"], "requested": "2025-11-25"})
            return
        self.is_legacy = True
        self.capabilities = message["params"]["capabilities"]
        result = {
            "protocolVersion": self.options.revision,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "raw", "version": "0"},
        }
        answer(message, result)

    def list_tools(self, message: Any) -> None:
        names = ["noise", "die", "pid", "ask", "wait", *self.options.tool]
        if not self.options.hide or "elicitation" in self.capabilities:
            names.append("hidden")
        answer(
            message,
            {
                "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names],
                **({} if self.is_legacy else {"ttlMs": 5, "cacheScope": "public"}),
            },
        )

    def call(self, message: Any) -> None:
        name = message["params"]["name"]
        if name == "die":
            raise SystemExit(3)
        if name == "noise":
            for line in NOISE:
                say(line)
            answer(message, {"content": []})
        elif name == "ask":
            self.asking = message
            params = {"message": "?", "requestedSchema": {"type": "object"}}
            request = {"jsonrpc": "2.0", "id": "q1", "method": "elicitation/create"}
            say(json.dumps({**request, "params": params}).encode())
        elif name == "pid":
            words = " ".join([str(os.getpid()), *sorted(os.environ)])
            answer(message, {"content": [{"type": "text", "text": words}]})
        elif name != "wait":
            content = Path(self.options.result).read_bytes()
            name = b"" if content.startswith(b'"') else b'"result":'
            say(b'{"jsonrpc":"2.0","id":%d,%b%b}' % (message["id"], name, content))

    def answered(self, message: Any) -> None:
        if self.asking is not None:
            words = json.dumps(message.get("result", message.get("error")))
            answer(self.asking, {"content": [{"type": "text", "text": words}]})
            self.asking = None


def command(*arguments: str) -> tuple[str, ...]:
    """What starts this program, quickly."""
    return (sys.executable, "-I", "-S", str(Path(__file__).resolve()), *arguments)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--discover", default="error")
    parser.add_argument("--revision", default="2025-11-25")
    parser.add_argument("--start-s", type=float, default=0.0)
    parser.add_argument("--banner", default="")
    parser.add_argument("--hide", action="store_true")
    parser.add_argument("--result", default=os.devnull)
    parser.add_argument("--tool", action="append", default=[])
    parser.add_argument("--seen", default=os.devnull)
    options = parser.parse_args()
    time.sleep(options.start_s)
    if options.banner:
        say(options.banner.encode())
        sys.stderr.write("starting\n")
        sys.stderr.flush()
    server = Server(options)
    with Path(options.seen).open("ab", buffering=0) as seen:
        for line in sys.stdin.buffer:
            seen.write(line)
            server.take(json.loads(line))


if __name__ == "__main__":
    main()
