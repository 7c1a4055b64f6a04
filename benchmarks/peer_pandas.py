"""A peer: pandas, `json_normalize` and `to_sql(method="multi")` for the same tables.

Each table has our columns, found from its declaration by `record_path` and `meta`. In the peer's
favour, values are written as they were sent (no dates, numbers or ages are computed), there are no
references between rows, no filters, no keys; studies are flattened once for all tables with one row a
study, and lists that a study lacks are filled in beforehand, since `record_path` fails on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inputs import settings_of
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import pages
from ctg_assets.model.tables import Table, readings, staging_tables
from ctg_assets.model.tables.column_values import Constant, Position, RowId, Snapshot
from ctg_assets.model.tables.declaration import Field, Source
from ctg_assets.model.tables.readings import Read
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.server import open_postgres

_SCHEMA = "peer"
_ROWS_PER_STATEMENT = 1000
_NCT_ID = "nct_id"
_META = "^"  # begins no field name of the registry's

Json = dict[str, Any]


def run(data_dir: str, server_dir: str, dbname: str) -> Outcome:
    """From a set's JSON to all tables."""
    import pandas as pd
    from sqlalchemy import create_engine, text

    clock = Clock()
    rows = {}
    with open_postgres(settings_of(Path(server_dir))) as server:
        engine = create_engine(_sqlalchemy_url(server.database(dbname)))
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {_SCHEMA}"))
        with clock.running():
            studies: list[Json] = [json.loads(study) for page in pages(data_dir) for study in page]
            flat = pd.json_normalize(studies)
            flat[_NCT_ID] = flat["protocolSection.identificationModule.nctId"]
            for table in staging_tables():
                frame = pd.concat(
                    [_frame(pd, studies, flat, table, source) for source in table.sources],
                    ignore_index=True,
                )
                for item in table.fields:
                    if isinstance(item.value, RowId):
                        frame[item.name] = range(1, len(frame) + 1)
                frame.to_sql(
                    table.name,
                    engine,
                    schema=_SCHEMA,
                    index=False,
                    method="multi",
                    chunksize=_ROWS_PER_STATEMENT,
                )
                rows[table.name] = len(frame)
        engine.dispose()
    return Outcome(clock.seconds, rows=rows)


def _sqlalchemy_url(address: PostgresAddress) -> str:
    # psycopg2 writes values into the statement; psycopg 3 would stop at 65,535 parameters.
    return address.url.replace("postgresql://", "postgresql+psycopg2://", 1)


def _frame(pd: Any, studies: list[Json], flat: Any, table: Table, source: Source) -> Any:
    """The rows of one source, with the table's columns."""
    if source.list_path:
        found, base = _records(pd, studies, table, source), source.list_path
    else:
        found, base = flat, ""
    if source.path != source.list_path:
        # A row for each object that is there.
        inner = _below(source.path, base)
        inside = [name for name in found.columns if str(name).startswith(f"{inner}.")]
        found = found[found[inside].notna().any(axis=1)]
    columns = {item.name: _column(item, found, source, base) for item in table.fields}
    return pd.DataFrame(columns, index=found.index)


def _records(pd: Any, studies: list[Json], table: Table, source: Source) -> Any:
    keys = _keys(source.list_path)
    meta: list[list[str]] = [[_NCT_ID]]
    lifted: dict[str, list[str]] = {}
    for path in _paths(table, source):
        if _is_below(path, source.list_path):
            continue
        outer = _keys(path)
        if outer[:-1] == keys[: len(outer) - 1]:
            meta.append(outer)
        elif "[]" not in path:
            # `meta` reads only along the way to the records: the rest is put at the top before.
            lifted[path] = outer
            meta.append([path])
    for study in studies:
        _fill(study, keys)
        study[_NCT_ID] = _dig(study, ["protocolSection", "identificationModule", "nctId"])
        for path, outer in lifted.items():
            study[path] = _dig(study, outer)
    return pd.json_normalize(
        studies, record_path=keys, meta=meta, meta_prefix=_META, errors="ignore"
    )


def _paths(table: Table, source: Source) -> list[str]:
    """The full registry paths of the values that a source's rows are read from."""
    found = (
        source.resolve(item.value.path) for item in table.fields if isinstance(item.value, Read)
    )
    return list(dict.fromkeys(path for path in found if path))


def _column(item: Field, found: Any, source: Source, base: str) -> Any:
    value = item.value
    match value:
        case Snapshot("nct_id"):
            return found[_META + _NCT_ID if base else _NCT_ID]
        case Constant():
            return source.constants[item.name]
        case Position() if base:
            return found.groupby(_META + _NCT_ID).cumcount() + 1
        case Read(path):
            resolved = source.resolve(path)
            return None if resolved is None else _read(found, value, resolved, base)
        case _:
            return None


def _read(found: Any, value: Read, path: str, base: str) -> Any:
    if not _is_below(path, base):
        name: str | int = _META + (".".join(_keys(path)))
    elif path == base:
        name = 0  # items that are no objects get the name 0
    else:
        # A list below the row stays one, and is written as JSON.
        name = _below(path, base).partition("[]")[0]
    if value.reading is readings.part:
        name = f"{name}.{value.argument}"
    if name not in found.columns:
        return None
    column = found[name]
    if column.dtype == object and column.map(lambda one: isinstance(one, list | dict)).any():
        return column.map(lambda one: json.dumps(one) if isinstance(one, list | dict) else one)
    return column


def _is_below(path: str, base: str) -> bool:
    return not base or path == base or path.startswith(f"{base}.")


def _below(path: str, base: str) -> str:
    return path.removeprefix(base).removeprefix(".")


def _keys(path: str) -> list[str]:
    return path.replace("[]", "").split(".")


def _dig(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _fill(value: Any, keys: Sequence[str]) -> None:
    """Put an empty list at the end of the way, in all items on it that lack one."""
    if isinstance(value, list):
        for item in value:
            _fill(item, keys)
    elif len(keys) == 1:
        value.setdefault(keys[0], [])
    else:
        _fill(value.setdefault(keys[0], {}), keys[1:])
