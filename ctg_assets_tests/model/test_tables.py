"""The declared tables: agreement with the field tree, with AACT, and what bad declarations say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import DeclarationError, Table, readings, staging_tables
from ctg_assets.model.tables.column_values import Aggregate, Difference, Lookup, Span, Total
from ctg_assets.model.tables.columns import (
    boolean,
    constant,
    count,
    difference,
    equals,
    first_found,
    integer,
    joined,
    lookup,
    lower,
    number,
    outer_position,
    parent,
    part,
    rows_counted,
    rows_summed,
    text,
    title_match,
)
from ctg_assets.model.tables.consistency import check
from ctg_assets.model.tables.declaration import Field, RowFilter, Source, enclosing_lists
from ctg_assets.model.tables.readings import Beside, Condition, Read


def test_tables_come_after_those_they_refer_to() -> None:
    """Each table comes after every table that its foreign keys name."""
    seen: set[str] = set()
    for table in staging_tables():
        assert {key.table for key in table.shape.foreign_keys} <= seen
        seen.add(table.name)


def test_column_is_described() -> None:
    """Every table and column has one sentence of its own, and sources that the registry has."""
    known = set(nodes_by_path())
    wrong = []
    columns = [(table, column) for table in staging_tables() for column in table.shape.columns]
    assert len(columns) > len(staging_tables())
    for table, column in columns:
        name = f"{table.name}.{column.name}"
        wrong += [
            f"{name}: {sentence}"
            for sentence in (table.description, column.description)
            if not re.fullmatch(r"[A-Z].{6,}[^.]\.", sentence)
        ]
        wrong += [] if re.fullmatch("[a-z][a-z0-9_]{0,62}", column.name) else [name]
        wrong += [f"{name}: {source}" for source in column.sources if source not in known]
    assert wrong == []


def test_descriptions_within_a_table_differ() -> None:
    """No two columns of a table share a description: one of them would be wrong."""
    for table in staging_tables():
        descriptions = [column.description for column in table.shape.columns]
        assert len(set(descriptions)) == len(descriptions), table.name


def test_keys_of_every_table() -> None:
    """Every table but studies has a bigint id as its key and refers to studies by an indexed nct_id."""
    for table in staging_tables():
        shape = table.shape
        by_name = {column.name: column for column in shape.columns}
        if table.name == "studies":
            assert (shape.primary_key, shape.foreign_keys) == (("nct_id",), ())
            continue
        assert shape.primary_key == ("id",)
        assert (by_name["id"].type, by_name["id"].nullable) == (ColumnType.BIGINT, False)
        assert (shape.foreign_keys[0].columns, shape.foreign_keys[0].table) == (
            ("nct_id",),
            "studies",
        )
        assert {name for key in shape.foreign_keys for name in key.columns} == set(
            shape.ordered_columns
        )
        assert len(set(shape.indexes)) == len(shape.indexes)


def test_arrow_schema_follows_the_columns() -> None:
    """The Arrow schema has the shape's columns, types and nullability, in their order."""
    for table in staging_tables():
        fields = [(one.name, one.type, one.nullable) for one in table.shape.arrow_schema]
        columns = [(one.name, one.type.arrow, one.nullable) for one in table.shape.columns]
        assert fields == columns


def test_enclosing_lists_of_a_path() -> None:
    """A path runs through the study and each of its lists, its own included."""
    assert enclosing_lists("a.b") == ("",)
    assert enclosing_lists("a.b[]") == ("", "a.b[]")
    assert enclosing_lists("a[].b.c[].d") == ("", "a[]", "a[].b.c[]")


@pytest.mark.parametrize(
    ("source", "path", "resolved"),
    [
        ("", "a.b", "a.b"),
        ("a.b[]", ".", "a.b[]"),
        ("a.b[]", "c", "a.b[].c"),
        ("a.b[]", "^.hasResults", "hasResults"),
        ("a[].b[].c[]", "^.d", "a[].b[].d"),
        ("a[].b[].c[]", "^^.d.e", "a[].d.e"),
        ("a[].b[].c[]", "^^^.d", "d"),
        ("a[].b", "^.d", "a[].d"),
        ("a.b", "c", "a.b.c"),
        ("a.b", "^.c", "c"),
    ],
)
def test_relative_paths_resolve(source: str, path: str, resolved: str) -> None:
    """A path is relative to the row, each ^ climbs to what holds it."""
    assert Source(source).resolve(path) == resolved


def test_path_above_the_study_is_refused() -> None:
    """Nothing holds a study, so a path cannot climb above it."""
    with pytest.raises(DeclarationError, match="climbs above the study"):
        Source("a[]").resolve("^^.b")


