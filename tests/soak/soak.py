"""Many clients of both eras, upstreams that fail at random: nothing grows, leaks, or goes unrecorded.

``python -m tests.soak.soak --minutes 15`` tells how it goes and ends with 1 when any of this is false:

- memory is flat: of the samples after the warm-up (a third of the run), the median of the last quarter
  is at most 3 % and 6 MiB above that of the first (12 MiB more where the warm-up is shorter than the
  five minutes for which answers are kept);
- once all clients have gone and their keys are revoked, within 30 seconds no more sockets are open than
  before, no more children run than are configured, nothing is under way upstream, and no call waits
  for an answer to its question;
- no client ever waited 20 seconds; every answer to a call has a call id, and the record has exactly
  one entry of each; the record is intact; SIGTERM ends Portico and its children.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
import anyio.to_thread
import httpx2
import psutil
from msgspec import Struct, field, to_builtins

from hub.audit.reading import search
from tests.peers.portico import PORTICO, Portico, portico, running_portico
from tests.soak.clients import Client, LegacyClient, ModernClient, Tally, Wire
from tests.soak.watching import MIB, Growth, Sample, Watch, growth

HERE: Final = Path(__file__).parent
PRINCIPALS: Final = 6
STDIO_CHILDREN: Final = 3
SAMPLE_S: Final = 1.0
SAY_EVERY: Final = 10
"""Samples from one line of progress to the next."""
KILL_EVERY: Final = 45
"""Samples from one stdio child that is killed to the next: one that lives less than 30 s is let rest."""
PAUSE_S: Final = 0.25
"""How long a client does nothing between two calls, on average."""
QUIET_S: Final = 30.0
SPARE_SOCKETS: Final = 2
CONFIG: Final = """
version: 1
upstreams:
  modern: {{url: "{url}/modern", timeout_s: 2, timeout_cap_s: 5}}
  legacy: {{url: "{url}/legacy", timeout_s: 2, timeout_cap_s: 5}}
  stdio: {{command: {command}, timeout_s: 2, timeout_cap_s: 5, max_children: {children}}}
principals: {{{principals}}}
groups: {{soakers: {{members: [{members}]}}}}
virtual_servers:
  soak:
    prefix: always
    include: [{{upstream: modern}}, {{upstream: legacy}}, {{upstream: stdio}}]
