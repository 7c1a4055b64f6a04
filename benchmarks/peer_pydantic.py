"""A peer: pydantic models of a study, and an INSERT for each of the same rows.

In the peer's favour the rows are ours, made ready before the clock starts: only validating each
study's JSON and inserting the rows is timed, in one transaction, with statements that psycopg
prepares, into tables without keys or indexes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psycopg import sql
from pydantic import BaseModel, ValidationError, create_model

from benchmarks.inputs import settings_of
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import lake_of, pages, row_batches
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.model.fields import FieldNode, field_tree
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import connect
from ctg_assets.postgres.server import open_postgres

_SCHEMA = "peer"


class GeoPoint(BaseModel):
    """The one composite leaf type."""

    lat: float | None = None
    lon: float | None = None


_LEAF_TYPES: dict[str, Any] = {
    "boolean": bool,
    "integer": int,
    "long": int,
    "number": float,
    "GeoPoint": GeoPoint,
}


def run(data_dir: str, server_dir: str, dbname: str) -> Outcome:
    """Validate a set's studies, and insert the rows that they give."""
    model = study_model()
    rows = _rows_of(data_dir)
    documents = [study for page in pages(data_dir) for study in page]
    validating, inserting = Clock(), Clock()
    with open_postgres(settings_of(Path(server_dir))) as server:
        with validating.running():
            for document in documents:
                try:
                    model.model_validate_json(document)
                except ValidationError as error:
                    print(error)
        with (
            connect(server.database(dbname)) as connection,
            inserting.running(),
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_SCHEMA)))
            for shape in staging_shapes():
                cursor.execute(ddl.create_table(shape, _SCHEMA))
                statement = sql.SQL("INSERT INTO {} VALUES ({})").format(
                    sql.Identifier(_SCHEMA, shape.name),
                    sql.SQL(", ").join([sql.Placeholder()] * len(shape.columns)),
                )
                # One after the other, as such scripts do; executemany would send them in a pipeline.
                for row in rows[shape.name]:
                    cursor.execute(statement, row)
    return Outcome(
        validating.seconds + inserting.seconds,
        parts={"validate": validating.seconds, "insert": inserting.seconds},
        rows={name: len(found) for name, found in rows.items()},
    )


def study_model() -> type[BaseModel]:
    """A model of a study with every field of the registry, none of them required."""
    return create_model("Study", **_fields(field_tree()))


def _fields(nodes: tuple[FieldNode, ...]) -> dict[str, Any]:
    return {node.name: (_type_of(node) | None, None) for node in nodes}


def _type_of(node: FieldNode) -> Any:
    if node.children:
        item = create_model(node.piece, **_fields(node.children))
    else:
        item = _LEAF_TYPES.get(node.base_type, str)
    return list[item] if node.is_list else item  # type: ignore[valid-type]


def _rows_of(data_dir: str) -> dict[str, list[tuple[Any, ...]]]:
    rows: dict[str, list[tuple[Any, ...]]] = {shape.name: [] for shape in staging_shapes()}
    for batch in row_batches(lake_of(data_dir)):
        for name, table in batch.items():
            columns = [column.to_pylist() for column in table.columns]
            rows[name] += list(zip(*columns, strict=True))
    return rows
