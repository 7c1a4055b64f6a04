"""The rows of STUDY_VERSION_REPORTING: what contents say of the duty to report results.

They are made from the rows that the contents give in the staging tables, so that a content says the same
while it is current and afterwards.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pyarrow as pa

from ctg_assets.model.dependencies import staging_digests
from ctg_assets.model.flatten import ROWS_PER_STUDY, flatten
from ctg_assets.model.history_tables import STUDY_VERSION_REPORTING

# Tables that are arrays here, with the columns of their items.
_ARRAYS = {
    "countries": ("name", "removed"),
    "interventions": ("intervention_type",),
    "submissions": (
        "position",
        "release_date",
        "unrelease_date",
        "unrelease_date_as_sent",
        "unrelease_date_unknown",
    ),
}
_TABLES = ("studies", "designs", *_ARRAYS)


def reporting_rows(studies: pa.Table, version_numbers: pl.DataFrame) -> pa.Table:
    """The rows for some contents, in any order.

    `studies` are snapshot rows, of which several may be of one study; `version_numbers` has `nct_id`,
    `content_hash` and `version_number` of these and maybe of others.
    """
    # Rows of contents of one study could not be told apart, so each content is given an id of its own.
    stand_ins = [f"NCT{number:08d}" for number in range(1, studies.num_rows + 1)]
    named = pl.DataFrame(studies.select(["nct_id", "content_hash"])).with_columns(
        stand_in=pl.Series(stand_ins, dtype=pl.String)
    )
    place = studies.schema.get_field_index("nct_id")
    flat = flatten(studies.set_column(place, "nct_id", pa.array(stand_ins, pa.string())), _TABLES)

    def rows_of(table: str) -> pl.DataFrame:
        return pl.DataFrame(flat[table]).rename({"nct_id": "stand_in"})

    said = rows_of("studies").drop("content_hash")
    said = said.join(
        rows_of("designs").select("stand_in", "primary_purpose"), on="stand_in", how="left"
    )
    for table, columns in _ARRAYS.items():
        said = said.join(_arrays(rows_of(table), table, columns), on="stand_in", how="left")
    number = pl.col("nct_id").str.slice(3).cast(pl.Int64)
    rows = (
        said.join(named, on="stand_in")
        .join(version_numbers, on=["nct_id", "content_hash"])
        .with_columns(
            pl.col(*_ARRAYS).fill_null("[]"),
            id=number * ROWS_PER_STUDY + pl.col("version_number"),
        )
    )
    shape = STUDY_VERSION_REPORTING.arrow_schema
    return rows.select(shape.names).to_arrow().cast(shape)


def reporting_digest() -> str:
    """A text that changes when the same content may give another row."""
    digests = staging_digests()
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return "/".join([code, *(digests[name] for name in _TABLES)])


def _arrays(rows: pl.DataFrame, table: str, columns: tuple[str, ...]) -> pl.DataFrame:
    found: dict[str, list[dict[str, object]]] = {}
    for stand_in, *values in rows.select("stand_in", *columns).iter_rows():
        found.setdefault(stand_in, []).append(dict(zip(columns, values, strict=True)))
    # Dates as Postgres reads them.
    spelled = [json.dumps(items, default=str, ensure_ascii=False) for items in found.values()]
    return pl.DataFrame(
        {"stand_in": list(found), table: spelled}, schema={"stand_in": pl.String, table: pl.String}
    )
