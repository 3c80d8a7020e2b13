"""A gateway that changes the event streams it passes on, as none may."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = Callable[[list[bytes]], list[bytes]]
"""What becomes of the events of an answer."""


@contextmanager
def tampering(upstream_url: str, fault: Fault, *, breaks_off: bool = False) -> Iterator[str]:
    """A gateway that passes on everything but what it does to the events of streams: its URL."""

    class Tampering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            connection = http.client.HTTPConnection(urlsplit(upstream_url).netloc, timeout=10)
            connection.request("POST", "/mcp", body)
            events = connection.getresponse().read().split(b"\r\n\r\n")[:-1]
            connection.close()
            answer = b"".join(b"%b\r\n\r\n" % event for event in fault(events))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(answer) + breaks_off))
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = breaks_off

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Tampering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()
            thread.join(5)
