"""AACT's tables: how they look, and the query that makes their rows from staging."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from ctg_assets.aact.definitions import DEFINITIONS, JOINS, Definition
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.model.tables.omissions import AACT_COLUMNS_HELD_ONCE, HeldOnce

STUDIES = "studies"

_TYPES = {
    "varchar": ColumnType.VARCHAR,
    "text": ColumnType.TEXT,
    "integer": ColumnType.INTEGER,
    "bigint": ColumnType.BIGINT,
    "boolean": ColumnType.BOOLEAN,
    "date": ColumnType.DATE,
    "timestamp": ColumnType.LOCAL_TIMESTAMP,
    "numeric": ColumnType.NUMERIC,
    "numeric(10,6)": ColumnType.COORDINATE,
    "double precision": ColumnType.DOUBLE,
    "json": ColumnType.JSON,
}

# Tables that no study has: AACT fills them from elsewhere.
_DESCRIPTIONS = {
    "search_results": "Studies that a saved search (CTG_SEARCHES_FILE) found, by the registry's answer.",
    "study_searches": "Saved searches: a name and what the registry was asked.",
    "study_records": "AACT's experiment with the JSON of studies; empty here, the lake has it.",
    "mesh_terms": "MeSH terms with their places in the tree; empty unless NLM's file is given.",
    "mesh_headings": "Headings of the MeSH tree; empty unless NLM's file is given.",
    "search_terms": "Saved searches once more, as AACT has had them since 2025.",
    "search_term_results": "Studies that a saved search found, once more.",
}

_FOUND_SINCE = "Data version (UTC) since which the search has been finding the study."
_MEANINGS = {
    "search_results.name": "Name of the search.",
    "search_results.grouping": "Group of the search.",
    "search_results.created_at": _FOUND_SINCE,
    "search_results.updated_at": "As created_at: the row does not change while the study is found.",
    "search_results.study_search_id": "The search.",
    "study_searches.save_tsv": "Always false: a switch of AACT's own.",
    "study_searches.query": "What the registry was asked: an expression in its query language.",
    "study_searches.grouping": "Group of the search, empty if it has none.",
    "study_searches.name": "Name of the search.",
    "study_searches.beta_api": "Always false: a switch of AACT's own.",
    "study_searches.created_at": "Data version (UTC) of the registry's first answer.",
    "study_searches.updated_at": "Data version (UTC) of the registry's last answer.",
    "study_searches.active": "Always true: searches taken out of the settings are not here.",
    "search_terms.term": "Name of the search.",
    "search_terms.group": "Group of the search, empty if it has none.",
    "search_terms.created_at": "Data version (UTC) of the registry's first answer.",
    "search_terms.updated_at": "Data version (UTC) of the registry's last answer.",
    "search_term_results.search_term_id": "The search.",
    "search_term_results.created_at": _FOUND_SINCE,
    "search_term_results.updated_at": "As created_at.",
    "mesh_terms.qualifier": "Branch of the tree: the tree number up to its first dot.",
    "mesh_terms.tree_number": "Place of the term in the tree.",
    "mesh_terms.description": "NLM's number of the descriptor, such as D009369.",
    "mesh_terms.mesh_term": "Name of the descriptor.",
    "mesh_terms.downcase_mesh_term": "Name of the descriptor in lower case.",
    "mesh_headings.qualifier": "Branch of the tree, such as C04.",
    "mesh_headings.heading": "Name of the branch.",
    "mesh_headings.subcategory": "Name of a descriptor right below the branch; NULL if there is none.",
}
"""What columns mean that do not come from staging."""

_KEYS_OF_SEARCHES = {
    "search_results": ForeignKey(("study_search_id",), "study_searches"),
    "search_term_results": ForeignKey(("search_term_id",), "search_terms"),
}

# Not searched for by study.
_WITHOUT_STUDY_KEY = {"study_records"}

_RELATION = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class AactTable:
    """A table of AACT and, where its rows are made from staging, the SELECT that makes them.

    `{name}` in the query stands for staging table `name`, or for its rows of some studies. The columns
    come in the table's order. `bounds` are the conditions under which a staging value fits into the
    column's type, for columns that are narrower. `lineage` has for each column the staging tables and
    columns that its values come from.
    """

    shape: TableShape
    query: str | None
    bounds: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The table's name."""
        return self.shape.name

    @property
    def reads(self) -> tuple[str, ...]:
        """The staging tables that the query reads, its own first."""
        return tuple(dict.fromkeys(_RELATION.findall(self.query or "")))


