"""What several tests of the warehouse need: folders, settings, small tables."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.postgres.builds import BuildRecord
from ctg_assets.postgres.cluster import read_postmaster
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.ownership import note_relations, note_schema
from ctg_assets.settings import Settings, load_settings

STUDIES = TableShape(
    name="studies",
    description="One row per study.",
    columns=(
        Column(
            "nct_id",
            ColumnType.TEXT,
            "The registry's id.",
            nullable=False,
            sources=("protocolSection.identificationModule.nctId",),
            aact="studies.nct_id",
        ),
        Column("version", ColumnType.INTEGER, "It's the load it came with."),
    ),
    primary_key=("nct_id",),
)
CONDITIONS = TableShape(
    name="conditions",
    description="One row per condition.",
    columns=(
        Column("id", ColumnType.BIGINT, "Key.", nullable=False),
        Column("nct_id", ColumnType.TEXT, "The study.", nullable=False),
        Column("name", ColumnType.TEXT, "As written."),
        Column("version", ColumnType.INTEGER, "The load it came with."),
    ),
    primary_key=("id",),
    foreign_keys=(ForeignKey(("nct_id",), "studies"),),
    indexes=(("nct_id",), ("name",), ("version", "nct_id")),
)
KEYWORDS = TableShape(
    name="keywords",
    description="One row per keyword of a condition.",
    columns=(
        Column("id", ColumnType.BIGINT, "Key.", nullable=False),
        Column("condition_id", ColumnType.BIGINT, "The condition."),
        Column("name", ColumnType.TEXT, "As written."),
    ),
    primary_key=("id",),
    foreign_keys=(ForeignKey(("condition_id",), "conditions"),),
)
ALL = (STUDIES, CONDITIONS, KEYWORDS)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder outside pytest's own.

    For root, Postgres runs as another user and the folder is opened for it to pass through; pytest
    closes its folders to others again with every session that begins on the machine.
    """
    with tempfile.TemporaryDirectory(prefix="ctg test ") as name:
        yield Path(name)


def kill_server(cluster: Path) -> None:
    """`kill -9` the server that runs in a folder, with all its processes, which are gone then."""
    postmaster = read_postmaster(cluster)
    assert postmaster is not None
    server = psutil.Process(postmaster.pid)
    everyone = [server, *server.children()]
    for doomed in everyone:
        with contextlib.suppress(psutil.NoSuchProcess):
            doomed.kill()
    # Where nobody waits for orphans they stay, dead.
    _, left = psutil.wait_procs(everyone, timeout=2)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert process.status() == psutil.STATUS_ZOMBIE


def settings_for(folder: Path, postgres_url: str | None = None) -> Settings:
    """Settings with this data folder and server, whatever the environment says."""
    return load_settings(data_dir=folder, postgres_url=postgres_url)


def table(shape: TableShape, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows of a shape as Arrow."""
    names = [column.name for column in shape.columns]
    schema = pa.schema([pa.field(column.name, column.type.arrow) for column in shape.columns])
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema)


def nct_id(number: int) -> str:
    """The id of the n-th study."""
    return f"NCT{number:08d}"


def batch(studies: range, version: int = 1) -> dict[str, pa.Table]:
    """Rows of all three tables: two conditions a study, one keyword a condition."""
    conditions = [study * 10**9 + position for study in studies for position in (1, 2)]
    return {
        "studies": table(STUDIES, [(nct_id(study), version) for study in studies]),
        "conditions": table(
            CONDITIONS,
            [(key, nct_id(key // 10**9), f"condition {key % 10}", version) for key in conditions],
        ),
        "keywords": table(KEYWORDS, [(key, key, "keyword") for key in conditions]),
    }


def build(
    version: int = 1,
    studies: int = 3,
    tables: Sequence[str] = ("studies", "conditions", "keywords"),
) -> BuildRecord:
    """The record of a load of a model with these tables."""
    return BuildRecord(
        snapshot_id=f"snapshot-{version}",
        content_fingerprint=f"content-{version}",
        model_fingerprint="model",
        data_timestamp=datetime(2026, 1, version, 9, tzinfo=UTC),
        studies=studies,
        tables=dict.fromkeys(tables, f"content-{version}/model"),
    )


def query(address: PostgresAddress, statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    with connect(address) as connection:
        cursor = connection.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def index_kinds(address: PostgresAddress, schema: str) -> dict[str, str]:
    """The access method of each index of a schema."""
    found = query(
        address,
        f"""
        SELECT c.relname, am.amname FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam
        WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'i'
        """,
    )
    return dict(found)


def take_as_built(address: PostgresAddress, schema: str) -> None:
    """Note that a schema made by hand, and all views in it, are what dbt has made."""
    with connect(address) as connection:
        note_schema(connection, schema, schema)
        views = connection.execute(
            "SELECT viewname FROM pg_views WHERE schemaname = %s", [schema]
        ).fetchall()
        note_relations(connection, schema, [name for (name,) in views])


def versions(address: PostgresAddress) -> list[tuple[Any, ...]]:
    """How many rows of which load each table has, in one statement."""
    return query(
        address,
        "SELECT 'conditions', version, count(*) FROM staging.conditions GROUP BY version UNION ALL "
        "SELECT 'studies', version, count(*) FROM staging.studies GROUP BY version ORDER BY 1, 2",
    )


def spare_the_disk(address: PostgresAddress) -> None:
    """Stop waiting for the disk: killing processes loses only what a power failure would lose."""
    with connect(address) as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
        connection.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def held(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `holder.py` that is where it was told to wait."""
    command = [sys.executable, "-m", "ctg_assets_tests.postgres.holder", str(folder), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()
