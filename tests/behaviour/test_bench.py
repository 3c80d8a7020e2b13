"""The benchmarks count rightly, believe only what is proved, and say of each limit whether it is met."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from bench import report
from bench.calls import request_of, write_requests
from bench.document import write_section
from bench.errors import Unsound
from bench.exchange import verify
from bench.floor import choose, running_floor
from bench.gateways import PLAIN, PORTICO, PORTICOS, Gateway, Gateways, Start
from bench.interleaving import Measured
from bench.limits import LIMITS, START, verdicts
from bench.load import Errors, Generator, GeneratorName
from bench.measure import Case
from bench.processes import Cores, Program, module, running
from bench.summary import summarize
from bench.upstream import CHUNKS_TOOL, JSON_TOOL, STREAM_TOOL, TOOL_COUNT
from bench.variants import VARIANTS
from tests.peers.bench_runs import load_of, run_of, summaries_of
from tests.peers.clients import ERAS, Era, connected, text_of, tool_names
from tests.peers.tampering import Fault, tampering

GENERATORS: tuple[GeneratorName, ...] = ("own", "wrk") if shutil.which("wrk") else ("own",)
OWN = Generator("own", None)
CHUNKS = 5
TAMPERED = replace(VARIANTS["modern-stream"], connections=1, chunks=CHUNKS, pause_ms=1)
AGREED = {
    ("cpu_ratio", PORTICO, "modern-call"): "<= 2.5",
    ("cpu_ratio", PORTICO, "legacy-call"): "<= 2.5",
    ("cpu_ratio", PLAIN, "modern-call"): "<= 4.5",
    ("cpu_ratio", PLAIN, "legacy-call"): "<= 4.5",
    ("rate_ratio", PORTICO, "modern-call"): ">= 0.4",
    ("p50_ratio", PORTICO, "modern-call-c1"): "<= 1.6",
    ("cpu_ratio", PORTICO, "modern-call-100k"): "<= 2",
    ("cpu_ratio", PORTICO, "modern-list"): "<= 1.5",
    ("cpu_ratio", PORTICO, "modern-stream"): "<= 1.6",
    ("first_added_ms", PORTICO, "modern-stream-c1"): "<= 0.4 ms",
    ("ready_s", PORTICO, START): "<= 2 s",
    ("idle_mb", PORTICO, START): "<= 110 MB",
}


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
        yield Gateway(name="null", url=program.ready["url"], program=program)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def gateways(upstream: Program, directory: Path) -> Iterator[Gateways]:
    with Gateways(upstream.ready["url"], cores=Cores(), directory=directory) as ready:
        yield ready


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
        impostor = Gateway(name="impostor", url=other.ready["url"], program=other)
        case = Case(impostor, variant, upstream.ready["url"], tmp_path)
        with pytest.raises(Unsound, match="came from the upstream"):
            case.repeat(Generator("own", None), 1)


def test_an_answer_that_is_not_the_echo_is_not_believed(upstream: Program) -> None:
    variant = VARIANTS["modern-call"]
    with pytest.raises(Unsound, match="was answered with 200"):
        verify(upstream.ready["url"].replace("/mcp", "/stats"), variant, None, {})


def test_ratios_are_taken_within_each_repetition() -> None:
    variant = VARIANTS["modern-call"]
    runs = [run_of("nginx", variant.name, cpu=cpu_us) for cpu_us in (10, 40, 20)]
    runs += [run_of("portico", variant.name, cpu=cpu_us) for cpu_us in (30, 120, 60)]
    floor, portico = summarize(Measured(variant, "nginx", load_of(), tuple(runs)))
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


@pytest.mark.parametrize("era", ERAS)
async def test_the_upstream_tells_the_official_client_of_each_chunk(
    upstream: Program, era: Era
) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    arguments = {"text": "café ☕", "chunks": 3, "pause_ms": 1}
    async with connected(upstream.ready["url"], era) as client:
        with anyio.fail_after(10):
            result = await client.call_tool(CHUNKS_TOOL, arguments, progress_callback=tell)
    assert told == [(1, 3, "café ☕"), (2, 3, "café ☕"), (3, 3, "café ☕")]
    assert text_of(result) == "café ☕"


@pytest.mark.parametrize("era", ERAS)
def test_every_chunk_of_every_stream_is_read_and_counted(
    upstream: Program, tmp_path: Path, era: Era
) -> None:
    variant = replace(VARIANTS[f"{era}-stream"], connections=4, chunks=CHUNKS)
    url = upstream.ready["url"]
    with running_floor(choose(), url, core=None, directory=tmp_path) as floor:
        gateway = Gateway(
            name="floor", url=floor.url, stream_url=floor.stream_url, program=floor.program
        )
        run = Case(gateway, variant, url, tmp_path).repeat(OWN, 1)
    assert run.load.requests >= variant.connections
    assert run.load.chunks == CHUNKS * run.load.requests
    assert run.reach == 1
    assert 0 < run.load.first_p50_us < run.load.p50_us
    assert run.load.p50_us >= CHUNKS * variant.pause_ms * 1000


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda events: events[:1] + events[2:], "after 2 of 5 chunks"),
        (lambda events: events[:2] + events[1:], "after 3 of 5 chunks"),
        (lambda events: [events[1], events[0], *events[2:]], "after 1 of 5 chunks"),
        (lambda events: [another_token(events[0]), *events[1:]], "after 1 of 5 chunks"),
        (lambda events: events[:-1], "ended after 5 of 5 chunks, without a result"),
        (lambda events: [*events, events[-1]], "after 5 of 5 chunks"),
    ],
    ids=["lost", "twice", "out of turn", "of another request", "no result", "two results"],
)
def test_a_stream_with_a_wrong_chunk_is_counted_as_incomplete(
    upstream: Program, tmp_path: Path, fault: Fault, told: str
) -> None:
    requests = tmp_path / "one.requests"
    with tampering(upstream.ready["url"], fault) as url:
        write_requests(requests, [request_of(url, TAMPERED, None, {})])
        load = OWN.drive(url, requests, connections=2, seconds=0, chunks=CHUNKS)
    assert (load.requests, load.chunks, load.errors) == (0, 0, Errors(incomplete=2))
    assert told in load.fault


def test_a_stream_that_breaks_off_is_counted(upstream: Program, tmp_path: Path) -> None:
    requests = tmp_path / "one.requests"
    with tampering(upstream.ready["url"], lambda events: events[:2], breaks_off=True) as url:
        write_requests(requests, [request_of(url, TAMPERED, None, {})])
        load = OWN.drive(url, requests, connections=1, seconds=0, chunks=CHUNKS)
    assert (load.requests, load.errors) == (0, Errors(read=1))
    assert load.fault.startswith("hung up on after 2 chunks")


def test_a_run_with_an_incomplete_stream_is_not_believed(upstream: Program, tmp_path: Path) -> None:
    url = upstream.ready["url"]
    with tampering(url, lambda events: events[1:]) as tampering_url:
        gateway = Gateway(name="tampering", url=tampering_url, program=upstream)
        case = Case(gateway, TAMPERED, url, tmp_path)
        with pytest.raises(Unsound, match=r"incomplete=1\).*after 1 of 5 chunks"):
            case.repeat(OWN, 1)


def test_what_is_added_to_the_first_event_is_told_within_each_repetition() -> None:
    variant = VARIANTS["modern-stream-c1"]
    runs = [run_of("direct", variant.name, first_us=first_us) for first_us in (100, 900, 200)]
    runs += [run_of("nginx", variant.name, first_us=first_us) for first_us in (200, 1000, 300)]
    runs += [run_of("portico", variant.name, first_us=first_us) for first_us in (400, 1200, 500)]
    summaries = summarize(Measured(variant, "nginx", load_of(), tuple(runs)))
    assert [(one.gateway, one.first_added_ms) for one in summaries] == [
        ("nginx", 0.1),
        ("portico", 0.3),
    ]


def another_token(event: bytes) -> bytes:
    return event.replace(b'"progressToken":1', b'"progressToken":2')


def test_every_limit_stands_at_a_figure_that_is_measured() -> None:
    limits = {
        (limit.figure, limit.gateway, variant): limit
        for limit in LIMITS
        for variant in limit.variants
    }
    assert AGREED.items() <= {key: str(limit) for key, limit in limits.items()}.items()
    for (figure, gateway, name), limit in limits.items():
        assert gateway in PORTICOS
        if name == START:
            continue
        variant = VARIANTS[name]
        assert limit.short
        assert variant.plain or gateway == PORTICO
        assert variant.first_event == (figure == "first_added_ms")


@pytest.mark.parametrize(
    ("cpu", "rate", "told", "past_the_gate"),
    [
        (2.5, 0.4, ["met", "met"], [False, False]),
        (2.6, 0.39, ["over", "under"], [False, False]),
        (3.2, 0.31, ["over", "under"], [True, True]),
    ],
    ids=["within", "a little beyond", "beyond noise"],
)
def test_a_verdict_is_met_over_or_under_and_the_gate_allows_for_noise(
    cpu: float, rate: float, told: list[str], past_the_gate: list[bool]
) -> None:
    judged = verdicts(summaries_of("modern-call", cpu=cpu, rate=rate), None)
    assert [one.limit.figure for one in judged] == ["cpu_ratio", "rate_ratio"]
    assert [one.measured for one in judged] == pytest.approx([cpu, rate])
    assert [str(one) for one in judged] == told
    assert [one.is_past_the_gate for one in judged] == past_the_gate


@pytest.mark.parametrize(("alone", "is_upper_bound"), [(2.9, True), (3.1, False)])
def test_a_share_of_a_rate_the_generator_could_not_exceed_is_an_upper_bound(
    alone: float, is_upper_bound: bool
) -> None:
    summaries = summaries_of("modern-call", cpu=1, rate=0.5, alone=alone)
    cpu, rate = verdicts(summaries, None)
    assert (cpu.is_upper_bound, rate.is_upper_bound) == (False, is_upper_bound)


def test_the_published_section_shows_each_figure_with_its_limit(tmp_path: Path) -> None:
    summaries = [
        *summaries_of("modern-call", cpu=2.0, rate=0.3),
        *summaries_of("modern-stream", cpu=1.7, rate=1),
        *summaries_of("modern-stream-c1", cpu=9, rate=1, first_us=700),
        *summaries_of("modern-call-traced-100", cpu=9, rate=0.1, spans=1.9),
    ]
    judged = verdicts(summaries, Start(ready_s=1.5, idle_mb=111))
    document = tmp_path / "PERFORMANCE.md"
    write_section("calls", report.calls_section(summaries, judged, "Measured here."), document)
    text = document.read_text(encoding="utf-8")
    rows = {tuple(map(str.strip, line.split("|")[1:-1])) for line in text.splitlines()}
    assert "2 of 6 limits are met:" in text
    assert rows >= {
        ("CPU per call, fast lane", "modern-call", PORTICO, "2.00", "<= 2.5", "met"),
        ("calls/s on one core", "modern-call", PORTICO, "0.30*", ">= 0.4", "**under**"),
        ("CPU per chunk of a stream", "modern-stream", PORTICO, "1.70", "<= 1.6", "**over**"),
        (
            *("added time to the first event", "modern-stream-c1", PORTICO),
            *("0.60 ms", "<= 0.4 ms", "**over**"),
        ),
        ("ready after its start", "", PORTICO, "1.50 s", "<= 2 s", "met"),
        ("idle memory", "", PORTICO, "111.00 MB", "<= 110 MB", "**over**"),
        (
            *("modern-call", PORTICO, "2.00", "0%", "0.30", "1.00", "1.00", "", "1.00"),
            *("CPU <= 2.5, calls/s >= 0.4", "calls/s **under**"),
        ),
        (
            *("modern-stream-c1", PORTICO, "", "", "1.00", "1.00", "1.00", "+0.60 ms", "1.00"),
            *("first event <= 0.4 ms", "first event **over**"),
        ),
    }
    assert "1.9 for each call reached the collector" in text


def test_callers_with_a_key_are_who_it_says_and_others_are_anonymous(
    gateways: Gateways, upstream: Program, directory: Path
) -> None:
    for name in ("modern-call", "legacy-call", "modern-call-anonymous", "legacy-call-anonymous"):
        variant = replace(VARIANTS[name], connections=1)
        portico, floor = gateways.get(PORTICO, variant), gateways.get(choose(), variant)
        Case(portico, variant, upstream.ready["url"], directory)
        assert floor.credentials_for(variant) == portico.credentials_for(variant)
        assert bool(portico.credentials_for(variant)) == variant.key
    data = next(directory.glob(f"{PORTICO}-*.data"))
    command = [str(Path(sys.executable).with_name("portico")), "audit", "tail", "--json"]
    command += ["--data", str(data)]
    tail = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    entries = [one for one in json.loads(tail)["items"] if one["operation"] == "tools/call"]
    newest_first = [one["principal"] for one in entries[:4]]
    assert newest_first == ["anonymous", "anonymous", "caller", "caller"]


def test_a_key_that_is_not_known_is_turned_away(gateways: Gateways) -> None:
    variant = VARIANTS["modern-call"]
    portico = gateways.get(PORTICO, variant)
    wrong = {"Authorization": portico.credentials["Authorization"][:-1] + "!"}
    with pytest.raises(Unsound, match="was answered with 401"):
        verify(portico.url, variant, None, wrong)


@pytest.mark.parametrize(("name", "share"), [("traced-0", 0), ("traced-100", 1)])
def test_spans_reach_the_collector_when_calls_are_traced(
    gateways: Gateways, upstream: Program, directory: Path, name: str, share: int
) -> None:
    variant = replace(VARIANTS[f"modern-call-{name}"], connections=2)
    portico = gateways.get(PORTICO, variant)
    assert portico.url != gateways.get(PORTICO, VARIANTS["modern-call"]).url
    run = Case(portico, variant, upstream.ready["url"], directory).repeat(OWN, 1)
    assert (run.spans > 0) == bool(share)


def test_a_start_of_portico_is_timed_and_weighed(gateways: Gateways) -> None:
    start = gateways.measured_start(1)
    assert 0.1 < start.ready_s < 30
    assert 20 < start.idle_mb < 500
