"""The MCP surface on a real pipeline and record, served by uvicorn, in front of scripted upstreams.

Everything of ours is real but the providers: what upstreams would answer is scripted here, so that
tests of the wire decide when something happens. ``async with tiny_hub(tmp_path) as hub`` serves on a
free port of 127.0.0.1 until the block is left.
"""

from asyncio import Future
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import uvicorn
from msgspec import Raw

from hub.audit.recorder import Recorder
from hub.domain.announcement import ListChanged, ListKind, ResourceUpdated
from hub.domain.call import Call
from hub.domain.catalog import CapabilityId, Exposure, Kind, VirtualServer
from hub.domain.desired import GrantSpec
from hub.domain.outcome import Ask, Event, Failure, Log, Outcome, Progress, Refusal, Result
from hub.domain.principal import Principal
from hub.domain.record import Entry
from hub.identity.api_keys import digest_of, new_key
from hub.live.bus import Bus
from hub.live.parked import ParkedCalls
from hub.live.revocation import Revocations
from hub.live.sessions import Sessions
from hub.live.subscriptions import Subscriptions
from hub.metering.local import LocalCounting
from hub.metering.meter import Meter
from hub.pipeline import Admitted, Pipeline, Stages
from hub.policy.tables import Tables
from hub.snapshot import KeyEntry, Snapshot, SnapshotHolder, TenantSnapshot
from hub.surfaces.call_ids import CallIds
from hub.surfaces.credentials import Proxies
from hub.surfaces.front_door import FrontDoor
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.surface import McpSurface
from hub.surfaces.mcp.views import CallerViews
from hub.vault.key_ring import load_or_create
from hub.vault.sealed import Sealer
from mcp_wire.jsonrpc import decode_members, raw

WATCHED = "memo://watched"
Script = Callable[[Admitted], AsyncGenerator[Event]]


def now() -> datetime:
    return datetime.now(UTC)


def text_result(text: str, **more: Any) -> Result:
    return Result(raw({"content": [{"type": "text", "text": text}], **more}))


def arguments_of(admitted: Admitted) -> dict[str, Any]:
    given: dict[str, Any] = msgspec.json.decode(admitted.params.get("arguments", b"{}"))
    return given


