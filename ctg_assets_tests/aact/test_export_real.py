"""AACT's downloads of recorded studies: what is read back, or restored, equals the tables.

Of a share of the studies, in a soak of all of them.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from psycopg import sql

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.export import ExportFormat, ExportRequest, export_aact
from ctg_assets.aact.request import CtgovRequest
from ctg_assets.aact.schema import aact_tables
from ctg_assets.extract.import_file import import_file
from ctg_assets.lake import open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.model.spec import ColumnType, TableShape
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect
from ctg_assets.postgres.dumping import find_pg_dump
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import only_in_soaks, times

pytestmark = [pytest.mark.soak, only_in_soaks]

STUDIES = times(800, 3395)

Row = tuple[str | None, ...]

SHAPES = {table.name: table.shape for table in aact_tables()}
# All that makes a table but its rows; what refers to others is written with their names in full.
CATALOG = """
SELECT 'column', c.relname, a.attnum::text, a.attname,
    format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull, col_description(c.oid, a.attnum)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'relation', c.relname, c.relkind::text, '', pg_get_viewdef(c.oid), obj_description(c.oid)
FROM pg_class AS c WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'constraint', t.relname, k.conname, k.convalidated::text, pg_get_constraintdef(k.oid), NULL
FROM pg_constraint AS k JOIN pg_class AS t ON t.oid = k.conrelid
WHERE k.connamespace = %(schema)s::regnamespace AND k.contype <> 'n'
UNION ALL SELECT 'index', tablename, indexname, '', indexdef, NULL FROM pg_indexes WHERE schemaname = %(schema)s::text
UNION ALL SELECT 'function', p.proname, '', '', pg_get_functiondef(p.oid), obj_description(p.oid)
FROM pg_proc AS p WHERE p.pronamespace = %(schema)s::regnamespace
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(scope="module")
def made(
    server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresAddress]:
    """AACT's tables of recorded studies; skips where there are none."""
    lines = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines()
    path = tmp_path_factory.mktemp("studies") / "studies.jsonl"
    path.write_bytes(b"\n".join(lines[:: max(1, len(lines) // STUDIES)]))
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"))
    lake = open_lake(settings)
    plan = import_file(lake, path, page_size=1000)
    manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    with new_database(server) as own:
        address = replace(own, schemas=Schemas())
        load_staging(address, lake, manifest)
        build_ctgov(CtgovRequest(address))
        yield address


@pytest.fixture(scope="module")
def texts(made: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pipe-delimited files of all tables."""
    folder = tmp_path_factory.mktemp("texts")
    report = export_aact(ExportRequest(made, ExportFormat.PIPE, folder, "ctgov"))
    with zipfile.ZipFile(report.path) as archive:
        archive.extractall(folder)
    return folder


def rows_as_text(connection: Connection, shape: TableShape) -> list[Row]:
    """The rows of a table by key, each value as Postgres spells it."""
    columns = sql.SQL(", ").join(
        # COPY writes truth in one letter.
        sql.SQL("left({}::text, 1)" if column.type is ColumnType.BOOLEAN else "{}::text").format(
            sql.Identifier(column.name)
        )
        for column in shape.columns
    )
    statement = sql.SQL("SELECT {} FROM {} AS t ORDER BY t.{}").format(
        columns, sql.Identifier("ctgov", shape.name), sql.Identifier(shape.primary_key[0])
    )
    return list(connection.execute(statement).fetchall())


def test_duckdb_reads_what_is_in_the_tables(made: PostgresAddress, texts: Path) -> None:
    """Every row of every table, value by value, NULL and the empty text told apart."""
    rows = 0
    with connect(made) as connection:
        for name, shape in SHAPES.items():
            found = duckdb.read_csv(
                str(texts / f"{name}.txt"),
                sep="|",
                header=True,
                quotechar='"',
                escapechar='"',
                all_varchar=True,
                allow_quoted_nulls=False,
            ).fetchall()
            expected = rows_as_text(connection, shape)
            assert found == expected, name
            rows += len(found)
    assert rows > 100_000


def test_pandas_reads_what_is_in_the_tables(made: PostgresAddress, texts: Path) -> None:
    """Every row of every table, an empty text being missing."""
    with connect(made) as connection:
        for name, shape in SHAPES.items():
            found = pd.read_csv(
                texts / f"{name}.txt", sep="|", dtype=object, keep_default_na=False, na_values=[""]
            )
            assert list(found.columns) == [column.name for column in shape.columns]
            values = found.where(found.notna(), None).itertuples(index=False, name=None)
            expected = rows_as_text(connection, shape)
            assert list(values) == [tuple(value or None for value in row) for row in expected], name


def test_duckdb_finds_the_types_by_itself(texts: Path) -> None:
    """Without being told, it takes ids for whole numbers, dates for dates and truth for truth."""
    studies = duckdb.read_csv(str(texts / "studies.txt"), sep="|")
    types = dict(zip(studies.columns, map(str, studies.types), strict=True))
    assert types["start_date"] == "DATE"
    assert types["updated_at"] == "TIMESTAMP"
    assert types["enrollment"] == "BIGINT"
    assert types["has_dmc"] == "BOOLEAN"
    assert str(duckdb.read_csv(str(texts / "keywords.txt"), sep="|").types[0]) == "BIGINT"


def digests(address: PostgresAddress, schema: str) -> dict[str, str]:
    """A digest of the rows of each table and view of AACT's, by key."""
    found = {}
    with connect(address) as connection, connection.cursor() as cursor:
        for name, shape in SHAPES.items():
            digest = hashlib.sha256()
            statement = sql.SQL("COPY (SELECT * FROM {} ORDER BY {}) TO STDOUT").format(
                sql.Identifier(schema, name), sql.Identifier(shape.primary_key[0])
            )
            with cursor.copy(statement) as copy:
                for row in copy:
                    digest.update(row)
            found[name] = digest.hexdigest()
    return found


def test_a_dump_restores_to_the_same(
    made: PostgresAddress, server: PostgresAddress, tmp_path: Path
) -> None:
    """In an empty database: all rows, columns with their types and comments, keys, indexes, views, functions."""
    request = ExportRequest(made, ExportFormat.DUMP, tmp_path, "ctgov_2023")
    report = export_aact(request)
    with zipfile.ZipFile(report.path) as archive:
        dump = archive.extract("postgres_data.dmp", tmp_path)
    with new_database(server) as restored:
        program = find_pg_dump(18).with_name("pg_restore")
        subprocess.run([program, "-e", "-O", "-x", "-j", "2", "-d", restored.url, dump], check=True)
        for schema in ("ctgov", "ctgov_2023"):
            with connect(made) as here, connect(restored) as there:
                expected, found = (
                    connection.execute(CATALOG, {"schema": schema}).fetchall()
                    for connection in (here, there)
                )
            assert found == expected
            assert len(found) > 500
        assert digests(restored, "ctgov") == digests(made, "ctgov")
