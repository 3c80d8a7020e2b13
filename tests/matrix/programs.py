"""Clients as programs: each SDK in a process of its own, told what to do in lines of JSON.

A command is ``{"id", "do", "connection", …}``; its answer ``{"id", "result"}`` or ``{"id", "error":
{"code", "message", "data", "kind"}}``, in the SDK's own words. Between them come events ``{"connection",
"event", "method", "params"}``: ``asked`` for questions that servers put to the client, ``notified``
for notifications. Commands run at the same time; the methods of :class:`Connected` are all there are.
"""

import json
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct

from tests.matrix.table import ClientKind, era_of_client

HERE: Final = Path(__file__).parent
NODE: Final = HERE.parents[1] / ".tools" / "node_modules" / ".bin" / "node"
ANSWER_S: Final = 10.0
"""How long a command may take; the machine may be busy with other tests."""
START_S: Final = 30.0
"""How long a program may take to start and connect: an SDK takes seconds to be imported then."""
LINE_BYTES: Final = 2**24

_PYTHON: Final = (sys.executable, str(HERE / "clients" / "python_sdk.py"))
_PROGRAMS: Final[Mapping[ClientKind, tuple[str, ...]]] = {
    "python_modern": _PYTHON,
    "python_legacy": _PYTHON,
    "sse": _PYTHON,
    "ts2_modern": (str(NODE), str(HERE / "clients" / "typescript_v2.mjs")),
    "ts2_legacy": (str(NODE), str(HERE / "clients" / "typescript_v2.mjs")),
    "ts1_legacy": (str(NODE), str(HERE / "clients" / "typescript_v1.mjs")),
}


class Refused(Exception):  # noqa: N818  # it is the client's error, not ours
    """The client's error, as it tells it."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.code = error.get("code")
        self.message = str(error.get("message"))
        self.data: Any = error.get("data") or {}
        self.kind = error.get("kind")
        """The class of the client's exception, where it has one for this error."""


class Told(Struct, frozen=True):
    """Something a server said of its own accord."""

    connection: str
    event: Literal["asked", "notified", "lost"]
    method: str
    params: Any


