"""The DuckDB file of a release: all its tables as views on the Parquet files, with comments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from ctg_assets.release.manifest import ReleasedTable
from ctg_assets.release.table_files import ReleasedShape

# Readable by every DuckDB since 1.0.
_STORAGE_VERSION = "v1.0.0"
_NAME = "release"


def duckdb_file(tables: Iterable[tuple[ReleasedShape, ReleasedTable]]) -> bytes:
    """A database with a view for each table, whose files it names by their paths in the folder of releases.

    So it is for whoever opens it there, or sets `file_search_path`.
    """
    pairs = list(tables)
    # Not in our scratch folder: a comma in its path would end it for DuckDB.
    with tempfile.TemporaryDirectory(prefix="ctg-release-") as temporary:
        folder = Path(temporary)
        _place_empty_files(folder, pairs)
        path = folder / "made.duckdb"
        with duckdb.connect() as connection:
            connection.execute(f"SET file_search_path = {_text(str(folder))}")
            connection.execute(
                f"ATTACH {_text(str(path))} AS {_NAME} (STORAGE_VERSION {_text(_STORAGE_VERSION)})"
            )
            connection.execute(f"USE {_NAME}")
            connection.execute("BEGIN")
            for statement in _statements(pairs):
                connection.execute(statement)
            connection.execute("COMMIT")
            connection.execute("USE memory")
            connection.execute(f"DETACH {_NAME}")
        return path.read_bytes()


def _place_empty_files(folder: Path, pairs: Iterable[tuple[ReleasedShape, ReleasedTable]]) -> None:
    """Put files of the right types where a view looks for its own while it is made, wherever those are."""
    for shape, table in pairs:
        first, *others = (folder / file.path for file in table.files)
        first.parent.mkdir(parents=True)
        pq.write_table(shape.arrow_schema.empty_table(), first)
        for other in others:
            other.hardlink_to(first)


def _statements(pairs: Iterable[tuple[ReleasedShape, ReleasedTable]]) -> Iterator[str]:
    schemas: set[str] = set()
    for shape, table in pairs:
        if shape.schema not in schemas:
            schemas.add(shape.schema)
            yield f"CREATE SCHEMA {_name(shape.schema)}"
        view = f"{_name(shape.schema)}.{_name(shape.name)}"
        files = ", ".join(_text(file.path) for file in table.files)
        yield f"CREATE VIEW {view} AS SELECT * FROM read_parquet([{files}])"  # noqa: S608 - quoted
        if shape.description:
            yield f"COMMENT ON VIEW {view} IS {_text(shape.description)}"
        for column in shape.columns:
            if column.description:
                told = _text(column.description)
                yield f"COMMENT ON COLUMN {view}.{_name(column.name)} IS {told}"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