class Seen:
    """What reached the scripted upstreams, and the points where they wait for a test."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.params: list[Mapping[str, Raw]] = []
        self.answers: list[Raw | Failure] = []
        self.entries: list[Entry] = []
        self.watched: list[frozenset[str]] = []
        self.refused: list[tuple[str, str]] = []
        self._events: dict[str, anyio.Event] = {}

    def event(self, name: str) -> anyio.Event:
        return self._events.setdefault(name, anyio.Event())


class Scripted:
    """Answers calls on capabilities by what stands under their name in ``scripts``."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.scripts: dict[str, Script] = {
            "echo": self._echo,
            "route": self._echo,
            "secret": self._echo,
            "wipe": self._echo,
            "slow": self._slow,
            "log": self._log,
            "hang": self._hang,
            "ask": self._ask,
            "fail": self._fail,
            "say": self._say,
            "crash": self._crash,
        }

    def invoke(self, admitted: Admitted) -> Outcome:
        self.seen.calls.append(admitted.call)
        self.seen.params.append(admitted.params)
        name = admitted.call.target.name
        script = self.scripts.get(name, self._contents)
        return script(admitted)

    async def _echo(self, admitted: Admitted) -> AsyncGenerator[Event]:
        yield text_result(str(arguments_of(admitted).get("text", "")))

    async def _contents(self, admitted: Admitted) -> AsyncGenerator[Event]:
        name, operation = admitted.call.target.name, admitted.call.operation
        if operation == "prompts/get":
            content = {"type": "text", "text": name}
            yield Result(raw({"messages": [{"role": "user", "content": content}]}))
        elif operation == "completion/complete":
            yield Result(raw({"completion": {"values": ["alice"], "total": 1, "hasMore": False}}))
        elif name == "memo://gone":
            yield Failure("error", "Gone", code=-32002, data=raw({"uri": name}))
        else:
            yield Result(raw({"contents": [{"uri": name, "text": f"text of {name}"}]}))

    async def _slow(self, admitted: Admitted) -> AsyncGenerator[Event]:
        for step in arguments_of(admitted).get("steps", [1, 2, 3]):
            yield Progress({"progress": raw(step), "total": raw(3)})
        yield text_result("done")

    async def _log(self, _: Admitted) -> AsyncGenerator[Event]:
        for level in ("debug", "info", "error"):
            yield Log({"level": raw(level), "data": raw(f"a {level} message")})
        yield text_result("logged")

    async def _hang(self, admitted: Admitted) -> AsyncGenerator[Event]:
        """Wait for the test's ``release``; say when this began and when it was given up."""
        name = str(arguments_of(admitted).get("name", "hang"))
        self.seen.event(f"{name} started").set()
        try:
            await self.seen.event(f"{name} release").wait()
        except BaseException:
            self.seen.event(f"{name} cancelled").set()
            raise
        yield text_result("released")

    async def _ask(self, admitted: Admitted) -> AsyncGenerator[Event]:
        """Ask in the way of the caller's era, as a dual-era upstream would."""
        given = arguments_of(admitted)
        schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
        question = {"message": "Which colour?", "requestedSchema": schema}
        if admitted.call.traits.revision >= "2026" and not given.get("push"):
            async for event in self._ask_again(admitted, question):
                yield event
            return
        if given.get("push") == "input_required":
            requests = {"colour": {"method": "elicitation/create", "params": question}}
            body = {"resultType": "input_required", "inputRequests": requests}
            yield Result(raw(body), input_required=True)
            return
        answered = anyio.Event()
        answers: list[Raw | Failure] = []

        async def take(answer: Raw | Failure) -> None:
            answers.append(answer)
            self.seen.answers.append(answer)
            answered.set()

        yield Ask("elicitation/create", raw(question), take)
        await answered.wait()
        (answer,) = answers
        if isinstance(answer, Failure):
            yield text_result(f"declined: {answer.message}", isError=True)
        else:
            content = msgspec.json.decode(answer)
            yield text_result(f"{content['action']}:{content.get('content', {}).get('colour')}")

    async def _ask_again(
        self, admitted: Admitted, question: Mapping[str, Any]
    ) -> AsyncGenerator[Event]:
        responses = admitted.params.get("inputResponses")
        if responses is None:
            requests = {"colour": {"method": "elicitation/create", "params": question}}
            body = {
                "resultType": "input_required",
                "inputRequests": requests,
                "requestState": "round-1",
            }
            yield Result(raw(body), input_required=True)
            return
        content = msgspec.json.decode(responses)["colour"]
        yield text_result(f"{content['action']}:{content['content']['colour']}")

    async def _fail(self, admitted: Admitted) -> AsyncGenerator[Event]:
        given = arguments_of(admitted)
        if "refuse" in given:
            data = raw({"remaining": 0}) if given["refuse"] == "limit" else None
            raise Refusal(given["refuse"], "Refused as asked.", data=data)
        data = raw(given["data"]) if "data" in given else None
        yield Failure(
            given.get("kind", "unreachable"),
            "as asked",
            code=given.get("code"),
            data=data,
            status=given.get("status"),
            retry_after_s=given.get("retry"),
        )

    async def _say(self, admitted: Admitted) -> AsyncGenerator[Event]:
        """Answer with the ``body`` that the arguments hold, byte for byte."""
        yield Result(decode_members(admitted.params["arguments"])["body"])

    async def _crash(self, _: Admitted) -> AsyncGenerator[Event]:
        raise RuntimeError("as asked")
        yield text_result("never")


class TinyCatalogue:
    """Answers lists and discovery from the exposures themselves."""

    def invoke(self, admitted: Admitted) -> Outcome:
        return self._answer(admitted)

    def first_listing(self, virtual_server: VirtualServer) -> Awaitable[None] | None:
        assert virtual_server.tenant == "default"
        return None

    async def _answer(self, admitted: Admitted) -> AsyncGenerator[Event]:
        call, server, view = admitted.call, admitted.virtual_server, admitted.view
        assert server is not None
        assert view is not None
        if call.action == "subscribe":
            yield Result(raw({}))
        elif call.action == "discover":
            features = {
                "tools": {"listChanged": True},
                "resources": {"listChanged": True, "subscribe": True},
                "prompts": {"listChanged": True},
                "completions": {},
                "logging": {},
            }
            body = {"capabilities": features, "instructions": server.instructions}
            yield Result(raw(body))
        else:
            kind: Kind = call.target.kind  # type: ignore[assignment]  # lists are of these kinds
            if "cursor" in call.params:
                raise Refusal("invalid", "Unknown cursor.")
            member = "resourceTemplates" if kind == "template" else f"{kind}s"
            fragments = [
                Raw(exposure.fragment)
                for exposure in server.of_kind(kind).values()
                if view.allows(exposure.bit)
            ]
            yield Result(raw({member: fragments}))


