"""Small studies and their rows, for tests that state rows by hand."""

from __future__ import annotations

from typing import Any

from ctg_assets.model.flatten import flatten
from ctg_assets_tests.model.snapshots import Study, snapshot

Rows = list[dict[str, Any]]


def rows_of(table: str, *studies: Study) -> Rows:
    """One table's rows of the studies, as plain objects."""
    rows: Rows = flatten(snapshot(*studies), [table])[table].to_pylist()
    return rows


def picked(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    """Chosen columns of rows."""
    return [tuple(row[name] for name in names) for row in rows]


def protocol(**modules: Any) -> Study:
    """A study with these modules of the protocol section."""
    return _section("protocolSection", modules)


def results(**modules: Any) -> Study:
    """A study with these modules of the results section."""
    return _section("resultsSection", modules)


def outcome_study(*outcomes: dict[str, Any]) -> Study:
    """A study that reports these outcome measures."""
    return results(outcomeMeasures={"outcomeMeasures": list(outcomes)})


def measured(*measurements: dict[str, Any], **measure: Any) -> dict[str, Any]:
    """An outcome or baseline measure whose one class and category have these measurements."""
    return {**measure, "classes": [{"categories": [{"measurements": list(measurements)}]}]}


def _section(name: str, modules: dict[str, Any]) -> Study:
    return {name: {f"{module}Module": content for module, content in modules.items()}}