grants: [{{group: soakers, virtual_server: soak}}]
"""


class Report(Struct, kw_only=True):
    """What came of a run."""

    minutes: float
    clients: int
    calls: dict[str, int] = field(default_factory=dict)
    """What the clients saw, by how it ended."""
    entries: dict[str, int] = field(default_factory=dict)
    """What the record has, by outcome."""
    memory: Growth
    before: Sample
    """Before the first client came."""
    peak_sockets: int
    peak_asking: int
    after: Sample
    """Once the last one had gone."""
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)


class Soak:
    """One run against a running Portico."""

    def __init__(self, hub: Portico, watch: Watch, keys: Sequence[dict[str, str]]) -> None:
        self._hub = hub
        self._watch = watch
        self._keys = keys
        self.tally = Tally()
        self.samples: list[Sample] = []

    def client(self, number: int, seed: int) -> Client:
        """Every other one is modern; two of three may be asked."""
        key = self._keys[number % len(self._keys)]["key"]
        wire = Wire(f"{self._hub.origin}/v/soak/mcp", key)
        chance = random.Random(seed * 1000 + number)  # noqa: S311  # what is done when, no secret
        kind = ModernClient if number % 2 else LegacyClient
        return kind(wire, self.tally, chance, pause_s=PAUSE_S, asks=number % 3 > 0)

    async def run(self, clients: int, minutes: float, seed: int, quiet: bool) -> None:
        """Let clients loose, and look every second."""
        async with anyio.create_task_group() as tasks:
            for number in range(clients):
                tasks.start_soon(self.client(number, seed).run)
            with anyio.move_on_after(minutes * 60):
                while True:
                    await anyio.sleep(SAMPLE_S)
                    self.samples.append(await self.look())
                    if len(self.samples) % KILL_EVERY == 0:
                        self._kill_a_child()
                    if len(self.samples) % SAY_EVERY == 0 and not quiet:
                        self._say(self.samples[-1])
            tasks.cancel_scope.cancel()

    async def look(self) -> Sample:
        return await anyio.to_thread.run_sync(self._watch.look)

    async def quieten(self, before: Sample) -> Sample:
        """Revoke all keys, and wait until nothing is left of the clients; how it is then."""
        for key in self._keys:
            words = [PORTICO, "key", "revoke", key["id"], "--data", str(self._hub.data)]
            await anyio.run_process(words)
        sample = await self.look()
        with anyio.move_on_after(QUIET_S):
            while not is_quiet(sample, before):
                await anyio.sleep(SAMPLE_S)
                sample = await self.look()
        return sample

    def _kill_a_child(self) -> None:
        servers = [one for one in self._watch.children if "stdio_upstream.py" in words_of(one)]
        if servers:
            servers[-1].kill()
            self.tally.counts["children killed"] += 1

    def _say(self, sample: Sample) -> None:
        sys.stdout.write(
            f"{sample.at_s:6.0f} s  {sample.rss_bytes / MIB:6.1f} MiB  {sample.sockets:4} sockets  "
            f"{sample.children} children  {sample.under_way:3} under way, {sample.asking:3} asking  "
            f"{len(self.tally.answered):7} answered\n"
        )
        sys.stdout.flush()


def words_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def is_quiet(sample: Sample, before: Sample) -> bool:
    """Whether nothing is left of the clients."""
    return (
        sample.sockets <= before.sockets + SPARE_SOCKETS
        and sample.children <= before.children + STDIO_CHILDREN - 1
        and not sample.under_way
        and not sample.asking
    )


async def soaked(data: Path, arguments: argparse.Namespace) -> Report:
    """A whole run: start, soak, quieten, stop, look at the record."""
    async with upstream(arguments.seed) as url, running_portico(data, config=config(url)) as hub:
        await until_listed(hub)
        keys = [await created(hub, number) for number in range(PRINCIPALS)]
        watch = Watch(hub.process.pid, f"{url}/stats")
        soak = Soak(hub, watch, keys)
        before = await soak.look()
        await soak.run(arguments.clients, arguments.minutes, arguments.seed, arguments.json)
        after = await soak.quieten(before)
        children = watch.children
        status = await hub.stop()
    report = Report(
        minutes=arguments.minutes,
        clients=arguments.clients,
        calls=dict(soak.tally.counts.most_common()),
        memory=growth(soak.samples),
        before=before,
        peak_sockets=max(sample.sockets for sample in soak.samples),
        peak_asking=max(sample.asking for sample in soak.samples),
        after=after,
    )
    report.expect(status == 0, f"Portico ended with {status}")
    _, alive = psutil.wait_procs(children, timeout=5)
    report.expect(not alive, f"children outlived it: {[words_of(one) for one in alive]}")
    judge(report, soak.tally)
    judge_record(report, soak.tally, data)
    return report


def judge(report: Report, tally: Tally) -> None:
    """Whether what was seen while it ran is as it must be."""
    memory = report.memory
    report.expect(
        memory.is_flat,
        f"memory grew from {memory.first_bytes / MIB:.1f} to {memory.last_bytes / MIB:.1f} MiB; "
        f"{memory.allowed_bytes / MIB:.1f} are allowed",
    )
    report.expect(is_quiet(report.after, report.before), f"something is left: {report.after}")
    report.expect(not tally.overdue, f"{tally.overdue} calls were not answered in time")
    report.expect(not tally.unmarked, f"{tally.unmarked} answers have no call id")
    report.expect(tally.counts["ok"] > 0, "nothing was ever answered")


def judge_record(report: Report, tally: Tally, data: Path) -> None:
    """Whether the record has every answered call, once, and is intact."""
    entries: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for recorded in search(data / "record"):
        if recorded.entry.surface == "mcp":
            entries[recorded.entry.outcome] += 1
            calls[recorded.entry.call] += recorded.entry.outcome != "intent"
    report.entries = dict(entries.most_common())
    missing = tally.answered - calls.keys()
    report.expect(
        not missing, f"{len(missing)} answered calls have no entry: {sorted(missing)[:3]}"
    )
    twice = [call for call, number in calls.items() if number > 1]
    report.expect(not twice, f"{len(twice)} calls have several entries: {twice[:3]}")
    verified = subprocess.run(
        [PORTICO, "audit", "verify", "--data", str(data)], capture_output=True, check=False
    )
    report.expect(verified.returncode == 0, f"the record: {verified.stdout.decode().strip()}")


@asynccontextmanager
async def upstream(seed: int) -> AsyncIterator[str]:
    """The upstream over HTTP, in a process of its own; its origin."""
    words = [sys.executable, str(HERE / "http_upstream.py"), "--seed", str(seed)]
    async with await anyio.open_process(words, stderr=None) as process:
        assert process.stdout is not None
        line = await process.stdout.receive()
        try:
            yield f"http://127.0.0.1:{int(line)}"
        finally:
            process.send_signal(signal.SIGTERM)


def config(url: str) -> str:
    """The configuration of a run."""
    names = [f"soaker-{number}" for number in range(PRINCIPALS)]
    return CONFIG.format(
        url=url,
        command=json.dumps([sys.executable, "-I", "-S", str(HERE / "stdio_upstream.py")]),
        children=STDIO_CHILDREN,
        principals=", ".join(f"{name}: {{kind: service}}" for name in names),
        members=", ".join(names),
    )


async def until_listed(hub: Portico) -> None:
    """Every upstream has told what it offers."""
    async with httpx2.AsyncClient(base_url=hub.origin, headers=hub.admin_headers) as http:
        for name in ("modern", "legacy", "stdio"):
            listed = await http.post(f"/api/upstreams/{name}/refresh", timeout=30)
            assert listed.json()["state"] == "live", listed.text


async def created(hub: Portico, number: int) -> dict[str, str]:
    """A new key, with its id."""
    key: dict[str, str] = await portico(
        "key", "create", "--principal", f"soaker-{number}", data=hub.data
    )
    return key


def told(report: Report) -> str:
    """A report for people."""
    memory = report.memory
    lines = [
        f"{report.clients} clients for {report.minutes:g} minutes",
        "calls: " + ", ".join(f"{number} {how}" for how, number in report.calls.items()),
        "entries: " + ", ".join(f"{number} {how}" for how, number in report.entries.items()),
        f"memory: {memory.first_bytes / MIB:.1f} -> {memory.last_bytes / MIB:.1f} MiB, "
        f"{memory.allowed_bytes / MIB:.1f} allowed",
        f"sockets: {report.before.sockets} before, {report.peak_sockets} at most, "
        f"{report.after.sockets} after; children: {report.before.children} before, "
        f"{report.after.children} after; asking: {report.peak_asking} at most, "
        f"{report.after.asking} after",
        *(f"FAILED: {failure}" for failure in report.failures),
        "failed" if report.failures else "flat, nothing leaked, everything recorded",
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311  # no secret
    parser.add_argument("--json", action="store_true", help="print the report only, as JSON")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="portico-soak-") as place:
        report = anyio.run(soaked, Path(place) / "data", arguments)
        if report.failures:
            log: Any = (Path(place) / "data.log").read_text(encoding="utf-8")
            sys.stderr.write(log[-4000:])
    written = json.dumps(to_builtins(report)) if arguments.json else told(report)
    sys.stdout.write(
        f"{written}\nseed {arguments.seed}\n" if not arguments.json else written + "\n"
    )
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
