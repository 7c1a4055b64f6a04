"""A peer: dlt, from the same JSON to the same Postgres.

dlt finds out tables and columns by itself and stores values as they are; it makes no keys of ours, no
foreign keys, no dates. In its favour: the fastest JSON parser it can be given (orjson), pages rather
than single studies, extracted files small enough that normalizing can use all cores, no unique
indexes. Telemetry is off: nothing leaves the machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.inputs import settings_of
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import pages
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres

FORMATS = ("csv", "parquet", "insert_values")

_DATASET = "peer"
_TABLE = "studies"
_STUDIES_PER_FILE = 500


def run(data_dir: str, server_dir: str, dbname: str, file_format: str) -> Outcome:
    """Extract, normalize and load a set with one of FORMATS between normalizing and loading."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_postgres(settings_of(Path(server_dir))) as server,
    ):
        os.environ |= {
            "DLT_DATA_DIR": folder,
            "DLT_PROJECT_DIR": folder,
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "DATA_WRITER__FILE_MAX_ITEMS": str(_STUDIES_PER_FILE),
            # Of normalized rows there are many more, and small files only cost there.
            "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "100000",
        }
        address = server.database(dbname)
        clock = Clock()
        parts = _pipeline(address, data_dir, folder, file_format, clock)
        with connect(address) as connection:
            found = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
                " AND table_name NOT LIKE %s",
                [_DATASET, r"\_dlt\_%"],
            ).fetchall()
            rows = {name: _count(connection, name) for (name,) in found}
    return Outcome(clock.seconds, parts=parts, rows=rows)


def _pipeline(
    address: PostgresAddress, data_dir: str, folder: str, file_format: str, clock: Clock
) -> dict[str, float]:
    import dlt
    import orjson

    credentials = {
        "database": address.dbname,
        "username": address.user,
        "password": address.password or "none",
        # It becomes part of a URL, which libpq decodes.
        "host": quote(address.host, safe=""),
        "port": address.port,
    }
    pipeline = dlt.pipeline(
        pipeline_name="benchmark",
        pipelines_dir=folder,
        destination=dlt.destinations.postgres(credentials=credentials, create_indexes=False),
        dataset_name=_DATASET,
    )

    def studies() -> Iterator[list[Any]]:
        for page in pages(data_dir):
            yield [orjson.loads(study) for study in page]

    resource = dlt.resource(studies, name=_TABLE, write_disposition="append")
    parts = {name: Clock() for name in ("extract", "normalize", "load")}
    with clock.running():
        with parts["extract"].running():
            pipeline.extract(resource, loader_file_format=file_format)
        with parts["normalize"].running():
            pipeline.normalize(workers=os.cpu_count())
        with parts["load"].running():
            pipeline.load(raise_on_failed_jobs=True)
    return {name: part.seconds for name, part in parts.items()}


def _count(connection: Any, table: str) -> int:
    return int(connection.execute(f'SELECT count(*) FROM {_DATASET}."{table}"').fetchone()[0])
