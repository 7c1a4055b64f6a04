"""Tables of a release as each engine reads their files, in order, as Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa


def by_duckdb(paths: Sequence[str]) -> pa.Table:
    """The rows that DuckDB reads."""
    return duckdb.from_parquet(list(paths)).to_arrow_table()


def by_polars(paths: Sequence[str]) -> pa.Table:
    """The rows that Polars reads."""
    return pl.read_parquet(list(paths)).to_arrow()


def by_pandas(paths: Sequence[str]) -> pa.Table:
    """The rows that pandas reads, with Arrow's types: its own have no integers with nulls."""
    frame = pd.read_parquet(list(paths), dtype_backend="pyarrow")
    return pa.table({name: pa.array(frame[name].array) for name in frame.columns})


def by_clickhouse(tables: Sequence[Sequence[str]]) -> list[pa.Table]:
    """The rows of some tables that ClickHouse's embedded engine reads; for a process of its own.

    File by file: of several it reads them in any order. Where they are none it has an empty list for a missing one.
    """
    import chdb  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - half a GB

    settings = "max_threads = 1, input_format_parquet_preserve_order = 1"
    found = []
    for paths in tables:
        pieces = []
        for path in paths:
            statement = f"SELECT * FROM file('{path}', Parquet) SETTINGS {settings}"
            answer: Any = chdb.query(statement, "ArrowStream")  # type: ignore[no-untyped-call, unused-ignore]
            pieces.append(pa.ipc.open_stream(answer.bytes()).read_all())
        found.append(pa.concat_tables(pieces))
    return found


@contextmanager
def spark_session() -> Iterator[Any]:
    """A Spark on this machine, whose times are UTC."""
    from pyspark.sql import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        SparkSession,
    )

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    # In another zone Spark's answers would be the same moments by another name.
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        spark.sparkContext.setLogLevel("ERROR")
        yield spark
    finally:
        spark.stop()


def by_spark(spark: Any, paths: Sequence[str]) -> pa.Table:
    """The rows that Spark reads; file by file, since of several it takes the largest first."""
    return pa.concat_tables([spark.read.parquet(path).toArrow() for path in paths])
