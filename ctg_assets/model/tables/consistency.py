"""The check that table declarations agree with the registry's field tree and with one another."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import readings
from ctg_assets.model.tables.column_values import (
    Aggregate,
    Constant,
    Difference,
    FirstFound,
    Lookup,
    Match,
    OuterPosition,
    Parent,
    Total,
    paths_read,
    tables_needed,
)
from ctg_assets.model.tables.declaration import (
    DeclarationError,
    Field,
    Source,
    Table,
    enclosing_lists,
)
from ctg_assets.model.tables.readings import Beside, Condition, Read


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
        for name in tables_needed(item.value):
            if name not in known:
                message = f"refers to table {name!r}, which is not declared before it"
                raise DeclarationError(message)
        _check_value(table, item, known)


def _check_value(table: Table, item: Field, known: Mapping[str, Table]) -> None:
    match item.value:
        case Read():
            _check_read(table, item, item.value)
        case Difference():
            _check_difference(table, item, item.value)
        case OuterPosition(path):
            _check_outer_position(table, item, path)
        case Parent():
            _check_parent(table, item.value, known[item.value.table])
        case Lookup():
            _check_lookup(table, item, item.value, known[item.value.table])
        case FirstFound(lookups):
            for one in lookups:
                _check_lookup(table, item, one, known[one.table])
        case Match(name, theirs, own):
            _check_columns(known[name], {theirs: ColumnType.TEXT})
            _check_columns(table, {own: ColumnType.TEXT})
        case Aggregate():
            _check_aggregate(item, item.value, known[item.value.table])


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
    used = {path for item in table.fields for path in paths_read(item.value)}
    used |= {item.value.path for item in table.fields if isinstance(item.value, OuterPosition)}
    if source.where is not None:
        used.add(source.where.path)
        _check_comparison(source, source.where.path, f"filter of source {source.path!r}")
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
            _check_condition(source, value.when, item)
        if value.beside is not None:
            _check_beside(source, value.beside, item)
    if not resolved:
        message = f"column {item.name!r} has no value in any source"
        raise DeclarationError(message)


def _check_beside(source: Source, beside: Beside, item: Field) -> None:
    around = source.resolve(beside.item)
    if around not in source.outer_lists[1:]:
        message = f"column {item.name!r}: no list at {beside.item!r} encloses {source.path!r}"
        raise DeclarationError(message)
    for path in beside.paths:
        node = nodes_by_path().get(f"{around}.{path}")
        if node is None or node.arrow_type() != pa.string():
            message = (
                f"column {item.name!r}: no text of the field tree is at {path!r} in {around!r}"
            )
            raise DeclarationError(message)


def _check_difference(table: Table, item: Field, value: Difference) -> None:
    for source in table.sources:
        for path in (value.start, value.end):
            _check_comparison(source, path, f"column {item.name!r}")
        for condition in value.unless:
            _check_condition(source, condition, item)


def _check_condition(source: Source, condition: Condition, item: Field) -> None:
    if source.resolve(condition.path) is not None:
        _check_comparison(source, condition.path, f"column {item.name!r}")


def _check_comparison(source: Source, relative: str, what: str) -> None:
    """What is compared, or a date, must be one text per row."""
    path = source.resolve(relative)
    if path is None:
        message = f"{what}: source {source.path!r} has no {relative!r}"
        raise DeclarationError(message)
    # LOWER asks for just that.
    field = Field(what, ColumnType.TEXT, "", Read(relative, readings.lower))
    _check_path(source, path, field, Read(relative, readings.lower))


def _check_outer_position(table: Table, item: Field, relative: str) -> None:
    for source in table.sources:
        path = source.resolve(relative)
        if path is not None and path not in source.outer_lists[1:]:
            message = f"column {item.name!r}: no list at {relative!r} encloses {source.path!r}"
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
    if is_list != value.reading.of_list:
        message = f"column {item.name!r}: {path!r} cannot be read as {value.reading.name!r}"
        raise DeclarationError(message)
    arrow = node.arrow_type()
    if node.is_list:
        arrow = arrow.value_type
    given = value.reading.type
    if given not in {None, item.type}:
        message = f"column {item.name!r} is {item.type.value}, but {value.reading.name!r} gives another type"
        raise DeclarationError(message)
    if problem := value.reading.problem(arrow, item.type.arrow, value):
        message = f"column {item.name!r} is {item.type.value} but {path!r} {problem}"
        raise DeclarationError(message)


def _check_parent(table: Table, value: Parent, target: Table) -> None:
    enclosing = {path for source in table.sources for path in source.outer_lists}
    paths = [source.path for source in target.sources if source.path in enclosing]
    if not paths or len(set(paths)) != len(paths):
        message = f"no single source of {value.table!r} encloses a row"
        raise DeclarationError(message)
    if any(source.distinct or source.where for source in target.sources):
        message = f"items of {value.table!r} may have no row, so none can refer to them"
        raise DeclarationError(message)
    outside = [source.path for source in table.sources if not set(source.outer_lists) & set(paths)]
    if bool(outside) != value.optional:
        message = f"reference to {value.table!r}: optional={value.optional}, outside: {outside}"
        raise DeclarationError(message)


def _check_lookup(table: Table, item: Field, value: Lookup, target: Table) -> None:
    theirs = _check_columns(target, dict.fromkeys([*value.on, value.column], None))
    _check_columns(target, dict.fromkeys(value.where, ColumnType.TEXT))
    _check_columns(table, {own: theirs[name] for name, own in value.on.items()})
    if theirs[value.column] is not item.type:
        found = theirs[value.column].value
        message = f"column {item.name!r} is {item.type.value} but {value.column!r} is {found}"
        raise DeclarationError(message)


def _check_aggregate(item: Field, value: Aggregate, target: Table) -> None:
    _check_columns(target, dict.fromkeys(value.where, ColumnType.TEXT))
    wanted = {Total.SUM: ColumnType.BIGINT, Total.ANY: ColumnType.TEXT}.get(value.total)
    if (wanted is None) != (value.column is None):
        message = f"column {item.name!r}: {value.total.value!r} with column {value.column!r}"
        raise DeclarationError(message)
    if value.column is not None:
        _check_columns(target, {value.column: wanted})


def _check_columns(table: Table, wanted: Mapping[str, ColumnType | None]) -> dict[str, ColumnType]:
    """The types of columns that a value needs; any type will do where None is wanted."""
    types = {item.name: item.type for item in table.fields}
    if missing := sorted(set(wanted) - set(types)):
        message = f"needs columns of {table.name!r} that do not exist: {missing}"
        raise DeclarationError(message)
    for name, type_ in wanted.items():
        if type_ is not None and types[name] is not type_:
            found = types[name].value
            message = f"needs {name!r} of {table.name!r} as {type_.value}, but it is {found}"
            raise DeclarationError(message)
    return {name: types[name] for name in wanted}
