"""What a broken HTTP upstream may do with a request instead of answering it: scripts by name."""

from typing import Final, NamedTuple

from tests.peers.raw_server import Received, Script, Wire

MEBIBYTE: Final = 1024 * 1024
STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Broken(NamedTuple):
    """A way to fail, and what a caller is told of it."""

    script: Script
    kind: str
    """``io.portico/failure`` names it, and the record's ``reason``."""


async def hang_before(_: Received, wire: Wire) -> None:
    await wire.client_left()


async def hang_in_head(_: Received, wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-")
    await wire.client_left()


async def hang_in_body(_: Received, wire: Wire) -> None:
    await wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"jsonrpc":')
    await wire.client_left()


async def hang_in_stream(_: Received, wire: Wire) -> None:
    await wire.start_stream()
    await wire.chunk(b": still here\r\n\r\nevent: message\r\ndata: {")
    await wire.client_left()


async def progress_for_ever(received: Received, wire: Wire) -> None:
    """Working, it says, and never done; only the total time ends it."""
    await wire.start_stream()
    token = received.json["params"]["_meta"].get("progressToken", 0)
    progress = 0
    while True:
        progress += 1
        params = {"progressToken": token, "progress": progress}
        await wire.frame({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


async def flood_of_body(_: Received, wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    await wire.send(b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await wire.chunk(b" " * MEBIBYTE)


async def flood_of_frame(_: Received, wire: Wire) -> None:
    await wire.start_stream()
    await wire.chunk(b"event: message\r\ndata: ")
    while True:
        await wire.chunk(b"x" * MEBIBYTE)


async def flood_of_headers(_: Received, wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await wire.send(b"X-More: of the same\r\n" * 1000)


async def flood_of_interim(_: Received, wire: Wire) -> None:
    while True:
        await wire.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


async def no_http(_: Received, wire: Wire) -> None:
    await wire.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    await wire.client_left()


async def another_protocol(_: Received, wire: Wire) -> None:
    await wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    )
    await wire.client_left()


async def two_lengths(_: Received, wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}")
    await wire.client_left()


async def html(_: Received, wire: Wire) -> None:
    await wire.reply(200, b"<html>Welcome</html>", content_type="text/html")


async def compressed(received: Received, wire: Wire) -> None:
    headers = {"Content-Encoding": "gzip"}
    await wire.reply(200, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", headers)


async def nothing(_: Received, wire: Wire) -> None:
    await wire.reply(200)


async def accepted(_: Received, wire: Wire) -> None:
    await wire.reply(202)


async def close_before(_: Received, wire: Wire) -> None:
    await wire.hang_up()


async def reset_before(_: Received, wire: Wire) -> None:
    await wire.abort()


async def close_in_body(_: Received, wire: Wire) -> None:
    await wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"jsonrpc":')
    await wire.hang_up()


async def close_in_stream(_: Received, wire: Wire) -> None:
    await wire.start_stream()
    await wire.chunk(b"event: message\r\ndata: {")
    await wire.hang_up()


async def end_of_stream(_: Received, wire: Wire) -> None:
    await wire.start_stream()
    await wire.end_stream()


async def another_id(_: Received, wire: Wire) -> None:
    await wire.reply(200, b'{"jsonrpc":"2.0","id":"another","result":{"content":[]}}')


async def another_id_in_stream(_: Received, wire: Wire) -> None:
    await wire.start_stream()
    await wire.frame({"jsonrpc": "2.0", "id": "another", "result": {"content": []}})
    await wire.end_stream()


def saying(result: bytes, member: bytes = b"result") -> Script:
    """Answers with a result that is none."""

    async def say(_: Received, wire: Wire) -> None:
        await wire.reply(200, wire.envelope(member, result))

    return say


def in_stream(data: bytes) -> Script:
    """Answers with an event that is no message."""

    async def say(_: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.frame(data)
        await wire.end_stream()

    return say


DEEP: Final = b"[" * 100_000 + b"]" * 100_000

TIMED_OUT: Final = {
    "hangs before its answer": Broken(hang_before, "timeout"),
    "hangs in the head": Broken(hang_in_head, "timeout"),
    "hangs in the body": Broken(hang_in_body, "timeout"),
    "hangs in the stream": Broken(hang_in_stream, "timeout"),
    "reports progress for ever": Broken(progress_for_ever, "timeout"),
}

FLOODED: Final = {
    "sends a body without end": Broken(flood_of_body, "violation"),
    "sends an event without end": Broken(flood_of_frame, "violation"),
    "sends headers without end": Broken(flood_of_headers, "violation"),
    "sends interim answers without end": Broken(flood_of_interim, "violation"),
}

CUT_OFF: Final = {
    "closes before its answer": Broken(close_before, "disconnected"),
    "resets before its answer": Broken(reset_before, "disconnected"),
    "closes within the body": Broken(close_in_body, "disconnected"),
    "closes within the stream": Broken(close_in_stream, "disconnected"),
    "ends the stream without an answer": Broken(end_of_stream, "disconnected"),
}

GARBAGE: Final = {
    "speaks no HTTP": Broken(no_http, "violation"),
    "switches protocols": Broken(another_protocol, "violation"),
    "gives two lengths": Broken(two_lengths, "violation"),
    "answers with a page": Broken(html, "violation"),
    "compresses unasked": Broken(compressed, "violation"),
    "answers with nothing": Broken(nothing, "violation"),
    "accepts and says no more": Broken(accepted, "violation"),
    "answers another request": Broken(another_id, "violation"),
    "answers another request on a stream": Broken(another_id_in_stream, "violation"),
    "gives no object": Broken(saying(b"[]"), "violation"),
    "gives text that is no UTF-8": Broken(saying(b'{"content":["\xff"]}'), "violation"),
    "gives a name that is no UTF-8": Broken(saying(b'{"\xff":1}'), "violation"),
    "gives numbers JSON has not": Broken(saying(b'{"content":[NaN]}'), "violation"),
    "nests too deeply": Broken(saying(b'{"content":%b}' % DEEP), "violation"),
    "gives an error without code": Broken(saying(b'{"message":"x"}', b"error"), "violation"),
    "gives an error that is text": Broken(saying(b'"boom"', b"error"), "violation"),
    "gives an error that is no UTF-8": Broken(
        saying(b'{"code":1,"message":"\xff"}', b"error"), "violation"
    ),
    "sends an event that is no JSON": Broken(in_stream(b"{"), "violation"),
    "sends an event that is no UTF-8": Broken(in_stream(b'{"method":"\xff"}'), "violation"),
    "sends an event nested too deeply": Broken(in_stream(DEEP), "violation"),
}