class Offer:
    """Builds virtual servers out of names."""

    def __init__(self) -> None:
        self._bit = 0

    def exposure(self, kind: Kind, name: str, **more: Any) -> Exposure:
        bit, self._bit = self._bit, self._bit + 1
        key = {"template": "uriTemplate", "resource": "uri"}.get(kind, "name")
        body: dict[str, Any] = {key: name}
        if kind in {"template", "resource"}:
            body["name"] = name.rpartition("/")[2] or name
        if kind == "tool":
            body["inputSchema"] = more.pop("schema", {"type": "object"})
        return Exposure(
            name=name,
            kind=kind,
            capability=CapabilityId("upstream", kind, name),
            digest=f"digest of {name}",
            bit=bit,
            fragment=msgspec.json.encode(body),
            **more,
        )

    def virtual_server(self, name: str, tools: tuple[str, ...] = (), **more: Any) -> VirtualServer:
        return VirtualServer(
            name=name,
            tenant="default",
            title=name.title(),
            instructions="Ask me anything.",
            tools={tool: self._tool(tool) for tool in tools},
            resources={
                uri: self.exposure("resource", uri)
                for uri in (WATCHED, "memo://static", "memo://gone", "memo://secret")
            },
            templates={"memo://note/{id}": self.exposure("template", "memo://note/{id}")},
            prompts={"greet": self.exposure("prompt", "greet")},
            **more,
        )

    def _tool(self, name: str) -> Exposure:
        if name == "wipe":
            return self.exposure("tool", name, destructive=True)
        if name != "route":
            return self.exposure("tool", name)
        properties = {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
        }
        return self.exposure(
            "tool",
            name,
            schema={"type": "object", "properties": properties},
            param_headers={("region",): "Region", ("count",): "Count"},
        )


TOOLS = ("echo", "route", "slow", "log", "hang", "ask", "fail", "say", "crash", "wipe", "secret")


class Grown:
    """The configuration that tests change: it makes snapshots."""

    def __init__(self, keys: Mapping[str, str], *, anonymous: bool) -> None:
        self.keys = keys
        self.anonymous = anonymous
        self.tools: tuple[str, ...] = TOOLS
        self.bob_tools: tuple[str, ...] = ("echo", "hang", "ask")
        self.withheld: frozenset[str] = frozenset()
        """Principals without any grant."""

    def snapshot(self) -> Snapshot:
        offer = Offer()
        servers = {
            "default": offer.virtual_server("default", self.tools),
            "dev": offer.virtual_server("dev", ("echo",)),
        }
        grants = [
            GrantSpec(virtual_server="default", principal="alice"),
            GrantSpec(virtual_server="dev", principal="alice"),
            GrantSpec(
                virtual_server="default",
                principal="bob",
                tools=self.bob_tools,
                resources=("memo://static", WATCHED),
            ),
        ]
        tables = Tables(
            [grant for grant in grants if grant.principal not in self.withheld],
            servers,
            anonymous_everywhere=self.anonymous,
        )
        tenant = TenantSnapshot(name="default", virtual_servers=servers, tables=tables)
        entries = {
            digest_of(key): KeyEntry(
                f"key of {name}", Principal("default", name, "service", key_id=f"key of {name}")
            )
            for name, key in self.keys.items()
        }
        return Snapshot(tenants={"default": tenant}, keys=entries, anonymous=self.anonymous)


class Noting:
    """The real record, noting what it was given."""

    def __init__(self, recorder: Recorder, seen: Seen) -> None:
        self._recorder = recorder
        self._seen = seen
        self.full = False

    def reserve(self, call: str) -> None:
        self._recorder.reserve(call)

    def append(self, entry: Entry) -> "Future[None]":
        self._seen.entries.append(entry)
        return self._recorder.append(entry)

    def digest(self, tenant: str, content: bytes) -> str:
        return self._recorder.digest(tenant, content)

    def refused_before_identify(self, source: str, reason: str) -> None:
        self._seen.refused.append((source, reason))


class Unobserved:
    def started(self, call: Call) -> Call:
        return call

    def forwarded(self, call: Call, upstream: str) -> Call:
        assert upstream == "upstream"
        return call

    def ended(self, call: Call, entry: Entry, upstream_us: int | None) -> None:
        pass


class TinyHub:
    """A running surface and everything that tests reach into."""

    def __init__(
        self,
        port: int,
        surface: McpSurface,
        given: Collaborators,
        grown: Grown,
        parts: "Parts",
    ) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/mcp"
        self.port = port
        self.surface = surface
        self.given = given
        self.grown = grown
        self.seen = parts.seen
        self.scripted = parts.scripted
        self.revocations = parts.revocations
        self.parts = parts

    def restarted(self) -> Collaborators:
        """What a new process would work with: the same keys and configuration, nothing live."""
        return msgspec.structs.replace(self.given, sessions=Sessions())

    def headers(self, name: str = "alice") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.grown.keys[name]}"}

    def announce(self, *kinds: ListKind) -> None:
        for kind in kinds:
            self.parts.bus.publish(ListChanged("default", kind))

    def touch(self, uri: str, virtual_server: str = "default") -> None:
        self.parts.bus.publish(ResourceUpdated("default", virtual_server, uri))

    def regrow(self) -> None:
        """Swap in a snapshot of the configuration as it is now, and say so."""
        self.parts.snapshots.swap(self.grown.snapshot())
        self.announce("tools", "resources", "prompts")

    async def until(self, name: str) -> None:
        with anyio.fail_after(5):
            await self.seen.event(name).wait()

    async def until_idle(self) -> None:
        """Wait until no stream is open."""
        with anyio.fail_after(5):
            while self.surface.open_streams:
                await anyio.lowlevel.checkpoint()


