"""How figures are shown: a table for the terminal, and sections for the documents.

Absolute figures of one machine mean little on another: documents get ratios.
"""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.floor import find_nginx
from bench.gateways import PEERS, PORTICO, Gateway
from bench.interleaving import Plan
from bench.summary import Summary, cpu_limit_of

_HEADINGS: Final = (
    "variant", "gateway", "CPU", "spread", "limit", "calls/s", "p50", "p99", "reach",
)  # fmt: skip
_LIBRARIES: Final = ("uvloop", "httptools", "msgspec", "uvicorn", "starlette", "mcp", "fastmcp")
_LEGEND: Final = (
    "CPU, calls/s, p50 and p99 are over the floor's; spread is that of CPU per call over the "
    "repetitions; reach is upstream requests per call. An asterisk: the generator with nothing in "
    "between was not three times faster, so that the rate is a lower bound."
)


def table(summaries: Sequence[Summary], *, absolute: bool) -> str:
    """Rows of ratios to the floor; with ``absolute`` the medians beside them."""
    more = ("CPU us", "calls/s", "p50 us", "p99 us", "RSS MB") if absolute else ()
    rows = [(*_HEADINGS, *more)]
    rows += [_ratios(one) + (_absolutes(one) if absolute else ()) for one in summaries]
    return _aligned(rows)


def calls_section(summaries: Sequence[Summary], gateway: Gateway, how: str) -> str:
    """What is published of Portico and the floor."""
    own = [one for one in summaries if one.gateway not in PEERS]
    start = (
        f"Ready {gateway.program.start_s:.1f} s after its start, with "
        f"{gateway.idle_bytes / 1e6:.0f} MB of resident memory."
    )
    return f"{table(own, absolute=False)}\n\n{_LEGEND}\n\n{start}\n\n{how}"


def peers_section(summaries: Sequence[Summary], how: str) -> str:
    """What is published of the peers: what a call costs through each, over Portico's."""
    ours = {one.variant: one for one in summaries if one.gateway == PORTICO}
    rows = [("variant", "peer", "CPU over Portico's", "p50 over Portico's", "reach")]
    for one in summaries:
        own = ours.get(one.variant)
        if own is not None and one.gateway in PEERS:
            cpu, p50 = one.cpu_ratio / own.cpu_ratio, one.p50_ratio / own.p50_ratio
            rows.append((one.variant, one.gateway, f"{cpu:.1f}", f"{p50:.1f}", f"{one.reach:.2f}"))
    return f"{_aligned(rows)}\n\n{how}"


def circumstances(plan: Plan, cores: str) -> str:
    """Where and how it was measured."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    tools = ", ".join(filter(None, (_nginx_version(), _wrk_version())))
    return (
        f"Measured on {datetime.now(UTC).date().isoformat()}: {_processor()}, {platform.system()} "
        f"{platform.release()}; {cores}. Python {platform.python_version()}, {libraries}; {tools}. "
        f"{plan.repetitions} repetitions of {plan.seconds} s or more, interleaved, load from "
        f"{plan.generator.name}; medians of the ratios to {plan.floor} in the same repetition."
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = tuple("-" * width for width in widths)
    lines = (rows[0], rule, *rows[1:])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in lines)


def _ratios(one: Summary) -> tuple[str, ...]:
    limit = cpu_limit_of(one)
    return (
        one.variant,
        one.gateway,
        f"{one.cpu_ratio:.2f}",
        f"{one.cpu_spread:.0%}",
        "" if limit is None else f"<= {limit:g}",
        f"{one.rate_ratio:.2f}{'*' if one.rate_is_lower_bound else ''}",
        f"{one.p50_ratio:.2f}",
        f"{one.p99_ratio:.2f}",
        f"{one.reach:.2f}",
    )


def _absolutes(one: Summary) -> tuple[str, ...]:
    return (
        f"{one.cpu_us:.1f}",
        f"{one.rate:.0f}",
        f"{one.p50_us:.0f}",
        f"{one.p99_us:.0f}",
        f"{one.resident_bytes / 1e6:.0f}",
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _nginx_version() -> str:
    nginx = find_nginx()
    if nginx is None:
        return ""
    done = subprocess.run([nginx, "-v"], capture_output=True, check=False, encoding="utf-8")
    return done.stderr.strip().rpartition(":")[2].strip().replace("/", " ")


def _wrk_version() -> str:
    if shutil.which("wrk") is None:
        return ""
    done = subprocess.run(["wrk", "-v"], capture_output=True, check=False, encoding="utf-8")
    return " ".join(done.stdout.split()[:2])