class Program:
    """One running program. Its lines are read by whoever waits for one of them."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._answers: dict[int, Any] = {}
        self._told: deque[Told] = deque()
        self._last_id = 0

    async def send(self, **command: Any) -> int:
        """Start a command; its number."""
        self._last_id += 1
        line = json.dumps({"id": self._last_id, **command}) + "\n"
        await self._stdin.send(line.encode())
        return self._last_id

    async def answer(self, number: int, within_s: float = ANSWER_S) -> Any:
        """The result of a command. Raises Refused."""
        with anyio.fail_after(within_s):
            while number not in self._answers:
                await self._read()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    async def event(self, connection: str, method: str) -> Told:
        """The next one of a method; it is taken away."""
        with anyio.fail_after(ANSWER_S):
            while (found := self._first(connection, method)) is None:
                await self._read()
        self._told.remove(found)
        return found

    def taken(self, connection: str, *methods: str) -> list[Told]:
        """Everything of those methods that was read; it is taken away."""
        found = [
            one for one in self._told if one.connection == connection and one.method in methods
        ]
        for one in found:
            self._told.remove(one)
        return found

    async def stop(self) -> None:
        """End it by ending its input; kill it when that does not do."""
        with suppress(anyio.BrokenResourceError):
            await self._stdin.aclose()
        with anyio.move_on_after(2):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.aclose()

    def forget(self, connection: str) -> None:
        self._told = deque(one for one in self._told if one.connection != connection)

    def _first(self, connection: str, method: str) -> Told | None:
        return next(
            (one for one in self._told if (one.connection, one.method) == (connection, method)),
            None,
        )

    async def _read(self) -> None:
        line = json.loads(await self._lines.receive_until(b"\n", LINE_BYTES))
        if "id" in line:
            self._answers[line.pop("id")] = line
        else:
            self._told.append(Told(**line))


class Connected:
    """One connection of a program to one URL."""

    def __init__(self, program: Program, name: str, kind: ClientKind, hello: Any) -> None:
        self._program = program
        self._name = name
        self.kind = kind
        self.era = era_of_client(kind)
        self.hello = hello
        """``revision``, ``instructions`` and ``capabilities`` of the server."""

    async def _do(self, do: str, **more: Any) -> Any:
        return await self._program.answer(await self.start(do, **more))

    async def start(self, do: str, **more: Any) -> int:
        """Start a command and do not wait; for :meth:`cancel` and :meth:`end_of`."""
        return await self._program.send(do=do, connection=self._name, **more)

    async def end_of(self, number: int) -> Any:
        """The result of what was started. Raises Refused."""
        return await self._program.answer(number)

    async def cancel(self, number: int) -> None:
        """Have the client cancel what was started, its own way."""
        await self._do("cancel", target=number)

    async def names(self, kind: str) -> list[str]:
        listed: list[str] = (await self._do("list", kind=kind))["names"]
        return listed

    async def definitions(self, kind: str) -> dict[str, Any]:
        """Definitions by name."""
        listed = await self._do("list", kind=kind)
        return dict(zip(listed["names"], listed["definitions"], strict=True))

    async def list_from(self, kind: str, cursor: str) -> Any:
        return await self._do("list", kind=kind, cursor=cursor)

    async def call(self, tool: str, /, **arguments: Any) -> Any:
        """A tool's whole result."""
        return await self._do("call", name=tool, arguments=arguments)

    async def text(self, tool: str, /, **arguments: Any) -> str:
        """The text of a tool's result, which must be no error."""
        result = await self.call(tool, **arguments)
        assert not result.get("isError"), result
        return str(result["content"][0]["text"])

    async def read(self, uri: str) -> Any:
        return (await self._do("read", uri=uri))["contents"]

    async def prompt(self, prompt: str, /, **arguments: str) -> str:
        result = await self._do("prompt", name=prompt, arguments=arguments)
        return str(result["messages"][0]["content"]["text"])

    async def complete(self, prompt: str, argument: str, value: str) -> list[str]:
        result = await self._do("complete", prompt=prompt, argument=argument, value=value)
        values: list[str] = result["completion"]["values"]
        return values

    async def log_level(self, level: str) -> None:
        """The least severe messages it wants to hear, from now on."""
        await self._do("log_level", level=level)

    async def watch(self, *uris: str) -> None:
        """Hear of changed lists of tools, and of these resources."""
        await self._do("watch", uris=uris)

    async def roots_changed(self) -> None:
        await self._do("roots_changed")

    async def prepare(self, **answers: Sequence[Any]) -> None:
        """What to answer questions with: ``elicitation``, ``sampling``, ``roots``, one after another."""
        methods = {
            "elicitation": "elicitation/create",
            "sampling": "sampling/createMessage",
            "roots": "roots/list",
        }
        prepared = {methods[name]: list(answer) for name, answer in answers.items()}
        await self._do("answers", answers=prepared)

    async def notified(self, method: str) -> Any:
        """Wait for a notification; its parameters."""
        return (await self._program.event(self._name, method)).params

    def told(self, *methods: str) -> list[Any]:
        """Parameters of what came of those methods before the last answer."""
        return [one.params for one in self._program.taken(self._name, *methods)]

    def forget(self) -> None:
        """Whatever came until now concerns nobody any more."""
        self._program.forget(self._name)

    async def close(self) -> None:
        await self._do("close")


class Programs:
    """The clients of a test module; a program is started when it is first needed."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._running: dict[tuple[str, ...], Program] = {}
        self._connections = 0

    async def connect(self, kind: ClientKind, url: str, declares: Sequence[str]) -> Connected:
        """A new connection; ``declares`` are the capabilities of the client. Raises Refused."""
        program = await self._program(_PROGRAMS[kind])
        self._connections += 1
        name = f"{kind}-{self._connections}"
        era = "sse" if kind == "sse" else era_of_client(kind)
        number = await program.send(
            do="connect",
            connection=name,
            url=url,
            era=era,
            headers=self._headers,
            declares=declares,
        )
        return Connected(program, name, kind, await program.answer(number, START_S))

    async def _program(self, command: tuple[str, ...]) -> Program:
        if command not in self._running:
            there = await anyio.Path(command[0]).exists()
            assert there, "Node is not installed: run 'make tools'"
            process = await anyio.open_process(command, stdin=subprocess.PIPE, stderr=None)
            self._running[command] = Program(process)
        return self._running[command]

    async def stop(self) -> None:
        """End all programs by ending their input; what hangs is killed."""
        while self._running:
            _, program = self._running.popitem()
            await program.stop()


@asynccontextmanager
async def programs(headers: Mapping[str, str]) -> AsyncIterator[Programs]:
    """Clients that authenticate with ``headers``."""
    running = Programs(headers)
    try:
        yield running
    finally:
        with anyio.CancelScope(shield=True):
            await running.stop()
