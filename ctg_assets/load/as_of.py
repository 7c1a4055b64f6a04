"""The tables as they stood at a time in the past."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain

import polars as pl
import pyarrow as pa

from ctg_assets.errors import CtgAssetsError
from ctg_assets.lake import Lake
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadProgress, LoadReport, LoadRequest
from ctg_assets.load.row_sources import study_shapes
from ctg_assets.load.study_rows import ROW_GROUPS_AT_A_TIME
from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.model.flatten import flatten
from ctg_assets.model.history_tables import STUDY_VERSIONS
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.model.spec import TableShape
from ctg_assets.postgres.builds import BuildRecord
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.target import Target
from ctg_assets.snapshot.compaction import ROW_GROUP_ROWS
from ctg_assets.snapshot.typed_contents import CONTENT_COLUMNS, type_contents


class NothingObservedError(CtgAssetsError, ValueError):
    """Nothing was observed at or before the time asked for; the message says since when there is something."""


def contents_at(lake: Lake, at: datetime) -> pl.DataFrame:
    """The contents that were current at a time (aware): their periods (PERIODS_SCHEMA), by NCT id.

    Raises NothingObservedError when the history begins later.
    """
    periods = lake.history.periods()
    if not periods.filter(pl.col("valid_from") <= _moment(at)).height:
        since = "the history is empty"
        if periods.height:
            first = periods.select(pl.col("valid_from").min().dt.strftime("%Y-%m-%d %H:%M:%S"))
            since = f"the first observation is of {first.item()} UTC"
        message = f"nothing was observed until {at:%Y-%m-%d %H:%M:%S} UTC; {since}"
        raise NothingObservedError(message)
    return current_at(periods, at)


def current_at(periods: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Those of the periods (PERIODS_SCHEMA) that a time (aware) lies in."""
    has_begun = pl.col("valid_from") <= _moment(at)
    has_ended = pl.col("valid_to") <= _moment(at)
    return periods.filter(has_begun & ~has_ended.fill_null(value=False))


def _moment(at: datetime) -> pl.Expr:
    return pl.lit(at).cast(pl.Datetime("us", "UTC"))


def load_as_of(
    address: PostgresAddress,
    lake: Lake,
    at: datetime,
    schema: str,
    progress: Callable[[LoadProgress], None] | None = None,
    *,
    with_periods: bool = False,
) -> LoadReport:
    """Load the tables as they stood at a time (aware) into a schema, in one swap.

    `with_periods` adds study_versions, with nothing but when the contents seen until then began.

    What an earlier load of this kind put there is replaced; staging is not touched. Memory is bounded by
    a batch of studies. Raises NothingObservedError, PermanentWarehouseError for a schema with a purpose
    of its own (`staging`, `marts`, ...), and what `load_tables` raises.
    """
    Target(schema, address.schemas).require_free_name()
    contents = contents_at(lake, at)
    shapes = (*study_shapes(), PERIODS) if with_periods else study_shapes()
    digest = hashlib.sha256("".join(contents["content_hash"]).encode()).hexdigest()
    identified = contents.filter(are_nct_ids(pl.col("nct_id")))
    return load_tables(
        LoadRequest(
            address,
            shapes,
            schema=schema,
            build=BuildRecord(
                snapshot_id=f"as of {at:%Y-%m-%dT%H:%M:%S}",
                content_fingerprint=digest,
                model_fingerprint="",
                data_timestamp=contents["valid_from"].max(),  # type: ignore[arg-type]
                studies=identified.height,
                tables={shape.name: digest for shape in shapes},
            ),
            progress=progress,
        ),
        chain(
            rows_of_contents(lake, contents),
            [{PERIODS.name: _periods_until(lake, at)}] if with_periods else [],
        ),
    )


PERIODS = TableShape(
    name="study_versions",
    description="When each content of a study was first observed.",
    columns=STUDY_VERSIONS.columns[:2],
    primary_key=STUDY_VERSIONS.primary_key,
)


def _periods_until(lake: Lake, at: datetime) -> pa.Table:
    periods = lake.history.periods().filter(
        (pl.col("valid_from") <= _moment(at)) & are_nct_ids(pl.col("nct_id"))
    )
    return periods.select(PERIODS.arrow_schema.names).to_arrow().cast(PERIODS.arrow_schema)


def rows_of_contents(
    lake: Lake, contents: pl.DataFrame, tables: Collection[str] | None = None
) -> Iterator[Mapping[str, pa.Table]]:
    """The rows that contents (at least CONTENT_COLUMNS) give, of all tables or those named."""
    flat = None if tables is None else [name for name in tables if name != EXTRAS.name]
    wanted = contents.select(CONTENT_COLUMNS)
    for rows in lake.history.contents(wanted, ROW_GROUPS_AT_A_TIME * ROW_GROUP_ROWS):
        typed = type_contents(rows)
        yield flatten(typed.studies, flat)
        yield {EXTRAS.name: extras_rows(typed.extras)}


def rows_current_at(
    lake: Lake,
    periods: pl.DataFrame,
    times: Sequence[datetime],
    tables: Collection[str],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Mapping[str, pa.Table]]:
    """The rows, in the tables named, of all contents that were current at one of these times (aware).

    `periods` (PERIODS_SCHEMA) are those that count. A batch has a study once, so that its keys are unique in
    it. `progress` is called with the contents read and their total.
    """
    current = [current_at(periods, at).select(CONTENT_COLUMNS) for at in times]
    if not current:
        return
    contents = pl.concat(current).unique(["nct_id", "content_hash"]).sort("nct_id", "content_hash")
    numbered = contents.with_columns(turn=pl.int_range(pl.len()).over("nct_id"))
    done = 0
    for _, some in sorted(numbered.partition_by("turn", as_dict=True, include_key=False).items()):
        for rows in lake.history.contents(some, ROW_GROUPS_AT_A_TIME * ROW_GROUP_ROWS):
            yield flatten(type_contents(rows).studies, tables)
            done += rows.num_rows
            if progress is not None:
                progress(done, contents.height)
