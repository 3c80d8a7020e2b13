"""A variant through several gateways in turns, so that what disturbs the machine disturbs all."""

import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.errors import BenchError
from bench.gateways import DIRECT, PLAIN, PORTICO, RULED, SHARED, Gateway, Gateways
from bench.load import Generator, Load
from bench.measure import Case, Run
from bench.processes import Program
from bench.variants import Variant

_NULL_RUN_S: Final = 1


class Plan(Struct, frozen=True):
    """What to measure, and with what."""

    floor: str
    peers: tuple[str, ...]
    """Gateways beside the floor and Portico."""
    repetitions: int
    seconds: int
    generator: Generator


class Measured(Struct, frozen=True):
    """A variant, measured."""

    variant: Variant
    floor: str
    direct: Load
    """The generator alone, without anything between it and the upstream, once."""
    runs: tuple[Run, ...]
    """The floor's among them; as many of each gateway, and of none where a first event is timed."""


class Bench:
    """Measures variants; what fails is said, noted in ``failures`` and left out."""

    def __init__(self, plan: Plan, upstream: Program, gateways: Gateways, directory: Path) -> None:
        self.failures: list[str] = []
        self._plan = plan
        self._gateways = gateways
        self._directory = directory
        self._upstream = Gateway(name=DIRECT, url=upstream.ready["url"], program=upstream)

    def measure(self, variant: Variant) -> Measured | None:
        """A variant through everything that could be measured throughout.

        None where the floor could not, or the load alone.
        """
        try:
            direct = self._null_run(variant)
        except BenchError as error:
            self._fail(f"{variant.name} without a gateway: {error}")
            return None
        runs = self._interleaved(variant)
        if all(run.gateway != self._plan.floor for run in runs):
            return None
        return Measured(variant, self._plan.floor, direct, tuple(runs))

    def _null_run(self, variant: Variant) -> Load:
        case = Case(self._upstream, variant, self._upstream.url, self._directory)
        run = case.repeat(self._plan.generator, _NULL_RUN_S)
        _say(f"{variant.name}: {run.load.rate:.0f}/s with nothing between generator and upstream")
        return run.load

    def _interleaved(self, variant: Variant) -> list[Run]:
        cases = [case for name in self._names(variant) if (case := self._case(name, variant))]
        runs: list[Run] = []
        for repetition in range(self._plan.repetitions):
            start = repetition % max(len(cases), 1)
            for case in (*cases[start:], *cases[:start]):
                run = self._repeated(case)
                if run is None:
                    cases = [other for other in cases if other is not case]
                    runs = [other for other in runs if other.gateway != case.gateway.name]
                else:
                    runs.append(run)
        return runs

    def _names(self, variant: Variant) -> tuple[str, ...]:
        return (
            *((DIRECT,) if variant.first_event else ()),
            self._plan.floor,
            PORTICO,
            *((PLAIN,) if variant.plain else ()),
            *((RULED, SHARED) if variant.ruled else ()),
            *(self._plan.peers if variant.peers else ()),
        )

    def _case(self, name: str, variant: Variant) -> Case | None:
        try:
            gateway = self._upstream if name == DIRECT else self._gateways.get(name, variant)
            return Case(gateway, variant, self._upstream.url, self._directory)
        except BenchError as error:
            self._fail(f"{variant.name} through {name}: {error}")
            return None

    def _repeated(self, case: Case) -> Run | None:
        try:
            run = case.repeat(self._plan.generator, self._plan.seconds)
        except BenchError as error:
            self._fail(str(error))
            return None
        where = f"{run.variant} through {run.gateway}"
        told = f"{run.cpu_us:.1f} us, {run.load.rate:.0f}/s, reach {run.reach:.3f}"
        if run.load.chunks:
            told += f", first event after {run.load.first_p50_us:.0f} us"
        if run.spans:
            told += f", {run.spans:.2f} spans"
        _say(f"{where}: {told}")
        return run

    def _fail(self, failure: str) -> None:
        self.failures.append(failure)
        _say(f"FAILED: {failure}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
