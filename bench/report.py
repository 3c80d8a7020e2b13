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
from bench.gateways import PEERS, PORTICO, RULED, SHARED
from bench.interleaving import Plan
from bench.limits import START, Verdict
from bench.summary import Summary
from bench.variants import VARIANTS

_HEADINGS: Final = (
    "variant", "gateway", "CPU", "spread", "calls/s", "p50", "p99", "first event", "reach", "limit",
    "",
)  # fmt: skip
_LIBRARIES: Final = ("uvloop", "httptools", "msgspec", "uvicorn", "starlette", "mcp", "fastmcp")
_LEGEND: Final = (
    "CPU, calls/s, p50 and p99 are over the floor's: of calls, or of whole streams, whose CPU is per "
    "chunk. Spread is that of CPU over the repetitions; first event is the time to it beyond the "
    "time it takes directly at the upstream; reach is upstream requests per call. An asterisk: the "
    "generator with nothing in between was not three times faster, so that the rate is a lower "
    "bound, and what is said above of shares of that rate is an upper one."
)


def table(summaries: Sequence[Summary], verdicts: Sequence[Verdict], *, absolute: bool) -> str:
    """Rows of ratios to the floor with their limits; with ``absolute`` the medians beside them."""
    more = ("CPU us", "calls/s", "p50 us", "p99 us", "first us", "RSS MB") if absolute else ()
    rows = [(*_HEADINGS, *more)]
    for one in summaries:
        own = [
            verdict
            for verdict in verdicts
            if (verdict.limit.gateway, verdict.variant) == (one.gateway, one.variant)
        ]
        rows.append((*_ratios(one), *_told(own), *(_absolutes(one) if absolute else ())))
    return _aligned(rows)


def limits_table(verdicts: Sequence[Verdict]) -> str:
    """Each limit with what was measured, and whether it is met.

    An asterisk is at shares of a rate that the floor could exceed and the generator could not.
    """
    rows = [("what", "variant", "gateway", "measured", "limit", "")]
    for one in verdicts:
        limit = one.limit
        measured = f"{one.measured:.2f}{limit.unit and f' {limit.unit}'}"
        measured += "*" if one.is_upper_bound else ""
        where = "" if one.variant == START else one.variant
        rows.append((limit.what, where, limit.gateway, measured, str(limit), _bold(one)))
    return _aligned(rows)


def calls_section(summaries: Sequence[Summary], verdicts: Sequence[Verdict], how: str) -> str:
    """What is published of Portico and the floor."""
    own = [one for one in summaries if one.gateway not in PEERS]
    missed = sum(not one.is_met for one in verdicts)
    parts = (
        f"{len(verdicts) - missed} of {len(verdicts)} limits are met:",
        limits_table(verdicts),
        "All that was measured:",
        table(own, verdicts, absolute=False),
        " ".join((_LEGEND, *map(_traced, filter(_is_traced, own)))),
        how,
    )
    return "\n\n".join(parts)


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


def rules_section(summaries: Sequence[Summary], how: str) -> str:
    """What rules cost: calls under them over calls without, in the same repetitions."""
    bare = {one.variant: one for one in summaries if one.gateway == PORTICO}
    rows = [("variant", "gateway", "CPU over bare", "CPU added", "p50 over bare", "reach")]
    for one in summaries:
        own = bare.get(one.variant)
        if own is not None and one.gateway in (RULED, SHARED):
            added = one.cpu_ratio - own.cpu_ratio
            row = (
                one.variant,
                one.gateway,
                f"{one.cpu_ratio / own.cpu_ratio:.2f}",
                f"{added:+.2f}",
            )
            rows.append((*row, f"{one.p50_ratio / own.p50_ratio:.2f}", f"{one.reach:.2f}"))
    return f"{_aligned(rows)}\n\nCPU added is over the floor's CPU per call. {how}"


def circumstances(plan: Plan, cores: str) -> str:
    """Where and how it was measured."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    tools = ", ".join(filter(None, (_nginx_version(), _wrk_version())))
    return (
        f"Measured on {datetime.now(UTC).date().isoformat()}: {_processor()}, {platform.system()} "
        f"{platform.release()}; {cores}. Python {platform.python_version()}, {libraries}; {tools}. "
        f"{plan.repetitions} repetitions of {plan.seconds} s or more, interleaved, load from "
        f"{plan.generator.name} (streams: our own); medians of the ratios to {plan.floor} in the same repetition."
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = tuple("-" * width for width in widths)
    lines = (rows[0], rule, *rows[1:])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in lines)


def _ratios(one: Summary) -> tuple[str, ...]:
    tells_cpu = not VARIANTS[one.variant].first_event
    return (
        one.variant,
        one.gateway,
        f"{one.cpu_ratio:.2f}" if tells_cpu else "",
        f"{one.cpu_spread:.0%}" if tells_cpu else "",
        f"{one.rate_ratio:.2f}{'*' if one.rate_is_lower_bound else ''}",
        f"{one.p50_ratio:.2f}",
        f"{one.p99_ratio:.2f}",
        "" if one.first_added_ms is None else f"{one.first_added_ms:+.2f} ms",
        f"{one.reach:.2f}",
    )


def _told(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    """The limits of a row, and what became of them."""
    limits = ", ".join(f"{one.limit.short} {one.limit}" for one in verdicts)
    missed = ", ".join(f"{one.limit.short} {_bold(one)}" for one in verdicts if not one.is_met)
    return limits, missed or ("met" if verdicts else "")


def _bold(verdict: Verdict) -> str:
    """So that what is not met is seen at once."""
    return str(verdict) if verdict.is_met else f"**{verdict}**"


def _is_traced(one: Summary) -> bool:
    return one.gateway == PORTICO and one.spans > 0


def _traced(one: Summary) -> str:
    return (
        f"Of a call in {one.variant} two spans are made; {one.spans:.1f} for each call reached the "
        "collector while it was measured."
    )


def _absolutes(one: Summary) -> tuple[str, ...]:
    return (
        f"{one.cpu_us:.1f}",
        f"{one.rate:.0f}",
        f"{one.p50_us:.0f}",
        f"{one.p99_us:.0f}",
        f"{one.first_us:.0f}" if one.first_us else "",
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
