"""The table of what studies have outside the data model."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.model.tables.declaration import STUDY_TABLE
from ctg_assets.model.values import without_nul

EXTRAS = TableShape(
    name="extras",
    description="Values that studies have in fields outside the data model, until the model learns them.",
    columns=(
        Column(
            "id",
            ColumnType.BIGINT,
            "Stable key: NCT number * 10^9 + running position of the row within its study.",
            nullable=False,
        ),
        Column(
            "nct_id",
            ColumnType.TEXT,
            "Registry number of the study (NCT and eight digits).",
            nullable=False,
        ),
        Column(
            "path",
            ColumnType.TEXT,
            "Path of the field in the study's JSON, with [] after lists.",
            nullable=False,
        ),
        Column(
            "item_positions",
            ColumnType.TEXT,
            "Positions, from 1, of the list items that the value lies in, joined with /.",
        ),
        Column("value", ColumnType.JSON, "The value's JSON, as sent.", nullable=False),
    ),
    primary_key=("id",),
    foreign_keys=(ForeignKey(("nct_id",), STUDY_TABLE),),
    indexes=(("path",),),
    ordered_columns=("nct_id",),
)


def extras_rows(values: pa.Table) -> pa.Table:
    """The rows of the table for values of whole studies.

    `values` has the columns `nct_id`, `path`, `item_positions` and `value`, a study's rows together and
    always in the same order.
    """
    at = values.schema.get_field_index("path")
    path = without_nul(values["path"].combine_chunks())
    rows = pl.DataFrame(values.set_column(at, "path", path))
    number = pl.col("nct_id").str.slice(3).cast(pl.Int64)
    running = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("nct_id")
    keyed = rows.select((number * ROWS_PER_STUDY + running).alias("id"), pl.all())
    names = EXTRAS.arrow_schema.names
    return keyed.select(names).to_arrow().cast(EXTRAS.arrow_schema)
