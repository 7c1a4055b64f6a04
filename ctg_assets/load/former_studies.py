"""What former contents say of the duty to report, told while they are at hand.

An old content lies among neighbours in the history, which are read with it. The tables of studies read it to
compare rows, so that the table of former contents need not read it once more.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.history_tables import STUDY_VERSION_REPORTING
from ctg_assets.model.version_reporting import reporting_rows

CONTENT = ["nct_id", "content_hash"]
"""What names a content."""


class FormerStudies:
    """Rows of STUDY_VERSION_REPORTING for contents of which it does not matter yet which version they are."""

    def __init__(self) -> None:
        self._kept: list[pl.DataFrame] = []

    def keep(self, studies: pa.Table) -> None:
        """Keep what these snapshot rows say; some hundred bytes each."""
        unnumbered = pl.DataFrame(studies.select(CONTENT)).with_columns(
            version_number=pl.lit(0, pl.Int32)
        )
        self._kept.append(pl.DataFrame(reporting_rows(studies, unnumbered)))

    def of(self, numbers: pl.DataFrame) -> pa.Table:
        """The rows that were kept of some contents: `nct_id`, `content_hash` and `version_number`."""
        shape = STUDY_VERSION_REPORTING.arrow_schema
        none = pl.DataFrame(shape.empty_table())
        number = pl.col("nct_id").str.slice(3).cast(pl.Int64)
        rows = (
            pl.concat([none, *self._kept])
            .drop("id")
            .join(numbers.select(*CONTENT, "version_number"), on=CONTENT)
            .with_columns(id=number * ROWS_PER_STUDY + pl.col("version_number"))
        )
        return rows.select(shape.names).to_arrow().cast(shape)
