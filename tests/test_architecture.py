"""The shape of the project: size, layers, names, and what no file may hold."""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.project import ROOT, project_files, relative

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
MODULE_LINES = 400
FUNCTION_LINES = 60
AVOIDED = {
    "base", "common", "core", "handler", "helper", "helpers", "manager", "misc", "service", "util",
    "utils", "v2",
}  # fmt: skip


def product_modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def project_texts() -> Iterator[tuple[str, str]]:
    for path in project_files():
        try:
            yield relative(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_no_module_is_longer_than_its_cap() -> None:
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in product_modules()
    }
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_function_is_longer_than_its_cap() -> None:
    long = {
        f"{relative(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in product_modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES
    }
    assert long == {}


def test_all_packages_load_from_one_folder() -> None:
    """Distributions of the same import names exist; ours must not be mixed with theirs."""
    homes = {
        Path(str(importlib.import_module(package).__file__)).parent.parent for package in PACKAGES
    }
    assert homes == {ROOT}


def test_no_import_cycles_not_even_hidden_in_functions() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    while leaves := [module for module, targets in imports.items() if not targets]:
        for leaf in leaves:
            del imports[leaf]
        for targets in imports.values():
            targets.difference_update(leaves)
    # What is left sits in a cycle or imports one.
    assert imports == {}


def test_avoided_words_name_no_module_and_no_class() -> None:
    named: list[str] = []
    for path in product_modules():
        named += [relative(path)] * bool(AVOIDED & set(path.stem.split("_")))
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                words = {word.lower() for word in re.findall(r"[A-Z][a-z]+|v\d", node.name)}
                named += [f"{relative(path)}:{node.name}"] * bool(AVOIDED & words)
    assert named == []


GLOSSARY_ROW = re.compile(
    r"^\| (?P<terms>[^|]+) \| (?P<meaning>[^|]+) \| (?P<code>[^|]*) \|$", re.MULTILINE
)


def glossary() -> list[re.Match[str]]:
    text = (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8")
    return [
        row for row in GLOSSARY_ROW.finditer(text) if not row["terms"].startswith(("Term", "-"))
    ]


def test_every_glossary_word_is_defined_once() -> None:
    terms = [term.strip() for row in glossary() for term in row["terms"].split("/")]
    assert len(terms) > 30
    assert sorted(terms) == sorted(set(terms))


def test_what_the_glossary_points_at_exists() -> None:
    names = [name for row in glossary() for name in re.findall(r"`([\w.]+)`", row["code"])]
    assert len(names) > 20
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_an_exemption_from_a_check_gives_its_code_and_reason() -> None:
    exemption = re.compile(r"#\s*(?:type:\s*ignore|noqa)(?P<rest>.*)")
    complete = re.compile(r"(?:\[[\w, -]+\]|: ?[A-Z]+\d+(?:, ?[A-Z]+\d+)*)[ #—-]+\w+.*")
    bare = [
        f"{name}:{number}"
        for name, text in project_texts()
        if name.endswith(".py") and name != relative(Path(__file__))
        for number, line in enumerate(text.splitlines(), 1)
        if (found := exemption.search(line)) and not complete.fullmatch(found["rest"])
    ]
    assert bare == []


def test_no_file_names_a_registry_or_a_path_of_some_machine() -> None:
    """Spelled so that this file does not hold what it forbids."""
    forbidden = re.compile(
        "|".join((
            r"pypi\.(?:org|python)",
            r"python" + r"hosted\.org",
            r"registry\.(?:npmjs|yarnpkg)",
            r"deb\.debian" + r"\.org",
            r"(?<![\w./}])/(?:work|root)" + r"/\w",
        ))
    )
    found = [
        f"{name}:{number}"
        for name, text in project_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


LOCKS = ("requirements.lock", "requirements-fuzz.lock")


def locked() -> dict[str, str]:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in LOCKS)
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_versions_and_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=sha256:[0-9a-f]{64})", text, re.MULTILINE)
    without_hash = re.findall(r"^\S+==[^\\\n]+\n(?! +--hash)", text, re.MULTILINE)
    assert without_hash == []


def direct_dependencies() -> list[str]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [
        *project["dependencies"],
        *(line for lines in extras for line in lines),
        *(line for lines in PROJECT["dependency-groups"].values() for line in lines),
        *PROJECT["build-system"]["requires"],
    ]


def test_the_lock_satisfies_every_direct_dependency() -> None:
    pins = locked()
    unmet = [
        line
        for line in direct_dependencies()
        if not (
            (requirement := Requirement(line)).name in pins
            and requirement.specifier.contains(Version(pins[requirement.name]))
        )
    ]
    assert unmet == []


def test_every_direct_dependency_gives_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    stated = re.findall(r'^    "([\w.-]+)(?:\[[\w,]+\])?[^"]*", +# \S+', text, re.MULTILINE)
    assert {Requirement(line).name for line in direct_dependencies()} <= set(stated)
