"""The benchmarks count rightly: what they report is what the upstream has seen."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.document import write_section
from bench.errors import Unsound
from bench.exchange import verify
from bench.gateways import Gateway
from bench.interleaving import Measured
from bench.load import Errors, Generator, GeneratorName, Load
from bench.measure import Case, Run
from bench.processes import Program, module, running
from bench.summary import summarize
from bench.upstream import JSON_TOOL, STREAM_TOOL, TOOL_COUNT
from bench.variants import VARIANTS
from tests.peers.clients import ERAS, Era, connected, text_of, tool_names

GENERATORS: tuple[GeneratorName, ...] = ("own", "wrk") if shutil.which("wrk") else ("own",)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    log = tmp_path_factory.mktemp("bench") / "upstream.log"
    with running(module("bench.upstream"), core=None, log=log) as program:
        yield program


@pytest.fixture(scope="module")
def null_proxy(upstream: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    port = upstream.ready["url"].split(":")[2].partition("/")[0]
    log = tmp_path_factory.mktemp("bench") / "null.log"
    command = module("bench.null_proxy", "127.0.0.1", port)
    with running(command, core=None, log=log) as program:
        yield Gateway("null", program.ready["url"], program)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", [JSON_TOOL, STREAM_TOOL])
async def test_the_upstream_is_a_server_to_the_official_client(
    upstream: Program, era: Era, tool: str
) -> None:
    async with connected(upstream.ready["url"], era) as client:
        assert len(await tool_names(client)) == TOOL_COUNT
        assert text_of(await client.call_tool(tool, {"text": "café ☕"})) == "café ☕"


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("name", ["modern-call", "legacy-call-sse"])
def test_what_the_generator_reports_is_what_the_upstream_counted(
    upstream: Program, null_proxy: Gateway, tmp_path: Path, generator: GeneratorName, name: str
) -> None:
    variant = replace(VARIANTS[name], connections=4)
    case = Case(null_proxy, variant, upstream.ready["url"], tmp_path)
    run = case.repeat(Generator(generator, None), 1)
    counted = round(run.reach * run.load.requests)
    assert run.load.requests <= counted <= run.load.requests + variant.connections
    assert run.load.errors.total == 0
    assert run.cpu_us > 0


def test_answers_that_never_reached_the_upstream_are_not_believed(
    upstream: Program, tmp_path: Path
) -> None:
    variant = replace(VARIANTS["modern-call"], connections=1)
    with running(module("bench.upstream"), core=None, log=tmp_path / "other.log") as other:
        impostor = Gateway("impostor", other.ready["url"], other)
        case = Case(impostor, variant, upstream.ready["url"], tmp_path)
        with pytest.raises(Unsound, match="came from the upstream"):
            case.repeat(Generator("own", None), 1)


def test_an_answer_that_is_not_the_echo_is_not_believed(upstream: Program) -> None:
    variant = VARIANTS["modern-call"]
    with pytest.raises(Unsound, match="was answered with 200"):
        verify(upstream.ready["url"].replace("/mcp", "/stats"), variant, None, {})


def test_ratios_are_taken_within_each_repetition() -> None:
    variant = VARIANTS["modern-call"]
    runs = [_run("nginx", cpu_us) for cpu_us in (10, 40, 20)]
    runs += [_run("portico", cpu_us) for cpu_us in (30, 120, 60)]
    floor, portico = summarize(Measured(variant, "nginx", _load(), tuple(runs)))
    assert (floor.gateway, floor.cpu_ratio) == ("nginx", 1)
    assert (portico.gateway, portico.cpu_ratio, portico.cpu_us) == ("portico", 3, 60)
    assert portico.rate_is_lower_bound


def test_a_generated_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    document = tmp_path / "PERFORMANCE.md"
    document.write_text("# Performance\n\nProse.\n", encoding="utf-8")
    write_section("calls", "first", document)
    write_section("peers", "beside", document)
    write_section("calls", "second", document)
    text = document.read_text(encoding="utf-8")
    assert "Prose." in text
    assert "beside" in text
    assert "second" in text
    assert "first" not in text


def _load() -> Load:
    return Load(1000, 1_000_000, 0, 1, 1, 1, 1, Errors())


def _run(gateway: str, cpu_us: float) -> Run:
    return Run(
        gateway=gateway,
        variant="modern-call",
        load=_load(),
        cpu_us=cpu_us,
        reach=1,
        upstream_connections=0,
        resident_bytes=1,
    )
