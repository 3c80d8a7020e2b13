"""`portico up --config FILE` serves what the file says, while it says something sound."""

import sqlite3
from contextlib import closing, suppress
from io import StringIO
from pathlib import Path

import anyio
import anyio.lowlevel
from ruamel.yaml import YAML

from tests.peers.portico import Portico, portico, running_portico


async def groups(hub: Portico) -> set[str]:
    exported = (await portico("export", data=hub.data))["text"]
    return set(YAML(typ="safe").load(StringIO(exported)).get("groups", {}))


async def until(hub: Portico, wanted: set[str]) -> None:
    with anyio.fail_after(20):
        while await groups(hub) != wanted:
            pass


async def test_a_changed_file_is_applied_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async with running_portico(tmp_path / "data", config="version: 1\n") as hub:
        file, log = tmp_path / "data.yaml", tmp_path / "data.log"
        assert await groups(hub) == set()
        file.write_text("version: 1\ngroups: {red: {}}\n", encoding="utf-8")
        await until(hub, {"red"})
        file.write_text("version: 1\ngroups: {blue: {membres: []}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            while b"is not applied" not in log.read_bytes():
                await groups(hub)
        assert await groups(hub) == {"red"}
        file.write_text("version: 1\ngroups: {blue: {}}\n", encoding="utf-8")
        await until(hub, {"blue"})


async def test_a_file_that_goes_is_missed_once_and_followed_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with running_portico(tmp_path / "data", config="version: 1\n") as hub:
        file, log = tmp_path / "data.yaml", tmp_path / "data.log"
        file.unlink()
        with anyio.fail_after(20):
            while b"No such file" not in log.read_bytes():
                await groups(hub)
        for _ in range(6):  # longer than two looks at the file
            await groups(hub)
        assert log.read_bytes().count(b"No such file") == 1
        file.write_text("version: 1\ngroups: {red: {}}\n", encoding="utf-8")
        await until(hub, {"red"})


async def test_a_change_while_it_starts_is_not_missed(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "data.yaml"

    def is_applied() -> bool:
        database = f"file:{data / 'portico.db'}?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(database, uri=True)) as opened:
            found = "SELECT 1 FROM configured_object WHERE noun = 'group'"
            return opened.execute(found).fetchone() is not None
        return False

    async def change_it_then() -> None:
        while not is_applied():
            await anyio.lowlevel.checkpoint()
        file.write_text("version: 1\ngroups: {blue: {}}\n", encoding="utf-8")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change_it_then)
        async with running_portico(data, config="version: 1\ngroups: {red: {}}\n") as hub:
            await until(hub, {"blue"})
