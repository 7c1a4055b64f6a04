"""What the rows of each staging table depend on, apart from the studies themselves.

A table depends on its own declaration, on what it takes from other tables (the ids of their rows, some
of their columns), on the types in which its fields arrive, and on the code that makes rows. That code
is taken as it stands in the source files: a revision number that a person has to raise would one day
be forgotten, and tables would keep rows that nobody could explain.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from ctg_assets.model import flatten
from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.tables import column_values, declaration, readings, staging_tables
from ctg_assets.model.tables.column_values import (
    Aggregate,
    FirstFound,
    Lookup,
    Match,
    Value,
    tables_needed,
)
from ctg_assets.model.tables.declaration import Table

_MODEL, _TABLES = "ctg_assets.model.", "ctg_assets.model.tables"
_LANGUAGE = (declaration.__name__, column_values.__name__, readings.__name__)

# A part of a table that others may depend on: a column, or (None) which rows there are.
_Part = tuple[str, str | None]


def row_digests(tables: Sequence[Table]) -> dict[str, str]:
    """For each table, by name, a digest of all that its rows depend on."""
    by_name = {table.name: table for table in tables}
    return {table.name: _digest(table, by_name) for table in tables}


@cache
def staging_digests() -> Mapping[str, str]:
    """The same of all staging tables; they are asked for at each step of a refresh, and do not change meanwhile."""
    return row_digests(staging_tables())


def _digest(table: Table, by_name: Mapping[str, Table]) -> str:
    waiting: list[_Part] = [(table.name, None), *((table.name, own.name) for own in table.fields)]
    parts: dict[_Part, str] = {}
    while waiting:
        part = waiting.pop()
        if part not in parts:
            parts[part], further = _described(part, by_name)
            waiting += further
    digest = hashlib.sha256(_code_digest().encode())
    for part in sorted(parts, key=repr):
        digest.update(f"{part}: {parts[part]}\n".encode())
    return digest.hexdigest()


def _described(part: _Part, by_name: Mapping[str, Table]) -> tuple[str, list[_Part]]:
    """What defines a part, as text, and the parts of other tables that it depends on."""
    table = by_name[part[0]]
    if part[1] is None:
        return repr(table.sources), []
    field = next(field for field in table.fields if field.name == part[1])
    column = next(column for column in table.shape.columns if column.name == part[1])
    return repr((field.name, field.type, field.value, _types(column.sources))), [
        *((name, None) for name in tables_needed(field.value)),
        *_columns_needed(field.value),
    ]


def _columns_needed(value: Value) -> Iterator[_Part]:
    """The columns of other tables that must be known to compute a value."""
    match value:
        case Lookup(table, on, where, column):
            yield from ((table, name) for name in (*on, *where, column))
        case FirstFound(lookups):
            for lookup in lookups:
                yield from _columns_needed(lookup)
        case Match(table, theirs):
            yield table, theirs
        case Aggregate(table, column=column, where=where):
            yield from ((table, name) for name in (column, *where) if name is not None)
        case _:
            return


def _types(paths: Sequence[str]) -> list[str]:
    # Not of objects: their types change with every field that they get.
    nodes = (nodes_by_path().get(path) for path in paths)
    return [str(node.arrow_type()) for node in nodes if node is not None and node.is_leaf]


@cache
def _code_digest() -> str:
    digest = hashlib.sha256()
    for name in row_code():
        digest.update(Path(str(sys.modules[name].__file__)).read_bytes())
    return digest.hexdigest()


def row_code() -> list[str]:
    """The modules whose code decides what rows a declaration gives: flattening, and what it uses.

    The tables themselves are left out: their declarations are digested one by one.
    """
    waiting, reached = [flatten.__name__], set[str]()
    while waiting:
        name = waiting.pop()
        is_table = name.startswith(_TABLES) and name not in _LANGUAGE
        if name in reached or is_table or not name.startswith(_MODEL):
            continue
        reached.add(name)
        for value in vars(sys.modules[name]).values():
            origin = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "")
            waiting.append(str(origin))
    return sorted(reached)
