"""The check that table declarations agree with the registry's field tree and with one another.

Belongs here: everything that can be wrong in a declaration and how it is said. Does not belong here:
the language of declarations (`declaration.py`) and checks of data.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.tables.declaration import (
    Constant,
    DeclarationError,
    Field,
    Lookup,
    Parent,
    Read,
    Reading,
    Source,
    Table,
    enclosing_lists,
)

_LIST_READINGS = frozenset({Reading.JOINED, Reading.CONTAINS, Reading.COUNT})


def check(tables: tuple[Table, ...]) -> None:
    """Raise DeclarationError where a table contradicts the field tree, itself or an earlier table."""
    known: dict[str, Table] = {}
    for table in tables:
        if table.name in known:
            message = f"table {table.name!r} is declared twice"
            raise DeclarationError(message)
        try:
            _check_table(table, known)
        except DeclarationError as error:
            message = f"table {table.name!r}: {error}"
            raise DeclarationError(message) from error
        known[table.name] = table


def _check_table(table: Table, known: Mapping[str, Table]) -> None:
    names = [item.name for item in table.fields]
    if len(set(names)) != len(names):
        message = f"column names are not unique: {sorted(names)}"
        raise DeclarationError(message)
    unknown = {name for index in table.indexes for name in index} - set(names)
    if unknown:
        message = f"indexes name columns that do not exist: {sorted(unknown)}"
        raise DeclarationError(message)
    for source in table.sources:
        _check_source(table, source)
    for item in table.fields:
        if isinstance(item.value, Read):
            _check_read(table, item, item.value)
        elif isinstance(item.value, Parent | Lookup):
            _check_reference(table, item.value, known)


def _check_source(table: Table, source: Source) -> None:
    if source.path and source.path not in nodes_by_path():
        message = f"source {source.path!r} is not in the field tree"
        raise DeclarationError(message)
    constants = {item.name: item for item in table.fields if isinstance(item.value, Constant)}
    if set(source.constants) != set(constants):
        message = f"source {source.path!r} must state exactly {sorted(constants)}"
        raise DeclarationError(message)
    for name, value in source.constants.items():
        stated, type_ = pa.scalar(value).type, constants[name].type
        if stated != type_.arrow:
            message = f"column {name!r} is {type_.value} but source {source.path!r} states {stated}"
            raise DeclarationError(message)
    reads = [item.value for item in table.fields if isinstance(item.value, Read)]
    used = {value.path for value in reads} | {value.when.path for value in reads if value.when}
    if stale := set(source.paths) - used:
        message = f"source {source.path!r} maps paths that no column uses: {sorted(stale)}"
        raise DeclarationError(message)


def _check_read(table: Table, item: Field, value: Read) -> None:
    resolved = 0
    for source in table.sources:
        path = source.resolve(value.path)
        if path is None:
            continue
        resolved += 1
        _check_path(source, path, item, value)
        if value.when is not None:
            condition = source.resolve(value.when.path)
            if condition is not None:
                # What is compared must be one text per row: what LOWER asks for, too.
                _check_path(source, condition, item, Read(value.when.path, Reading.LOWER))
    if not resolved:
        message = f"column {item.name!r} has no value in any source"
        raise DeclarationError(message)


def _check_path(source: Source, path: str, item: Field, value: Read) -> None:
    node = nodes_by_path().get(path)
    if node is None:
        message = f"column {item.name!r}: {path!r} is not in the field tree"
        raise DeclarationError(message)
    lists = enclosing_lists(path)
    own = enclosing_lists(source.path)
    is_list = node.is_list and path not in own
    around = lists[:-1] if is_list else lists
    if own[: len(around)] != around:
        message = f"column {item.name!r}: {path!r} has many values for a row of {source.path!r}"
        raise DeclarationError(message)
    if is_list != (value.reading in _LIST_READINGS):
        message = f"column {item.name!r}: {path!r} cannot be read as {value.reading.value!r}"
        raise DeclarationError(message)
    arrow = node.arrow_type()
    if node.is_list:
        arrow = arrow.value_type
    if problem := _type_problem(value, arrow, item.type.arrow):
        message = f"column {item.name!r} is {item.type.value} but {path!r} {problem}"
        raise DeclarationError(message)


def _type_problem(value: Read, sent: pa.DataType, wanted: pa.DataType) -> str | None:
    """Why values of the Arrow type sent cannot be read so; None if they can."""
    match value.reading:
        case Reading.AS_SENT:
            return None if sent == wanted else f"holds {sent}"
        case Reading.EQUALS:
            return None if pa.types.is_integer(sent) else "is not a whole number"
        case Reading.PART:
            names = [part.name for part in sent] if pa.types.is_struct(sent) else []
            return None if value.argument in names else f"has no part {value.argument!r}"
        case Reading.COUNT:
            return None
        case _:
            return None if sent == pa.string() else "is not text"


def _check_reference(table: Table, value: Parent | Lookup, known: Mapping[str, Table]) -> None:
    target = known.get(value.table)
    if target is None:
        message = f"refers to table {value.table!r}, which is not declared before it"
        raise DeclarationError(message)
    if isinstance(value, Parent):
        enclosing = {path for source in table.sources for path in source.outer_lists}
        paths = [source.path for source in target.sources if source.path in enclosing]
        if not paths or len(set(paths)) != len(paths):
            message = f"no single source of {value.table!r} encloses a row"
            raise DeclarationError(message)
        if any(source.distinct for source in target.sources):
            message = f"items of {value.table!r} may have no row, so none can refer to them"
            raise DeclarationError(message)
        outside = [
            source.path for source in table.sources if not set(source.outer_lists) & set(paths)
        ]
        if bool(outside) != value.optional:
            message = f"reference to {value.table!r}: optional={value.optional}, outside: {outside}"
            raise DeclarationError(message)
        return
    missing = {*value.on, *value.where} - {item.name for item in target.fields}
    missing |= set(value.on.values()) - {item.name for item in table.fields}
    if missing:
        message = f"looks up by columns that do not exist: {sorted(missing)}"
        raise DeclarationError(message)
