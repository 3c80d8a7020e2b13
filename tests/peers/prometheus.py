"""A real Prometheus: on a free port of 127.0.0.1, with its data in a temporary directory."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import anyio
import httpx2

_READY = "Server is ready to receive web requests."
_START_S = 30


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query returns: series with their values. Fails for a bad expression."""
        found: list[dict[str, Any]] = (await self._get("query", query=expression))["result"]
        return found

    async def rules(self) -> list[dict[str, Any]]:
        """The alert rules it runs, with their health and state."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def until(self, expression: str, *, tries: int = 200) -> list[dict[str, Any]]:
        """What a query returns once it returns anything; asked ten times a second."""
        for _ in range(tries):
            found = await self.query(expression)
            if found:
                return found
            await anyio.sleep(0.1)
        raise TimeoutError(expression)

    async def _get(self, path: str, **parameters: str) -> Any:
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = (await http.get(f"{self.url}/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]


@contextmanager
def running_prometheus(config: str) -> Iterator[Prometheus]:
    """A server with this configuration. Needs ``scripts/install_prometheus.sh`` to have run."""
    folder = Path(tempfile.mkdtemp(prefix="portico-prometheus-"))
    file = folder / "prometheus.yml"
    file.write_text(config, encoding="utf-8")
    address = f"127.0.0.1:{_free_port()}"
    words = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=folder, encoding="utf-8")
    try:
        _wait_until_ready(process)
        with process:
            assert process.stderr is not None
            drain = Thread(target=process.stderr.read)  # it would stop at a full pipe
            drain.start()
            try:
                yield Prometheus(f"http://{address}")
            finally:
                process.terminate()
                process.wait(timeout=30)
                drain.join(5)
    finally:
        process.kill()
        shutil.rmtree(folder)


def program(name: str) -> str:
    """Where ``prometheus`` or ``promtool`` is."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing; run scripts/install_prometheus.sh")
    return found


def _wait_until_ready(process: "subprocess.Popen[str]") -> None:
    """It says so on standard error."""
    assert process.stderr is not None
    limit = Timer(_START_S, process.kill)
    limit.start()
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if _READY in line:
                return
    finally:
        limit.cancel()
    raise RuntimeError("".join(lines))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
