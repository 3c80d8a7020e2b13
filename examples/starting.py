"""What examples share: free ports, and waiting for the programs they start."""

import socket
import subprocess


def wait_until_listening(process: subprocess.Popen[bytes], name: str, port: int) -> None:
    """Return when ``port`` takes connections. Raises RuntimeError when the process ends first."""
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)) != 0:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"the upstream {name} did not start")


def free_port(wanted: int) -> int:
    """``wanted`` when nobody listens there, else a port that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise RuntimeError("no port is free")