class Parts:
    """What a hub is made of, apart from its surface: survives a restart of the surface."""

    def __init__(self, grown: Grown, data: Path) -> None:
        self.seen = Seen()
        self.scripted = Scripted(self.seen)
        self.bus = Bus()
        self.revocations = Revocations()
        self.snapshots = SnapshotHolder(grown.snapshot())
        self.ring = load_or_create(data, now())
        self.clock: Callable[[], float] = lambda: now().timestamp() + self.late_s
        """What expiring tokens are judged by; ``late_s`` lets time pass."""
        self.late_s = 0.0
        self.catalogue = TinyCatalogue()

    def recorder(self, data: Path) -> Recorder:
        return Recorder(
            data / "record",
            signer=self.ring.signer(),
            digest_key=self.ring.digest_key,
            now=now,
        )

    def collaborators(
        self, recorder: Recorder, tasks: anyio.abc.TaskGroup, **more: Any
    ) -> Collaborators:
        pipeline = Pipeline(
            Stages(
                snapshots=self.snapshots,
                revoked=self.revocations,
                catalogue=self.catalogue,
                recorder=Noting(recorder, self.seen),
                meter=Meter(LocalCounting(now), now),
                observer=Unobserved(),
                providers={"catalogue": self.catalogue, "capabilities": self.scripted},
                now=now,
            )
        )
        settings: dict[str, Any] = {"heartbeat_s": 15.0, "front_door": FrontDoor(), **more}
        views = CallerViews(self.snapshots, self.revocations, now)
        self.parked = ParkedCalls(views.admits, **settings.pop("parked", {}))
        self.revocations.on_change(self.parked.check)
        self.snapshots.on_swap(lambda _old, _new: self.parked.check())
        return Collaborators(
            pipeline=pipeline,
            views=views,
            sessions=settings.pop("sessions", None) or Sessions(),
            bus=self.bus,
            subscriptions=Subscriptions(lambda _t, _v, uris: self.seen.watched.append(uris)),
            revocations=self.revocations,
            seal=Sealer(self.ring.sealing, self.clock),
            parked=self.parked,
            tasks=tasks,
            new_call_id=CallIds(),
            refused_before_identify=lambda source, reason: self.seen.refused.append((
                source,
                reason,
            )),
            proxies=Proxies(settings.pop("trusted", ())),
            version="0.0.0",
            **settings,
        )


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def collaborating(
    data: Path, *, anonymous: bool = False, parts: Parts | None = None, **more: Any
) -> AsyncIterator[tuple[Collaborators, Parts, Grown]]:
    """Everything but a server: for transports that need none."""
    grown = Grown({"alice": new_key(), "bob": new_key()}, anonymous=anonymous)
    parts = parts or Parts(grown, data)
    async with parts.recorder(data).running() as recorder, anyio.create_task_group() as tasks:
        try:
            yield parts.collaborators(recorder, tasks, **more), parts, grown
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def tiny_hub(data: Path, **more: Any) -> AsyncIterator[TinyHub]:
    """A served surface; ``more`` goes to :class:`Collaborators`, ``anonymous`` to the snapshot."""
    async with collaborating(data, **more) as (given, parts, grown):
        surface = McpSurface(given)
        async with serving(surface) as port:
            yield TinyHub(port, surface, given, grown, parts)
            surface.end_streams()


@asynccontextmanager
async def serving(surface: McpSurface) -> AsyncIterator[int]:
    """Serve on this event loop; the port."""
    config = uvicorn.Config(
        surface,
        port=0,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        with anyio.fail_after(5):
            while not server.started:
                await anyio.lowlevel.checkpoint()
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True


async def exchanged(
    hub: TinyHub, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> bytes:
    """One HTTP request exactly as written here, and everything that comes back."""
    head = {"Host": f"127.0.0.1:{hub.port}", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    text = f"{method} {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
    received = b""
    with anyio.fail_after(5):
        async with await anyio.connect_tcp("127.0.0.1", hub.port) as stream:
            await stream.send(text.encode("latin-1") + body)
            async for chunk in stream:
                received += chunk
    return received
