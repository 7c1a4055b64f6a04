"""Nothing is lost: every field of the registry, every column of AACT, every position in a list."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache

import pytest

from ctg_assets.model.fields import leaf_paths
from ctg_assets.model.spec import Column
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.model.tables.column_values import OuterPosition, Parent
from ctg_assets.model.tables.declaration import Source, enclosing_lists
from ctg_assets.model.tables.omissions import (
    AACT_COLUMNS_HELD_ONCE,
    AACT_COLUMNS_LEFT_OUT,
    AACT_TABLES_LEFT_OUT,
    FIELDS_LEFT_OUT,
)
from ctg_assets_tests.shared_material import shared_path


@cache
def _columns() -> dict[str, Column]:
    """All staging columns by `table.column`."""
    return {
        f"{table.name}.{column.name}": column
        for table in staging_tables()
        for column in table.shape.columns
    }


@cache
def _spec() -> list[dict[str, str]]:
    with shared_path("spec/api_v2_fields.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _aact_columns() -> dict[str, set[str]]:
    """The columns of each table that the AACT notes list."""
    found: dict[str, set[str]] = {}
    table = ""
    for line in shared_path("reference/aact_schema.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#### (\w+)", line):
            table = heading[1]
        elif line.startswith("#"):
            table = ""
        elif table and (row := re.match(r"\| (\w+) \| ", line)) and row[1] != "column":
            found.setdefault(table, set()).add(row[1])
    return found


def test_every_field_has_a_column() -> None:
    """Each leaf field of our field tree is the source of a column, or is left out for a reason."""
    read = {path for column in _columns().values() for path in column.sources}
    assert len(leaf_paths()) == 342
    assert set(leaf_paths()) - read == set(FIELDS_LEFT_OUT)


def test_fields_are_those_of_the_specification() -> None:
    """Each leaf field of the recorded specification is in our field tree, and no other."""
    assert {row["path"] for row in _spec()} == set(leaf_paths())


def test_every_aact_table_is_there() -> None:
    """Each table of AACT is here under its name, or is left out for a reason."""
    ours = {table.name for table in staging_tables()}
    named = set(_aact_columns())
    assert len(named & ours) == 46
    # Of these AACT's public code says nothing; the notes list no columns.
    assert named - ours == set(AACT_TABLES_LEFT_OUT)


def test_every_aact_column_is_there() -> None:
    """Each column that AACT has in tables of ours is here under its name, or left out for a reason."""
    theirs = {
        f"{table}.{column}"
        for table, columns in _aact_columns().items()
        if table not in AACT_TABLES_LEFT_OUT
        for column in columns
    }
    assert len(theirs) > 400
    assert theirs - set(_columns()) == set(AACT_COLUMNS_LEFT_OUT) | set(AACT_COLUMNS_HELD_ONCE)


@pytest.mark.parametrize("name", AACT_COLUMNS_HELD_ONCE)
def test_what_is_held_once_is_in_one_row(name: str) -> None:
    """The table that has such a text has at most one row for the key by which it is looked up."""
    held = AACT_COLUMNS_HELD_ONCE[name]
    [table] = (table for table in staging_tables() if table.name == held.table)
    assert f"{held.table}.{held.column}" in _columns()
    assert f"{name.partition('.')[0]}.{held.own}" in _columns()
    of_study = held.key == "nct_id" and not any("[]" in source.path for source in table.sources)
    assert (held.key,) == table.shape.primary_key or (of_study and len(table.sources) == 1)


def test_columns_said_to_be_aact_are_aact() -> None:
    """A column that names an AACT equivalent names one that exists."""
    theirs = {f"{table}.{one}" for table, columns in _aact_columns().items() for one in columns}
    assert {column.aact for column in _columns().values() if column.aact} <= theirs


_MEANT_OTHERWISE = {
    "outcomes.anticipated_posting_date": "the last day of a month here, as all dates; there the first",
}
"""Columns of the same name as AACT's that mean something else, with the difference."""


def test_columns_of_aact_are_said_to_be() -> None:
    """A column that AACT has under the same table and name says so, but for keys made anew."""
    theirs = {f"{table}.{one}" for table, columns in _aact_columns().items() for one in columns}
    same = {name for name in theirs & set(_columns()) if not name.endswith(".id")}
    assert {name for name in same if _columns()[name].aact != name} == set(_MEANT_OTHERWISE)


_READ_OTHERWISE = {
    "calculated_values.number_of_nsae_subjects": "from totals of groups, where nobody counts twice",
    "calculated_values.number_of_sae_subjects": "from totals of groups, where nobody counts twice",
}
"""Columns that AACT makes of a field and we of another, with the reason."""


def test_columns_read_what_aact_reads() -> None:
    """Where a registry field goes to an AACT column, it goes to ours of that name."""
    checked = 0
    for row in _spec():
        for name in filter(None, row["aact_columns"].split(";")):
            column = _columns().get(name)
            if column is not None and column.sources and name not in _READ_OTHERWISE:
                checked += 1
                assert row["path"] in column.sources, name
    assert checked > 300


def _enclosing(source: Source) -> set[str]:
    """The lists that hold a source's rows, without the study and the rows' own list."""
    return set(source.outer_lists) - {"", source.path}


def _told(table: Table, source: Source) -> Iterator[str]:
    """The enclosing lists whose position the row of a source tells, itself or through its parents."""
    tables = {one.name: one for one in staging_tables()}
    for item in table.fields:
        match item.value:
            case OuterPosition(path):
                if (resolved := source.resolve(path)) is not None:
                    yield resolved
            case Parent(name):
                for outer in tables[name].sources:
                    if outer.path in source.outer_lists:
                        yield outer.list_path
                        yield from _told(tables[name], outer)


@pytest.mark.parametrize("table", staging_tables(), ids=lambda table: table.name)
def test_every_position_is_told(table: Table) -> None:
    """Which item of each enclosing list holds a row can be told from the row and its parents."""
    for source in table.sources:
        assert _enclosing(source) <= set(_told(table, source)), source.path
        if source.is_list:
            assert "position" in {column.name for column in table.shape.columns}


def test_enclosing_lists_are_found() -> None:
    """What the test of positions asks for is more than nothing where lists lie in lists."""
    source = Source("a[].b[].c[]")
    assert enclosing_lists(source.path) == ("", "a[]", "a[].b[]", "a[].b[].c[]")
    assert _enclosing(source) == {"a[]", "a[].b[]"}
    assert _enclosing(Source("a[].b")) == {"a[]"}
    assert not _enclosing(Source("a.b[]"))
