"""Loading: the releases of the lake into schema `who`, an indicator in one transaction; readers never wait.

A release is written once, rows of others are not touched. What is loaded of an indicator is told by its
releases' content, so that loading again writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from psycopg import sql

from ctg_assets.model.spec import TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.builds import write_builds
from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.postgres.copying import conform, copy_rows
from ctg_assets.postgres.errors import LoadRejectedError
from ctg_assets.postgres.indexes import build_indexes
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.ownership import (
    claim_schema,
    note_relations,
    owned_relations,
    require_own_relations,
)
from ctg_assets.postgres.sessions import session_alone
from ctg_assets.postgres.target import Target
from ctg_assets.who.indicators import Indicator
from ctg_assets.who.releases import Release, ReleaseStore
from ctg_assets.who.tables import ESTIMATES, INDICATORS, OBSERVATIONS, RELEASES, SHAPES, TABLES


@dataclass(frozen=True)
class LoadedIndicator:
    """What a load wrote of an indicator: rows of releases that were not there before, by release."""

    code: str
    rows: Mapping[str, int]


def load_indicators(
    address: PostgresAddress,
    releases: ReleaseStore,
    wanted: Iterable[Indicator],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[LoadedIndicator]:
    """Bring schema `who` to what the lake has of these indicators; those without a release are left out.

    Each indicator is one transaction. `progress` hears its code, rows so far and in all. Raises LoadBusyError,
    ServerUnavailableError, ForeignObjectError when the schema or a table is somebody else's, and
    LoadRejectedError when two indicators give a table the same row; what was there before then stays.
    """
    target = Target(address.schemas.who, address.schemas)
    loaded = []
    with (
        postgres_errors(f"loading WHO's numbers into {address.public_url}"),
        session_alone(address, target) as connection,
    ):
        ensure_meta(connection)
        _ensure_tables(connection)
        for indicator in wanted:
            there = releases.releases(indicator.code)
            if there:
                loaded.append(_load(connection, releases, indicator, there, progress))
        if any(each.rows for each in loaded):
            for shape in SHAPES:
                name = sql.Identifier(address.schemas.who, shape.name)
                connection.execute(sql.SQL("ANALYZE {}").format(name))
    return loaded


def _ensure_tables(connection: Connection) -> None:
    schema = connection.schemas.who
    with connection.transaction():
        claim_schema(connection, schema, "who")
        require_own_relations(connection, schema, [shape.name for shape in SHAPES])
        there = owned_relations(connection, schema)
        for shape in SHAPES:
            if shape.name not in there:
                _create(connection, shape, schema)


def _create(connection: Connection, shape: TableShape, schema: str) -> None:
    connection.execute(ddl.create_table(shape, schema))
    connection.execute(ddl.create_primary_key(shape, schema))
    build_indexes(connection, shape, schema)
    for statement in ddl.comments(shape, schema):
        connection.execute(statement)
    note_relations(connection, schema, [shape.name])


def _load(
    connection: Connection,
    releases: ReleaseStore,
    indicator: Indicator,
    there: list[Release],
    progress: Callable[[str, int, int], None],
) -> LoadedIndicator:
    state = releases.state(indicator.code)
    newest = there[-1].number if state is None or state.release is None else state.release
    with connection.transaction():
        held = _held(connection, indicator.code)
        new = [each for each in there if held.get(each.name) != each.content_hash]
        total, done = sum(each.rows for each in new), 0
        for release in new:
            _delete(connection, release)
            for rows in releases.batches(release):
                done += _copy(connection, TABLES[release.target], _whole(rows, release), indicator)
                progress(indicator.code, done, total)
        is_changed = _write_releases(connection, indicator, there, newest)
        is_changed = _write_indicator(connection, indicator, there, newest) or is_changed
        if new or is_changed:
            _note(connection)
    return LoadedIndicator(indicator.code, {each.name: each.rows for each in new})


def _held(connection: Connection, code: str) -> dict[str, str]:
    """The content of each release of an indicator that is loaded, by name."""
    statement = "SELECT release, content_hash FROM {who}.releases WHERE indicator = %s"
    return dict(connection.execute(connection.schemas.sql(statement), [code]).fetchall())


def _delete(connection: Connection, release: Release) -> None:
    """Remove what a lake that is no more has left under the name of a release."""
    for shape in TABLES.values():
        table = sql.Identifier(connection.schemas.who, shape.name)
        statement = sql.SQL("DELETE FROM {} WHERE indicator = %s AND release = %s").format(table)
        connection.execute(statement, [release.code, release.name])


def _whole(rows: pa.Table, release: Release) -> pa.Table:
    """The rows of a release with what all of them share."""
    shared = {
        "indicator": release.code,
        "release": release.name,
        "source": release.source,
        "licence": release.licence,
    }
    for name, value in shared.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value), rows.num_rows))
    return rows


def _copy(connection: Connection, shape: TableShape, rows: pa.Table, indicator: Indicator) -> int:
    schema = connection.schemas.who
    rows = conform(shape, rows, Target(schema, connection.schemas))
    statement = ddl.copy_rows(shape, schema, freeze=False)
    try:
        copy_rows(connection, statement, rows, into=f"{schema}.{shape.name}")
    except LoadRejectedError as error:
        message = (
            f"{error}. If another indicator has that row already, the filters of the two overlap: make them disjoint, "
            f"or disable one and delete its rows; nothing of {indicator.code} was loaded"
        )
        raise LoadRejectedError(message) from error
    return len(rows)


def _write_releases(
    connection: Connection, indicator: Indicator, there: list[Release], newest: int
) -> bool:
    # A lake that is no more has left releases, too: they stay, and none of them is the newest.
    table = sql.Identifier(connection.schemas.who, RELEASES.name)
    statement = sql.SQL(
        "UPDATE {} SET is_newest = false WHERE indicator = %s AND is_newest AND release <> ALL (%s)"
    ).format(table)
    names = [release.name for release in there]
    written = connection.execute(statement, [indicator.code, names]).rowcount
    for release in there:
        row = {
            "indicator": indicator.code,
            "release": release.name,
            "release_number": release.number,
            "is_newest": release.number == newest,
            "rows": release.rows,
            "set_aside": release.set_aside,
            "first_fetched_at": release.fetched_at,
            "updated_at": release.updated_at,
            "content_hash": release.content_hash,
        }
        written += _upsert(connection, RELEASES, row)
    return written > 0


def _write_indicator(
    connection: Connection, indicator: Indicator, there: list[Release], newest: int
) -> bool:
    return _upsert(
        connection,
        INDICATORS,
        {
            "indicator": indicator.code,
            "name": indicator.name,
            "dialect": indicator.dialect.value,
            "entity": indicator.asked_for,
            "filter": indicator.filter,
            "table_name": indicator.target.value,
            "enabled": indicator.enabled,
            "newest_release": next(each.name for each in there if each.number == newest),
            "source": indicator.source,
            "licence": indicator.licence,
        },
    )


def _upsert(connection: Connection, shape: TableShape, row: Mapping[str, Any]) -> bool:
    """Write a row unless it is there as it is; returns whether it was written."""
    names = [column.name for column in shape.columns]
    others = [name for name in names if name not in shape.primary_key]
    table = sql.Identifier(connection.schemas.who, shape.name)

    def listed(names: Iterable[str], *prefix: str) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(*prefix, name) for name in names)

    statement = sql.SQL(
        "INSERT INTO {table} AS t ({names}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET ({others}) = "
        "ROW ({new}) WHERE ({old}) IS DISTINCT FROM ({new})"
    ).format(
        table=table,
        names=listed(names),
        values=sql.SQL(", ").join(sql.Placeholder() for _ in names),
        key=listed(shape.primary_key),
        others=listed(others),
        new=listed(others, "excluded"),
        old=listed(others, "t"),
    )
    return connection.execute(statement, [row[name] for name in names]).rowcount > 0


def _note(connection: Connection) -> None:
    """Note, in the caller's transaction, what each table holds: marts that read one are built again by it."""
    statement = """
        SELECT i.table_name, r.indicator, r.release, r.content_hash, r.rows
        FROM {who}.releases AS r JOIN {who}.indicators AS i USING (indicator) ORDER BY 1, 2, 3
    """
    held = connection.execute(connection.schemas.sql(statement)).fetchall()
    write_builds(
        connection,
        connection.schemas.who,
        [
            (shape.name, _digest(rows), sum(row[-1] for row in rows))
            for shape in (OBSERVATIONS, ESTIMATES)
            for rows in [[row for row in held if row[0] == shape.name]]
        ],
    )


def _digest(rows: Iterable[tuple[Any, ...]]) -> str:
    return hashlib.sha256("\n".join(map(str, rows)).encode()).hexdigest()
