"""What a call costs through Portico, against the floor of the same run.

    .venv/bin/python bench/run.py --peers sdk,fastmcp-shared --repetitions 5 --seconds 2

Exit status: 0 measured, 1 something could not be measured or must not be believed, 3 with ``--gate``
when a figure is beyond its limit by more than noise explains.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from bench import floor, load, report
from bench.document import PERFORMANCE, write_section
from bench.gateways import PEERS, Gateways
from bench.interleaving import Bench, Plan
from bench.limits import verdicts
from bench.load import Generator
from bench.processes import Cores, module, running
from bench.summary import Summary, summarize
from bench.variants import VARIANTS

EXIT_UNSOUND: Final = 1
EXIT_OVER: Final = 3


def main() -> int:
    """Measure, tell, and say with the exit status whether it may be believed."""
    given = _arguments()
    cores = Cores()
    plan = Plan(
        floor=given.floor,
        peers=given.peers,
        repetitions=given.repetitions,
        seconds=given.seconds,
        generator=Generator(given.generator, cores.load),
    )
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as name:
        directory = Path(name)
        log = directory / "upstream.log"
        with running(module("bench.upstream"), core=cores.load, log=log) as upstream:
            url = upstream.ready["url"]
            with Gateways(url, cores=cores, directory=directory) as gateways:
                start = gateways.measured_start(given.starts) if given.starts else None
                bench = Bench(plan, upstream, gateways, directory)
                summaries = _measure(bench, given)
    how = report.circumstances(plan, str(cores))
    judged = verdicts(summaries, start)
    if not given.json:
        shown = report.table(summaries, judged, absolute=True)
        sys.stdout.write(f"{shown}\n\n{report.limits_table(judged)}\n\n{how}\n")
    if given.publish and not bench.failures:
        if set(given.variants) == set(VARIANTS):
            write_section("calls", report.calls_section(summaries, judged, how), given.publish)
        write_section("rules", report.rules_section(summaries, how), given.publish)
        if given.peers:
            write_section("peers", report.peers_section(summaries, how), given.publish)
    for failure in bench.failures:
        sys.stderr.write(f"FAILED: {failure}\n")
    if bench.failures:
        return EXIT_UNSOUND
    return EXIT_OVER if given.gate and any(one.is_past_the_gate for one in judged) else 0


def _measure(bench: Bench, given: argparse.Namespace) -> list[Summary]:
    summaries: list[Summary] = []
    for name in given.variants:
        measured = bench.measure(VARIANTS[name])
        if measured is None:
            continue
        if given.json:
            for run in measured.runs:
                sys.stdout.write(msgspec.json.encode(run).decode() + "\n")
            sys.stdout.flush()
        summaries += summarize(measured)
    return summaries


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="What a call costs through Portico, against the floor of the same run."
    )
    add = parser.add_argument
    add("--peers", type=_names(PEERS), default=(), help=f"all, or some of {', '.join(PEERS)}")
    add("--variants", type=_names(VARIANTS), default=tuple(VARIANTS), help=f"{', '.join(VARIANTS)}")
    add("--repetitions", type=int, default=5, help="of each gateway in each variant")
    add("--seconds", type=int, default=1, help="of each repetition; more for slow gateways")
    add("--starts", type=int, default=3, help="how often Portico is started for its start alone")
    add("--floor", choices=("nginx", "null"), default=floor.choose(), help="what ratios are to")
    add("--generator", choices=("wrk", "own"), default=load.choose(), help="what makes the load")
    add("--json", action="store_true", help="every repetition as a line of JSON, and no table")
    add("--gate", action="store_true", help=f"exit with {EXIT_OVER} beyond a limit")
    add(
        "--publish",
        type=Path,
        nargs="?",
        const=PERFORMANCE,
        metavar="FILE",
        help=f"write the ratios to docs/{PERFORMANCE.name}, or to another file",
    )
    return parser.parse_args()


def _names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(known) if text == "all" else tuple(text.split(","))
        unknown = set(chosen) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
        return chosen

    return names


if __name__ == "__main__":
    sys.exit(main())
