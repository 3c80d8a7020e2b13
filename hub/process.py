"""One serving process: the composed hub, its configuration file, its socket, until it is told to stop."""

import gc
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from msgspec import Struct

from hub.administration.authority import local_administrator
from hub.administration.configuration import SETTINGS, ApplyRequest, apply
from hub.administration.imports import ImportRequest, import_upstreams
from hub.administration.upstreams import UpstreamPut, put_upstream
from hub.app import Hub, Settings, composed
from hub.config.loading import load
from hub.config.models import PorticoFile
from hub.config.references import resolve
from hub.config.texts import is_loopback
from hub.data_directory import remembered_store
from hub.domain.call import DEFAULT_TENANT, DEFAULT_VIRTUAL_SERVER
from hub.domain.principal import Evidence
from hub.errors import ConfigurationError, PorticoError, StoreUnavailableError
from hub.serving import listening_socket, serve
from hub.surfaces.mcp.standard_streams import standard_streams
from hub.surfaces.mcp.stdio import serve_stdio
from hub.telemetry.logs import LogLevel, Redaction, set_up_logging

_log = logging.getLogger(__name__)

STORE_VARIABLE: Final = "PORTICO_STORE_URL"
LOOK_EVERY_S: Final = 0.5
"""How often the configuration file is looked at."""

_GARBAGE: Final = 20_000
"""Objects that calls under way may hold before cycles are looked for: they leave hardly any."""

FIRST_TOOLS_S: Final = 10.0
"""How long the first listing of upstreams is waited for before tools are told."""


class Options(Struct, frozen=True, kw_only=True):
    """What the command line says; None leaves it to the file or its defaults."""

    data: Path
    config: tuple[Path, ...] = ()
    """Configuration files, each of another tenant; the process's own settings are in the first."""
    bind: str | None = None
    port: int | None = None
    log_level: LogLevel | None = None
    target: dict[str, Any] | None = None
    """What to register: an import request, or ``name`` and ``spec`` of one upstream."""


class Started(Struct, frozen=True, kw_only=True):
    """What there is to tell once the hub serves."""

    url: str
    """The MCP URL of everything."""
    data: Path
    tools: tuple[str, ...]
    """Exposed names of the tools at ``url``, as far as upstreams answered by now."""
    anonymous: bool
    """Whether local callers need no key."""


async def run_until_stopped(options: Options, tell: Callable[[Started], None]) -> None:
    """Serve until a signal; ``tell`` is called when calls are welcome.

    Raises PorticoError when it cannot start as configured, or cannot listen where it should.
    """
    files = ConfigurationFiles(options.config)
    file = files.first
    redaction = Redaction()
    set_up_logging(
        options.log_level or file.telemetry.log_level,
        log_format=file.telemetry.log_format,
        redaction=redaction,
    )
    host = options.bind or file.server.bind
    with _bound(host, file.server.port if options.port is None else options.port) as bound:
        settings = Settings(data=options.data, file=file, store_url=_store_url(file))
        async with composed(settings, redaction) as hub:
            hub.directory.remember_store(_written_store(file))
            applied = await _apply_first(hub, options, files)
            _check_door(hub, host)
            here = f"http://{_shown(host)}:{bound.getsockname()[1]}"
            hub.running.url = file.server.public_url or here
            async with (
                hub.control.running(),
                hub.upstreams.running(),
                hub.background(),
                anyio.create_task_group() as tasks,
            ):
                for config, content in applied.items():
                    tasks.start_soon(_follow, hub, files, config, content)

                def ready() -> None:
                    # What was made so far lives as long as the process: collecting it again and
                    # again would stop calls for tens of milliseconds with a large catalogue.
                    gc.collect()
                    gc.freeze()
                    gc.set_threshold(_GARBAGE)
                    tasks.start_soon(_tell, hub, here, tell)

                await serve(
                    hub.asgi,
                    bound,
                    lane=hub.fast_lane,
                    count=hub.given.refused_before_identify,
                    on_ready=ready,
                    on_stop=hub.drain,
                )
                tasks.cancel_scope.cancel()


async def run_on_streams(options: Options, virtual_server: str, key: str | None) -> None:
    """Serve MCP on standard input and output until the client closes them, without any socket.

    Whoever starts this holds the data directory; with no key they are a local caller like others.
    """
    files = ConfigurationFiles(options.config)
    file = files.first
    redaction = Redaction()
    set_up_logging(options.log_level or "warning", redaction=redaction)
    store = file.store.url or remembered_store(options.data)
    store_url = resolve(store, os.environ) if store is not None else None
    settings = Settings(data=options.data, file=file, store_url=store_url)
    async with composed(settings, redaction) as hub:
        await _apply_first(hub, options, files)
        async with (
            hub.control.running(),
            hub.upstreams.running(),
            hub.background(),
            standard_streams() as (source, sink),
        ):
            evidence = Evidence(secret=key, direct=True)
            await serve_stdio(
                hub.given, source, sink, evidence=evidence, virtual_server=virtual_server
            )
            hub.drain()


def _bound(host: str, port: int) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror}. "
            "Choose another place with --bind and --port."
        ) from error


