"""The Python SDK's client as a program; the lines it speaks are told in tests/matrix/programs.py."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ServerEvent
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import event_to_notification
from pydantic import BaseModel, TypeAdapter

LISTED: Final = {
    "tools": ("list_tools", "name"),
    "resources": ("list_resources", "uri"),
    "resource_templates": ("list_resource_templates", "uri_template"),
    "prompts": ("list_prompts", "name"),
}
LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
TOLD_OTHERWISE: Final = frozenset(("notifications/message", "notifications/progress"))
SAMPLED: Final[TypeAdapter[Any]] = TypeAdapter(types.CreateMessageResult)


def say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def plain(model: BaseModel) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def undecorated(method: Any) -> Any:
    """Without the warning that it is deprecated, which it is for the modern era only."""
    return method.__wrapped__


class Connection:
    """One client, connected until it is told to close."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: dict[str, list[Any]] = {}
        self.level: str | None = None
        self.closing = anyio.Event()
        self.client: Client
        self._watching = anyio.CancelScope()

    async def serve(
        self, asked: Mapping[str, Any], *, task_status: anyio.abc.TaskStatus[Any]
    ) -> None:
        """Be connected; the status is what the handshake told, or the exception it raised."""
        is_open = False
        try:
            async with AsyncExitStack() as stack:
                transport: Any = sse_client(asked["url"], headers=asked["headers"])
                if asked["era"] != "sse":
                    http = httpx2.AsyncClient(headers=asked["headers"], timeout=60, trust_env=False)
                    await stack.enter_async_context(http)
                    transport = streamable_http_client(asked["url"], http_client=http)
                mode = "auto" if asked["era"] == "modern" else "legacy"
                client = Client(transport, mode=mode, **self._callbacks(asked["declares"]))
                self.client = await stack.enter_async_context(client)
                task_status.started({
                    "revision": self.client.protocol_version,
                    "instructions": self.client.instructions,
                    "capabilities": plain(self.client.server_capabilities),
                })
                is_open = True
                await self.closing.wait()
        except Exception as error:  # noqa: BLE001  # told to whoever asked for the connection
            if is_open:
                say({"connection": self.name, "event": "lost", "method": "", "params": str(error)})
            else:
                task_status.started(error)

    def _callbacks(self, declares: Sequence[str]) -> dict[str, Any]:
        callbacks: dict[str, Any] = {
            "logging_callback": self._logged,
            "message_handler": self._notified,
        }
        if "elicitation" in declares:
            callbacks["elicitation_callback"] = self._elicited
        if "sampling" in declares:
            callbacks["sampling_callback"] = self._sampled
        if "roots" in declares:
            callbacks["list_roots_callback"] = self._rooted
        return callbacks

    def _asked(self, method: str, params: Any) -> Any:
        self.tell("asked", method, plain(params) if params is not None else {})
        prepared = self.answers.get(method, [])
        if not prepared:
            return None
        return prepared.pop(0) if len(prepared) > 1 else prepared[0]

    async def _elicited(self, _context: Any, params: Any) -> Any:
        answer = self._asked("elicitation/create", params)
        return types.ElicitResult.model_validate(answer or {"action": "cancel"})

    async def _sampled(self, _context: Any, params: Any) -> Any:
        answer = self._asked("sampling/createMessage", params)
        if answer is None:
            return types.ErrorData(code=-1, message="nothing prepared")
        return SAMPLED.validate_python(answer)

    async def _rooted(self, _context: Any) -> Any:
        return types.ListRootsResult.model_validate(self._asked("roots/list", None) or {})

    async def _logged(self, params: types.LoggingMessageNotificationParams) -> None:
        self.tell("notified", "notifications/message", plain(params))

    async def _notified(self, message: Any) -> None:
        if isinstance(message, BaseModel):
            told: Any = message
            if told.method not in TOLD_OTHERWISE:
                self.tell("notified", told.method, plain(told.params) if told.params else {})

    def tell(self, event: str, method: str, params: Any) -> None:
        say({"connection": self.name, "event": event, "method": method, "params": params})

    async def list(self, asked: Mapping[str, Any]) -> Any:
        """All definitions of one kind, over all pages."""
        method, key = LISTED[asked["kind"]]
        cursor, found, pages = asked.get("cursor"), [], 0
        while True:
            page = await getattr(self.client, method)(cursor=cursor, cache_mode="bypass")
            pages += 1
            found += getattr(page, asked["kind"])
            cursor = page.next_cursor
            if cursor is None:
                names = [str(getattr(one, key)) for one in found]
                return {"names": names, "pages": pages, "definitions": [plain(o) for o in found]}

    async def call(self, asked: Mapping[str, Any]) -> Any:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            params = {"progress": progress, "total": total, "message": message}
            self.tell("notified", "notifications/progress", params)

        meta: Any = {LOG_LEVEL: self.level} if self.level is not None else None
        result = await self.client.call_tool(
            asked["name"], asked["arguments"], progress_callback=progressed, meta=meta
        )
        return plain(result)

    async def read(self, asked: Mapping[str, Any]) -> Any:
        return plain(await self.client.read_resource(asked["uri"], cache_mode="bypass"))

    async def prompt(self, asked: Mapping[str, Any]) -> Any:
        return plain(await self.client.get_prompt(asked["name"], asked["arguments"]))

    async def complete(self, asked: Mapping[str, Any]) -> Any:
        reference = types.PromptReference(name=asked["prompt"])
        argument = {"name": asked["argument"], "value": asked["value"]}
        return plain(await self.client.complete(reference, argument))

    async def log_level(self, asked: Mapping[str, Any]) -> Any:
        """From now on; the legacy era tells the server, the modern one says it with each call."""
        if self.client.protocol_version >= "2026":
            self.level = asked["level"]
        else:
            await undecorated(Client.set_logging_level)(self.client, asked["level"])
        return {}

    async def watch(self, asked: Mapping[str, Any], tasks: anyio.abc.TaskGroup) -> Any:
        """Hear of changes of lists, and of these resources."""
        if self.client.protocol_version >= "2026":
            await tasks.start(self._listen, asked["uris"])
        else:
            for uri in asked["uris"]:
                await undecorated(Client.subscribe_resource)(self.client, uri)
        return {}

    async def _listen(
        self, uris: Sequence[str], *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        with anyio.CancelScope() as self._watching:
            async with self.client.listen(
                tools_list_changed=True, resource_subscriptions=uris
            ) as subscription:
                task_status.started()
                async for event in subscription:
                    self._changed(event)

    def _changed(self, event: ServerEvent) -> None:
        told = event_to_notification(event, {})
        self.tell("notified", told.method, plain(told.params) if told.params else {})

    async def roots_changed(self, _asked: Mapping[str, Any]) -> Any:
        await undecorated(Client.send_roots_list_changed)(self.client)
        return {}

    def close(self) -> None:
        self._watching.cancel()
        self.closing.set()


class Program:
    """All connections, and the commands under way."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._connections: dict[str, Connection] = {}
        self._running: dict[int, anyio.CancelScope] = {}

    async def obey(self, asked: Mapping[str, Any]) -> None:
        number = asked["id"]
        scope = self._running[number] = anyio.CancelScope()
        answer: dict[str, Any] = {"error": {"message": "cancelled"}}
        with scope:
            try:
                answer = {"result": await self._done(asked)}
            except MCPError as error:
                answer = {"error": plain(error.error)}
            except Exception as error:  # noqa: BLE001  # told to whoever asked
                answer = {"error": {"message": f"{type(error).__name__}: {error}"}}
        del self._running[number]
        say({"id": number, **answer})

    async def _done(self, asked: Mapping[str, Any]) -> Any:
        what = asked["do"]
        if what == "connect":
            return await self._connect(asked)
        if what == "cancel":
            self._running[asked["target"]].cancel()
            return {}
        connection = self._connections[asked["connection"]]
        if what == "close":
            connection.close()
            return {}
        if what == "answers":
            connection.answers = asked["answers"]
            return {}
        if what == "watch":
            return await connection.watch(asked, self._tasks)
        method: Callable[[Mapping[str, Any]], Awaitable[Any]] = getattr(connection, what)
        return await method(asked)

    async def _connect(self, asked: Mapping[str, Any]) -> Any:
        connection = Connection(asked["connection"])
        told = await self._tasks.start(connection.serve, asked)
        if isinstance(told, Exception):
            raise told
        self._connections[connection.name] = connection
        return told


async def main() -> None:
    """Obey until standard input ends."""
    async with anyio.create_task_group() as tasks:
        program = Program(tasks)
        async for line in anyio.wrap_file(sys.stdin):
            tasks.start_soon(program.obey, json.loads(line))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