@cache
def aact_tables() -> tuple[AactTable, ...]:
    """All 53 tables; those that others refer to come before them."""
    columns: dict[str, list[dict[str, str]]] = {}
    with (resources.files("ctg_assets.aact") / "columns.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            columns.setdefault(row["table"], []).append(row)
    staging = {shape.name: shape for shape in staging_shapes()}
    tables = {name: _table(name, rows, staging) for name, rows in columns.items()}
    return tuple(_referenced_first(tables))


def _referenced_first(tables: dict[str, AactTable]) -> Iterator[AactTable]:
    done: set[str] = set()

    def visit(table: AactTable) -> Iterator[AactTable]:
        if table.name not in done:
            done.add(table.name)
            for key in table.shape.foreign_keys:
                yield from visit(tables[key.table])
            yield table

    for table in tables.values():
        yield from visit(table)


@dataclass(frozen=True)
class _StagingColumn:
    """A column of staging that has AACT's values, and how the query calls its row."""

    table: str
    column: Column
    alias: str = "s"

    @property
    def value(self) -> str:
        return f"{self.alias}.{self.column.name}"


def _staging_columns(name: str, shapes: Mapping[str, TableShape]) -> dict[str, _StagingColumn]:
    """The staging columns that have the values of columns of one of AACT's tables, by full name."""
    if name not in shapes:
        return {}
    found = {
        aact: _StagingColumn(name, column)
        for column in shapes[name].columns
        if (aact := f"{name}.id" if column.name == "id" else column.aact) is not None
    }
    for aact, held in _held_once(name).items():
        [column] = (one for one in shapes[held.table].columns if one.name == held.column)
        found[aact] = _StagingColumn(held.table, column, alias=held.table)
    return found


def _held_once(name: str) -> dict[str, HeldOnce]:
    """The columns of one of AACT's tables whose values staging has once, in another table, by full name."""
    return {
        aact: held
        for aact, held in AACT_COLUMNS_HELD_ONCE.items()
        if aact.partition(".")[0] == name
    }


def _table(name: str, rows: list[dict[str, str]], shapes: Mapping[str, TableShape]) -> AactTable:
    staging = shapes.get(name)
    sources = _staging_columns(name, shapes)
    columns, expressions, bounds, lineage = [], [], {}, {}
    for row in rows:
        full_name = f"{name}.{row['column']}"
        definition, source = DEFINITIONS.get(full_name), sources.get(full_name)
        type_ = _TYPES[row["type"]]
        columns.append(
            Column(
                name=row["column"],
                type=type_,
                description=_description(full_name, definition, source),
                nullable=not row["required"],
                sources=() if source is None else source.column.sources,
            )
        )
        expressions.append(_expression(type_, definition, source))
        lineage[row["column"]] = _sources(name, definition, source)
        if source is not None and definition is None and _is_narrower(type_, source.column.type):
            bounds[row["column"]] = _bound(type_, source.value)
    names = [column.name for column in columns]
    shape = TableShape(
        name=name,
        description=_DESCRIPTIONS[name] if staging is None else staging.description,
        columns=tuple(columns),
        primary_key=("id",) if "id" in names else ("nct_id",),
        foreign_keys=_foreign_keys(name, names, staging),
        indexes=_indexes(name, rows, staging),
    )
    query = None if staging is None else _query(name, expressions)
    return AactTable(shape, query, bounds, lineage)


_COLUMN_READ = re.compile(r"\b(s|studies|events|reported|seen)\.(\w+)")
# What the joins of definitions.py compute their columns from.
_OF_JOINS = {
    "events": (("reported_events", "subjects_affected"), ("reported_events", "event_type")),
    "reported": (("outcomes", "nct_id"),),
    "seen": (("study_versions", "valid_from"),),
}


def _sources(
    table: str, definition: Definition | None, source: _StagingColumn | None
) -> tuple[tuple[str, str], ...]:
    """The staging tables and columns that a column's values come from."""
    if definition is None:
        return () if source is None else ((source.table, source.column.name),)
    found: dict[tuple[str, str], None] = {}
    for alias, column in _COLUMN_READ.findall(definition.sql):
        own = ((table if alias == "s" else STUDIES, column),)
        found |= dict.fromkeys(_OF_JOINS.get(alias, own))
    return tuple(found)


def _description(
    full_name: str, definition: Definition | None, source: _StagingColumn | None
) -> str:
    if definition is not None:
        return definition.meaning
    if source is not None:
        return source.column.description
    return _MEANINGS.get(full_name) or {
        "id": "Number of the row.",
        "nct_id": "Registry number of the study (NCT and eight digits).",
    }.get(full_name.rpartition(".")[2], "As in AACT.")


def _foreign_keys(
    name: str, names: list[str], staging: TableShape | None
) -> tuple[ForeignKey, ...]:
    if staging is not None:
        return tuple(key for key in staging.foreign_keys if set(key.columns) <= set(names))
    to_study = "nct_id" in names and name not in _WITHOUT_STUDY_KEY
    keys = [ForeignKey(("nct_id",), STUDIES)] if to_study else []
    if name in _KEYS_OF_SEARCHES:
        keys.append(_KEYS_OF_SEARCHES[name])
    return tuple(keys)


def _indexes(
    name: str, rows: list[dict[str, str]], staging: TableShape | None
) -> tuple[tuple[str, ...], ...]:
    """An index on the study everywhere, on parents, and on what queries filter by."""
    wanted = [] if name == STUDIES else ["nct_id"]
    if staging is not None:
        wanted += [column for key in staging.foreign_keys for column in key.columns]
    wanted += [row["column"] for row in rows if row["indexed"]]
    there = {row["column"] for row in rows}
    return tuple((column,) for column in dict.fromkeys(wanted) if column in there)


def _query(name: str, expressions: list[str]) -> str:
    held = dict.fromkeys((each.table, each.key, each.own) for each in _held_once(name).values())
    joins = [
        f"LEFT JOIN {{{table}}} AS {table} ON {table}.{key} = s.{own}" for table, key, own in held
    ]
    return " ".join(
        [f"SELECT {', '.join(expressions)} FROM {{{name}}} AS s", *joins, JOINS.get(name, "")]
    )


# What does not fit into AACT's narrower types is NULL, so that one odd number stops nothing; staging has it.
_YES_NO = "CASE {0} WHEN true THEN 'Yes' WHEN false THEN 'No' END"


def _is_narrower(type_: ColumnType, sent: ColumnType) -> bool:
    return type_ is ColumnType.COORDINATE or (
        type_ is ColumnType.INTEGER and sent is not ColumnType.INTEGER
    )


def _bound(type_: ColumnType, value: str) -> str:
    """The condition under which a value fits into a narrower type; NULL for NULL."""
    if type_ is ColumnType.COORDINATE:
        return f"abs({value}) < 9999.5"
    return f"{value} BETWEEN -2147483648 AND 2147483647"


def _narrowed(type_: ColumnType, value: str) -> str:
    name = "numeric(10,6)" if type_ is ColumnType.COORDINATE else "integer"
    return f"CASE WHEN {_bound(type_, value)} THEN ({value})::{name} END"


def _expression(
    type_: ColumnType, definition: Definition | None, source: _StagingColumn | None
) -> str:
    """The value of a column, in the column's type."""
    if definition is not None:
        value = definition.sql.strip()
        return _narrowed(type_, value) if definition.is_wide else value
    if source is None:
        return "NULL"
    if _is_narrower(type_, source.column.type):
        return _narrowed(type_, source.value)
    if type_ is ColumnType.VARCHAR and source.column.type is ColumnType.BOOLEAN:
        return _YES_NO.format(source.value)
    return source.value
