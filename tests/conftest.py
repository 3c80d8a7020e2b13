"""What every test stands on: one event loop, bounded randomness, free ports, nothing left running."""

import os
import socket
from collections.abc import Callable, Iterator

import psutil
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_running() -> Iterator[None]:
    """Whatever tests started is gone when they are done; waits 5 s for what is just ending.

    Programs they start run as users start them, without the warnings meant for this process.
    """
    os.environ.pop("PYTHONWARNDEFAULTENCODING", None)
    this = psutil.Process()
    before = set(this.children(recursive=True))
    yield
    _, alive = psutil.wait_procs(set(this.children(recursive=True)) - before, timeout=5)
    left = [" ".join(process.cmdline()) for process in alive]
    for process in alive:
        process.kill()
    assert not left, f"left running: {left}"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports that nobody listens on, for programs that cannot choose their own."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find