_LOCATIONS = "protocolSection.contactsLocationsModule.locations[]"
_ARMS = "protocolSection.armsInterventionsModule.armGroups[]"


def _table(*declared: Field, source: str | Source = _LOCATIONS, name: str = "rows") -> Table:
    source = Source(source) if isinstance(source, str) else source
    return Table(name, "Rows of something.", (source,), declared)


_CITY = text("city", "city", "City of the site.")
_SITES = _table(_CITY, name="sites")
_WRONG: dict[str, tuple[Callable[[], tuple[Table, ...]], str]] = {
    "unknown source": (lambda: (_table(source="protocolSection.arms[]"),), "not in the field tree"),
    "unknown path": (lambda: (_table(text("town", "town", "T.")),), "not in the field tree"),
    "table twice": (lambda: (_table(_CITY), _table(_CITY)), "declared twice"),
    "column twice": (lambda: (_table(_CITY, _CITY),), "not unique"),
    "key column redeclared": (lambda: (_table(text("id", "city", "C.")),), "not unique"),
    "wrong type": (lambda: (_table(integer("city", "city", "C.")),), "is bigint but"),
    "boolean of text": (lambda: (_table(boolean("city", "city", "C.")),), "is boolean but"),
    "lower of a number": (
        lambda: (_table(lower("has", "hasResults", "H."), source=""),),
        "not text",
    ),
    "list as one value": (lambda: (_table(text("c", "contacts[]", "C.")),), "cannot be read as"),
    "one value as list": (lambda: (_table(joined("c", "city", "C.")),), "cannot be read as"),
    "many values": (
        lambda: (_table(text("c", "contacts[].name", "C.")),),
        "many values for a row",
    ),
    "other list": (
        lambda: (_table(text("c", "^." + _ARMS + ".label", "C.")),),
        "many values for a row",
    ),
    "constant of another type": (
        lambda: (_table(constant("kind", "K."), source=Source(_LOCATIONS, {"kind": True})),),
        "is text but source",
    ),
    "comparison of text": (lambda: (_table(equals("c", "city", 1, "C.")),), "not a whole number"),
    "part that is not there": (
        lambda: (_table(part("lat", "geoPoint", "latitude", "L.")),),
        "no part 'latitude'",
    ),
    "part of text": (lambda: (_table(part("lat", "city", "lat", "L.")),), "no part 'lat'"),
    "no source has it": (
        lambda: (_table(_CITY, source=Source(_LOCATIONS, paths={"city": None})),),
        "no value in any source",
    ),
    "stale spelling": (
        lambda: (_table(_CITY, source=Source(_LOCATIONS, paths={"town": "city"})),),
        "that no column uses",
    ),
    "constant not stated": (lambda: (_table(constant("kind", "K.")),), "must state exactly"),
    "constant not declared": (
        lambda: (_table(_CITY, source=Source(_LOCATIONS, {"kind": "x"})),),
        "must state exactly",
    ),
    "index on nothing": (
        lambda: (replace(_table(_CITY), indexes=(("town",),)),),
        "columns that do not exist",
    ),
    "condition on nothing": (
        lambda: (_table(count("n", "contacts[]", "N.", when=Condition("town", "x"))),),
        "not in the field tree",
    ),
    "parent not declared": (lambda: (_table(parent("p", "sites", "P.")),), "not declared before"),
    "parent elsewhere": (
        lambda: (_table(_CITY, name="sites"), _table(parent("p", "sites", "P."), source=_ARMS)),
        "no single source",
    ),
    "parent may be missing": (
        lambda: (
            _table(_CITY, name="sites", source=Source(_LOCATIONS, distinct="city")),
            _table(parent("p", "sites", "P."), source=f"{_LOCATIONS}.contacts[]"),
        ),
        "may have no row",
    ),
    "parent never missing": (
        lambda: (
            _table(_CITY, name="sites"),
            _table(parent("p", "sites", "P.", optional=True), source=f"{_LOCATIONS}.contacts[]"),
        ),
        "optional=True",
    ),
    "lookup by nothing": (
        lambda: (_SITES, _table(lookup("s", "sites", {"town": "x"}, "S."))),
        r"'sites' that do not exist: \['town'\]",
    ),
    "lookup by nothing of its own": (
        lambda: (_SITES, _table(lookup("s", "sites", {"city": "x"}, "S."))),
        r"'rows' that do not exist: \['x'\]",
    ),
    "lookup by another type": (
        lambda: (_SITES, _table(_CITY, lookup("s", "sites", {"position": "city"}, "S."))),
        "needs 'city' of 'rows' as integer, but it is text",
    ),
    "lookup where a number is a text": (
        lambda: (
            _SITES,
            _table(_CITY, lookup("s", "sites", {"city": "city"}, "S.", {"position": "1"})),
        ),
        "needs 'position' of 'sites' as text, but it is integer",
    ),
    "lookup of another type": (
        lambda: (
            _SITES,
            _table(
                _CITY,
                first_found("s", (Lookup("sites", {"city": "city"}, column="city"),), "S."),
            ),
        ),
        "column 's' is bigint but 'city' is text",
    ),
    "lookup in a later table": (
        lambda: (_table(first_found("s", (Lookup("sites", {}),), "S.")),),
        "not declared before",
    ),
    "match by no text": (
        lambda: (_SITES, _table(_CITY, *title_match("s", "sites", {"position": "city"}, "S"))),
        "needs 'position' of 'sites' as text",
    ),
    "filter on nothing": (
        lambda: (_table(_CITY, source=Source(_LOCATIONS, where=RowFilter("town", ("x",)))),),
        "not in the field tree",
    ),
    "filter on a list": (
        lambda: (_table(_CITY, source=Source(_LOCATIONS, where=RowFilter("contacts[]", ("x",)))),),
        "cannot be read as",
    ),
    "parent may be filtered": (
        lambda: (
            _table(
                _CITY,
                name="sites",
                source=Source(_LOCATIONS, where=RowFilter("city", ("Paris",))),
            ),
            _table(parent("p", "sites", "P."), source=f"{_LOCATIONS}.contacts[]"),
        ),
        "may have no row",
    ),
    "position in no list": (
        lambda: (_table(outer_position("p", "^", "P.")),),
        "no list at '\\^' encloses",
    ),
    "position in the row's own list": (
        lambda: (_table(outer_position("p", ".", "P.")),),
        "no list at '.' encloses",
    ),
    "type of another reading": (
        lambda: (_table(Field("d", ColumnType.TEXT, "D.", Read("zip", readings.last_day), None)),),
        "column 'd' is text, but 'last_day' gives another type",
    ),
    "part of a number": (
        lambda: (
            _table(Field("n", ColumnType.TEXT, "N.", Read("zip", readings.number, "sign"), None)),
        ),
        "no part 'sign' of a number",
    ),
    "numbers beside in no list": (
        lambda: (
            _table(*number("n", "zip", "N", raw="r", value="n", beside=Beside("^", ("zip",)))),
        ),
        "no list at '\\^' encloses",
    ),
    "numbers beside that are none": (
        lambda: (
            _table(
                *number(
                    "n", "name", "N", raw="r", value="n", beside=Beside("^", ("zip", "geoPoint"))
                ),
                source=f"{_LOCATIONS}.contacts[]",
            ),
        ),
        "no text of the field tree is at 'geoPoint'",
    ),
    "difference of no dates": (
        lambda: (
            _table(difference("d", Difference("hasResults", "town", Span.DAYS), "D."), source=""),
        ),
        "not text",
    ),
    "difference without an end": (
        lambda: (
            _table(
                difference("d", Difference("city", "zip", Span.DAYS), "D."),
                source=Source(_LOCATIONS, paths={"zip": None}),
            ),
        ),
        "has no 'zip'",
    ),
    "sum of text": (
        lambda: (_SITES, _table(rows_summed("n", "sites", "city", "N."))),
        "needs 'city' of 'sites' as bigint, but it is text",
    ),
    "total of nothing": (
        lambda: (
            _SITES,
            _table(Field("n", ColumnType.BIGINT, "N.", Aggregate("sites", Total.SUM))),
        ),
        "with column None",
    ),
    "total where nothing is": (
        lambda: (_SITES, _table(rows_counted("n", "sites", "N.", {"town": "x"}))),
        "do not exist",
    ),
}


@pytest.mark.parametrize(("tables", "message"), _WRONG.values(), ids=_WRONG.keys())
def test_wrong_declaration_is_refused(
    tables: Callable[[], tuple[Table, ...]], message: str
) -> None:
    """A declaration that contradicts the field tree or itself is refused with what is wrong."""
    with pytest.raises(DeclarationError, match=message):
        check(tables())


def test_declared_tables_pass_the_check() -> None:
    """The check that staging_tables makes accepts them, and reports by table name what it does not."""
    check(staging_tables())
    with pytest.raises(DeclarationError, match="table 'rows': "):
        check((_table(text("town", "town", "T.")),))
