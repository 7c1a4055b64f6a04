"""The rules that keep the rooms apart, as docs/architecture.md states them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ctg_assets

PACKAGE = Path(ctg_assets.__file__).parent

# What modules below a room must not import.
FORBIDDEN = {
    "registry": ("dagster", "ctg_assets.lake", "ctg_assets.warehouse", "ctg_assets.pipeline"),
    "lake": ("dagster", "httpx", "psycopg", "ctg_assets.registry", "ctg_assets.warehouse"),
    "model": ("dagster", "httpx", "psycopg", "ctg_assets.lake", "ctg_assets.registry"),
    "warehouse": ("dagster", "httpx", "ctg_assets.lake", "ctg_assets.registry"),
    "feed": ("dagster", "ctg_assets.lake", "ctg_assets.registry", "ctg_assets.pipeline"),
    "pipeline": ("dagster", "ctg_assets.orchestration"),
    "simulator": ("dagster", "ctg_assets.registry", "ctg_assets.lake", "ctg_assets.pipeline"),
}
BENCHMARKS = PACKAGE.parent / "benchmarks"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith((f"{package}.", f"{package}_"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_it_must_not_know(room: str) -> None:
    """No module of a room imports what the architecture keeps from it."""
    trespasses = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in (PACKAGE / room).rglob("*.py")
        for module in _imports(path)
        for forbidden in FORBIDDEN[room]
        if _is_within(module, forbidden)
    ]
    assert trespasses == []


def test_only_the_command_line_knows_the_simulator() -> None:
    """The simulator is imported by itself and by the command line, by nothing else."""
    users = [
        name
        for name in MODULES
        if not name.startswith("simulator/")
        and any(_is_within(module, "ctg_assets.simulator") for module in _imports(PACKAGE / name))
    ]
    assert users == ["cli.py"]


def test_the_package_does_not_know_its_benchmarks() -> None:
    """Nothing that is shipped imports the benchmarks, which are not, or what only they need."""
    only_theirs = ("benchmarks", "adbc_driver_postgresql", "dlt", "orjson", "pandas", "simdjson")
    users = [
        f"{name} imports {module}"
        for name in MODULES
        for module in _imports(PACKAGE / name)
        if any(_is_within(module, theirs) for theirs in only_theirs)
    ]
    assert users == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_belongs_in_it(name: str) -> None:
    """Each module opens with a docstring; all but the package's own say what belongs there."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / name).read_text(encoding="utf-8")))
    assert docstring
    if name != "__init__.py" and not name.endswith("__main__.py"):
        assert "elong" in docstring, f"{name} does not say what belongs in it"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.name)
def test_every_benchmark_says_what_belongs_in_it(path: Path) -> None:
    """The benchmarks keep the rule of the package's own modules."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    if not path.name.startswith("__"):
        assert "elong" in docstring, f"{path.name} does not say what belongs in it"
