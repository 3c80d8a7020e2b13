"""The floor: what forwarding alone costs. nginx, and where it is missing our null proxy."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from bench.errors import NotStarted
from bench.processes import Program, await_port, free_port, module, running

FloorName = Literal["nginx", "null"]


class Floor(Struct, frozen=True):
    """A floor that runs."""

    url: str
    stream_url: str
    """Where it passes on what comes as it comes."""
    program: Program


# Everything that is not forwarding is off: no log, no file for any body, no limit that ends a
# connection during a run.
_CONFIGURATION: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_body_buffer_size 1m;
    client_max_body_size 8m;
    proxy_max_temp_file_size 0;
    proxy_buffer_size 64k;
    proxy_buffers 16 64k;
    upstream measured {{
        server {upstream};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://measured;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
        location /unbuffered/ {{
            proxy_pass http://measured/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
    }}
}}
"""


def choose() -> FloorName:
    """The floor this machine can have."""
    return "nginx" if find_nginx() else "null"


def find_nginx() -> str | None:
    """Where nginx is; the directory of system programs is not always in a user's path."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextmanager
def running_floor(
    name: FloorName, upstream_url: str, *, core: int | None, directory: Path
) -> Iterator[Floor]:
    """Run the floor in front of the upstream.

    ``directory`` takes its configuration and logs. Raises NotStarted.
    """
    upstream = urlsplit(upstream_url)
    log = directory / f"{name}.log"
    if name == "null":
        command = module("bench.null_proxy", str(upstream.hostname), str(upstream.port))
        with running(command, core=core, log=log) as program:
            yield Floor(program.ready["url"], program.ready["url"], program)
        return
    nginx = find_nginx()
    if nginx is None:
        raise NotStarted("nginx is not installed: scripts/install_bench_tools.sh installs it")
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(directory=directory, upstream=upstream.netloc, port=port),
        encoding="utf-8",
    )
    command = [nginx, "-p", str(directory), "-c", str(configuration), "-e", str(log)]
    with running(command, core=core, log=log, announces=False) as program:
        await_port(port)
        address = f"http://127.0.0.1:{port}"
        yield Floor(f"{address}/mcp", f"{address}/unbuffered/mcp", program)
