"""The rules that keep the rooms apart, as docs/architecture.md states them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ctg_assets
from ctg_assets_tests import kinds

PACKAGE = Path(ctg_assets.__file__).parent

# The way of the data, from the bottom to the top: a room knows only rooms that stand before it.
ROOMS = (
    *(
        "errors",
        "results",
        "shipped",
        "setting_values",
        "settings_file",
        "redaction",
        "settings",
        "metrics",
        "printable",
        "logs",
        "times",
        "prefetch",
        "arrow_memory",
        "storage",
        "counters_file",
        "cut_json",
        "model",
        "registry",
        "postgres",
        "registry_access",
        "who",
    ),
    *(
        "extract",
        "history",
        "snapshot",
        "lake",
        "load",
        "clickhouse",
        "aact",
        "marts",
        "feed",
        "integrity",
    ),
    *(
        "refresh",
        "release",
        "report",
        "serve",
        "codegen",
        "orchestration",
        "definitions",
        "api",
        "simulator",
        "cli",
    ),
)

# Who alone may use what from outside.
ONLY_IN = {
    "dagster": {"orchestration", "definitions"},
    "httpx": {"registry", "feed"},
    "psycopg": {
        "postgres",
        "load",
        "clickhouse",
        "aact",
        "marts",
        "feed",
        "release",
        "report",
        "who",
    },
    "altair": {"report"},
    "clickhouse_connect": {"load"},
    "cryptography": {"release"},
    "duckdb": {"release"},
    "adbc_driver_postgresql": {"postgres"},
    "obstore": {"storage"},
    "pyiceberg": {"release"},
    "pika": {"feed"},
    "structlog": {"logs"},
    "smtplib": {"feed"},
    "celery": {"orchestration"},
    "kombu": {"orchestration"},
}
# Drawn in docs/architecture.md. More would mean that rooms are cut in the wrong places.
MOST_ARROWS = 79
MOST_LINES = 450

BENCHMARKS = PACKAGE.parent / "benchmarks"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    """A module as Python reads it; read once, for many tests ask for it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _import_nodes(path: Path) -> list[ast.stmt]:
    """The statements that import, wherever in the file."""
    nodes = ast.walk(_tree(path))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def _imports(path: Path) -> Iterator[str]:
    for node in _import_nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "ctg_assets":
            yield from (f"ctg_assets.{alias.name}" for alias in node.names if alias.name in ROOMS)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith((f"{package}.", f"{package}_"))


def _room(name: str) -> str:
    """The room of a module: its folder, or the module itself where it has none."""
    return name.partition("/")[0].removesuffix(".py")


def _arrows() -> set[tuple[str, str]]:
    """Which room imports from which; the package itself only hands on names of `api.py`."""
    return {
        (_room(name), module.split(".")[1])
        for name in MODULES
        if name != "__init__.py"
        for module in _imports(PACKAGE / name)
        if module.startswith("ctg_assets.") and module.split(".")[1] != _room(name)
    }


def test_every_room_has_its_place() -> None:
    """Each folder and module of the package stands in the order of rooms, and nothing else does."""
    assert {_room(name) for name in MODULES} - {"__init__"} == set(ROOMS)


def test_no_room_knows_what_lies_above_it() -> None:
    """Imports go down the order of rooms only, so none of them goes round in a circle."""
    assert [
        (room, known) for room, known in sorted(_arrows()) if ROOMS.index(known) > ROOMS.index(room)
    ] == []


