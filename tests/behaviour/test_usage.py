"""``portico usage``: what people and programs read of what was used."""

import csv
import io
import subprocess
from pathlib import Path

import anyio

from hub.cli.usage import write_csv
from tests.peers.clients import connected
from tests.peers.portico import PORTICO, portico, running_portico
from tests.peers.running import modern_server


async def outcome(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return await anyio.run_process([PORTICO, *arguments], check=False, stdin=subprocess.DEVNULL)


async def test_uses_are_shown_of_a_running_hub_and_of_one_that_was_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with modern_server() as upstream:
        tool = f"127-0-0-1-{upstream.port}/echo"
        async with running_portico(data, upstream.url) as hub:
            async with connected(hub.url, "modern") as client:
                for word in ("a", "b", "c"):
                    await client.call_tool("echo", {"text": word})
            found = await portico("usage", "--period", "day", data=data)
            assert [(row["of"], row["calls"], row["refused"]) for row in found["rows"]] == [
                ({"tool": tool, "kind": "tool"}, 3, 0)
            ]
            assert found["total"] == {"calls": 3, "refused": 0, "costs": []}
            assert found["overlapping"] is False
            people = await outcome("usage", "--data", str(data))
            lines = people.stdout.decode().splitlines()
            assert lines[1].split() == ["TOOL", "KIND", "CALLS", "REFUSED", "COST"]
            assert lines[2].split() == [tool, "tool", "3", "0", "-"]
            assert lines[3].split() == ["TOTAL", "3", "0", "-"]
            sheet = await outcome("usage", "--data", str(data), "--csv", "--by", "principal")
            assert sheet.stdout.decode().splitlines()[0] == "principal,calls,refused"
            refused = await outcome("usage", "--data", str(data), "--by", "colour")
            assert refused.returncode == 1
            assert "'by' cannot be 'colour'" in refused.stderr.decode()
            assert (await outcome("usage", "--csv", "--json")).returncode == 2
            await hub.stop()
    again = await portico("usage", "--by", "day", "--by", "virtual_server", data=data)
    assert [row["calls"] for row in again["rows"]] == [3]
    assert again["by"] == ["day", "virtual_server"]


def test_sheets_have_a_column_for_each_currency_and_no_formulas() -> None:
    """Names of tools are their upstreams' choice."""
    total = [{"currency": "EUR", "micro": 5}, {"currency": "USD", "micro": 1_500_000}]
    found = {
        "by": ["tool"],
        "rows": [
            {"of": {"tool": "=cmd|x", "kind": "tool"}, "calls": 2, "refused": 1, "costs": total},
            {"of": {"tool": 'a/"b",c', "kind": "tool"}, "calls": 1, "refused": 0, "costs": []},
        ],
        "total": {"costs": total},
    }
    file = io.StringIO()
    write_csv(found, file)
    assert list(csv.reader(file.getvalue().splitlines())) == [
        ["tool", "kind", "calls", "refused", "cost_EUR", "cost_USD"],
        ["'=cmd|x", "tool", "2", "1", "0.000005", "1.500000"],
        ['a/"b",c', "tool", "1", "0", "0.000000", "0.000000"],
    ]