class ConfigurationFiles:
    """The files of the command line: what is in force of each, and what each may say.

    Settings of the process stand in the first; each file describes another tenant.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises ConfigurationError for files that cannot be read, or not go together."""
        self.first = PorticoFile(version=1)
        self.paths = tuple(paths)
        self._tenants: dict[Path, str] = {}
        for path in self.paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
            file = self.checked(path, content)
            self.applied(path, file.tenant)
            if path == self.paths[0]:
                self.first = file

    def checked(self, path: Path, content: bytes) -> PorticoFile:
        """What a file says now. Raises ConfigurationError where it may not say so beside the others."""
        loaded = load(content, str(path), known=None)
        if loaded.file is None:
            problems = [str(problem) for problem in loaded.problems]
            raise ConfigurationError("\n".join(problems), problems)
        given = [name for name in SETTINGS if name in loaded.file.model_fields_set]
        if given and path != self.paths[0]:
            raise ConfigurationError(
                f"{path}: {', '.join(given)}: settings of the process belong into the first file, "
                f"{self.paths[0]}."
            )
        for other, tenant in self._tenants.items():
            if tenant == loaded.file.tenant and other != path:
                raise ConfigurationError(
                    f"{path}: the tenant '{tenant}' is described by {other} already; each file "
                    "describes another one ('tenant: NAME')."
                )
        return loaded.file

    def applied(self, path: Path, tenant: str) -> None:
        """A file describes this tenant from now on."""
        self._tenants[path] = tenant


def _written_store(file: PorticoFile) -> str | None:
    """Where state is kept, in the words of whoever said so."""
    return file.store.url or (f"env:{STORE_VARIABLE}" if STORE_VARIABLE in os.environ else None)


def _store_url(file: PorticoFile) -> str | None:
    return resolve(file.store.url, os.environ) if file.store.url is not None else None


async def _apply_first(hub: Hub, options: Options, files: ConfigurationFiles) -> dict[Path, bytes]:
    """Apply and register what was named; the contents of the files that were applied."""
    file = files.first
    principal = local_administrator(file.tenant)
    applied: dict[Path, bytes] = {}
    for config in files.paths:
        applied[config] = await anyio.Path(config).read_bytes()
        await _apply(hub, files, config, applied[config])
    if options.target is not None and "text" in options.target:
        request = ImportRequest.model_validate(options.target)
        answer = await import_upstreams(hub.desk, principal, file.tenant, request)
        for note in answer.notes:
            _log.warning("%s: %s", note.name, note.message)
    elif options.target is not None:
        given = {"name": options.target["name"], **options.target["spec"]}
        await put_upstream(hub.desk, principal, file.tenant, UpstreamPut.model_validate(given))
    await hub.control.refresh()
    return applied


async def _apply(hub: Hub, files: ConfigurationFiles, config: Path, content: bytes) -> None:
    if len(files.paths) > 1:
        await anyio.to_thread.run_sync(files.checked, config, content)
    text = content.decode("utf-8", errors="surrogateescape")
    principal = local_administrator(DEFAULT_TENANT)
    request = ApplyRequest(text=text, path=str(config))
    plan = await apply(hub.desk, principal, DEFAULT_TENANT, request)
    files.applied(config, plan.tenant)
    for warning in plan.warnings:
        _log.warning("%s", warning)


async def _follow(hub: Hub, files: ConfigurationFiles, config: Path, applied: bytes) -> None:
    """Apply the file whenever it changes; a bad one leaves the old state in force."""
    seen, trouble = applied, ""
    while True:
        await anyio.sleep(LOOK_EVERY_S)
        try:
            content = await anyio.Path(config).read_bytes()
            if content == seen:
                trouble = ""
                continue
            await _apply(hub, files, config, content)
            await hub.control.refresh()
        except (OSError, StoreUnavailableError) as error:
            # It goes by itself, perhaps, and is said once: there is a next look.
            if str(error) != trouble:
                trouble = str(error)
                _log.error("%s is not applied, the old state goes on: %s", config, error)
            continue
        except PorticoError as error:
            _log.error("%s is not applied, the old state goes on: %s", config, error)
        except Exception:  # noqa: BLE001 -- a loop in the background; logged with its traceback
            _log.exception("%s is not applied, the old state goes on", config)
        else:
            _log.info("%s was applied", config)
        seen, trouble = content, ""


def _check_door(hub: Hub, host: str) -> None:
    if hub.snapshots.current.anonymous and not is_loopback(host):
        raise ConfigurationError(
            f"Nobody could prove who they are on {host}: create a key first "
            "('portico key create --principal NAME'), or listen on 127.0.0.1."
        )


async def _tell(hub: Hub, here: str, tell: Callable[[Started], None]) -> None:
    # The command line calls with the administrator's key, which need not travel to the public URL.
    hub.directory.announce(here)
    await hub.upstreams.tried(DEFAULT_TENANT, FIRST_TOOLS_S)
    snapshot = hub.snapshots.current
    tools = snapshot.tenants[DEFAULT_TENANT].virtual_servers[DEFAULT_VIRTUAL_SERVER].tools
    tell(
        Started(
            url=f"{hub.running.url}/mcp",
            data=hub.directory.path,
            tools=tuple(tools),
            anonymous=snapshot.anonymous,
        )
    )


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