def _known_modules(name: str) -> Iterator[str]:
    """The modules of the package that one imports, by their files."""
    for node in _import_nodes(PACKAGE / name):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctg_assets"):
            base = "/".join((node.module or "").split(".")[1:])
            names = [f"{base}/{alias.name}".lstrip("/") for alias in node.names]
            yield from (f"{known}.py" for known in (base, *names) if f"{known}.py" in MODULES)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Within a room, too, there is an order in which modules can be read."""
    graph = {name: set(_known_modules(name)) for name in MODULES if name != "__init__.py"}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("history/schemas.py") < order.index("history/store.py")


def _arrows_between_folders() -> list[tuple[str, str]]:
    folders = {_room(name) for name in MODULES if "/" in name}
    return [pair for pair in _arrows() if folders.issuperset(pair)]


def test_rooms_know_few_others() -> None:
    """All import arrows between folders are few enough to be drawn."""
    assert len(_arrows_between_folders()) <= MOST_ARROWS


def test_the_drawing_of_the_rooms_is_true() -> None:
    """docs/architecture.md draws each room with those that it knows, and says how many arrows that are."""
    known: dict[str, list[str]] = {}
    for room, other in sorted(_arrows_between_folders(), key=lambda pair: ROOMS.index(pair[1])):
        known.setdefault(room, []).append(other)
    expected = [f"{room}: {' '.join(known[room])}" for room in ROOMS if room in known]
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page.split("```text\n")[1].split("```")[0].splitlines() == expected
    assert f"({sum(map(len, known.values()))} arrows)" in page


@pytest.mark.parametrize("library", ONLY_IN)
def test_what_is_from_outside_has_its_rooms(library: str) -> None:
    """Domain code knows no Dagster, and files, HTTP and SQL are each known to the rooms that are for them."""
    users = {
        _room(name)
        for name in MODULES
        for module in _imports(PACKAGE / name)
        if _is_within(module, library)
    }
    assert users - {"simulator", "cli"} <= ONLY_IN[library]


def test_only_the_command_line_knows_the_simulator() -> None:
    """The simulator is imported by itself and by the command line, by nothing else."""
    users = [
        name
        for name in MODULES
        if not name.startswith("simulator/")
        and any(_is_within(module, "ctg_assets.simulator") for module in _imports(PACKAGE / name))
    ]
    assert {_room(name) for name in users} == {"cli"}


def test_the_package_does_not_know_its_benchmarks() -> None:
    """Nothing that is shipped imports the benchmarks, which are not, or what only they need."""
    only_theirs = ("benchmarks", "dlt", "orjson", "pandas", "simdjson")
    users = [
        f"{name} imports {module}"
        for name in MODULES
        for module in _imports(PACKAGE / name)
        if any(_is_within(module, theirs) for theirs in only_theirs)
    ]
    assert users == []


def test_every_module_says_what_it_is() -> None:
    """Each module opens with a docstring, and a room's says what belongs there."""
    silent = []
    for name in MODULES:
        docstring = ast.get_docstring(_tree(PACKAGE / name)) or ""
        is_room = name.endswith("/__init__.py") and name.count("/") == 1
        wanted = ("Belongs here: ", "Does not belong here: ") if is_room else ()
        said = " ".join(docstring.split())
        silent += [name] if not docstring else []
        silent += [f"{name}: {text}" for text in wanted if text not in said]
    assert silent == []


def test_no_module_is_long() -> None:
    """A module holds one subject, which fits into so many lines."""
    lines = {
        name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in MODULES
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


# What a change means in the JSON that sinks get, whose schema has this name.
_SHARED_NAMES = {"TypedEvent"}


def test_a_name_stands_for_one_thing() -> None:
    """No two classes of the product have the same name; the simulator is another program."""
    places: dict[str, list[str]] = {}
    for name in MODULES:
        if _room(name) == "simulator":
            continue
        for node in ast.parse((PACKAGE / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert shared.keys() == _SHARED_NAMES, shared


# What nobody foresees to meet: mistakes of ours in the model, and the simulator's own.
OWN_ROOTS = {"model", "simulator"}


def test_our_errors_have_one_root() -> None:
    """What we raise is a CtgAssetsError, so that every command tells it in words and with its exit code."""
    roots = [
        f"{name}: {node.name}"
        for name in MODULES
        if name != "errors.py" and _room(name) not in OWN_ROOTS
        for node in ast.walk(_tree(PACKAGE / name))
        if isinstance(node, ast.ClassDef)
        and {ast.unparse(base) for base in node.bases}
        <= {"Exception", "ValueError", "RuntimeError"}
        and node.bases
    ]
    assert roots == []


_TOP = PACKAGE.parent
_PATH = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|sql|yml|md))`")
_TOLD = [
    *sorted((_TOP / "docs").glob("*.md")),
    *(_TOP / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(PACKAGE.rglob("*.py")),
]


def test_files_that_are_named_are_there() -> None:
    """A file that a page or a docstring names by its path lies there, in the package or in the repository."""
    assert [
        f"{text.relative_to(_TOP)}: {path}"
        for text in _TOLD
        if text.name != "add_a_mart.md"  # its example is a mart that somebody is about to write
        for path in _PATH.findall(text.read_text(encoding="utf-8"))
        if not any((top / path).exists() for top in (_TOP, PACKAGE))
    ] == []


def test_the_tests_that_take_longest_are_there() -> None:
    """Each file that is to begin early lies where the list of them says."""
    assert [name for name in kinds.LONGEST if not (kinds.TESTS / name).is_file()] == []


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _has_window(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "over" for each in ast.walk(node))


@pytest.mark.parametrize("name", MODULES)
def test_no_window_within_a_window(name: str) -> None:
    """Polars computes the inner one anew for each group of the outer: 36 s instead of 0.4 s of 600,000 studies."""
    for function in ast.walk(_tree(PACKAGE / name)):
        if not isinstance(function, ast.FunctionDef):
            continue
        windows = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and _has_window(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and node.attr == "over":
                assert not _has_window(node.value), ast.unparse(node)
                assert not windows & _names(node.value), ast.unparse(node)
