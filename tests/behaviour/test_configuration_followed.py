"""`portico up --config FILE` serves what the file says, while it says something sound."""

from io import StringIO
from pathlib import Path

import anyio
from ruamel.yaml import YAML

from tests.peers.portico import portico, running_portico


async def test_a_changed_file_is_applied_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async with running_portico(tmp_path / "data", config="version: 1\n") as hub:
        file = tmp_path / "data.yaml"

        async def groups() -> set[str]:
            exported = (await portico("export", data=hub.data))["text"]
            return set(YAML(typ="safe").load(StringIO(exported)).get("groups", {}))

        async def until(wanted: set[str]) -> None:
            while await groups() != wanted:
                pass

        assert await groups() == set()
        file.write_text("version: 1\ngroups: {red: {}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            await until({"red"})
        file.write_text("version: 1\ngroups: {blue: {membres: []}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            while b"is not applied" not in (tmp_path / "data.log").read_bytes():
                await groups()
        assert await groups() == {"red"}
        file.write_text("version: 1\ngroups: {blue: {}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            await until({"blue"})
