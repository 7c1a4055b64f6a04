"""Reading contents of studies out of the files of the entries in which they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.extract.external_sort import without_neighbours

# Contents that lie apart are read so many at a time, with their neighbours some 35 MB of JSON. A
# hundred leave the processor's caches and the allocator's pools: 1.8 ms each instead of 1.1 ms.
SCATTERED_AT_A_TIME = 50

# Of 16, some 10 MB, are made in memory that is at hand. Of all 125 that the rows of a snapshot's group
# lie in, most of the time goes into new memory: 1.5 s of processor for 440 MB instead of 0.6 s.
_ROW_GROUPS_AT_A_TIME = 16


class Contents:
    """The contents of all entries; each file is opened once."""

    def __init__(self, open_file: Callable[[int], pq.ParquetFile]) -> None:
        self._open_file = open_file
        self._files: dict[int, _ContentsFile] = {}

    def rows(self, wanted: pl.DataFrame, rows_at_a_time: int) -> Iterator[pa.Table]:
        """As `HistoryStore.contents`."""
        for chunk in wanted.iter_slices(rows_at_a_time):
            parts = []
            numbered = chunk.with_row_index("place")
            for (sequence,), rows in numbered.partition_by("contents_entry", as_dict=True).items():
                assert isinstance(sequence, int)  # noqa: S101 - the column's type
                if sequence not in self._files:
                    self._files[sequence] = _ContentsFile(self._open_file(sequence))
                parts.append(self._files[sequence].read(rows))
            found = pl.concat(parts).sort("place").drop("place")
            # Only here is the JSON copied: until then there are references.
            table: Any = found.to_arrow()
            yield table


class _ContentsFile:
    """One entry's contents, open for reading single studies."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        metadata = self._file.metadata
        column = self._file.schema_arrow.get_field_index("nct_id")
        self._first_ids = np.array(
            [
                metadata.row_group(group).column(column).statistics.min
                for group in range(metadata.num_row_groups)
            ],
            dtype=str,
        )
        self._last_ids = np.array(
            [
                metadata.row_group(group).column(column).statistics.max
                for group in range(metadata.num_row_groups)
            ],
            dtype=str,
        )

    def read(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """The wanted rows with their JSON, in any order."""
        groups = self._groups(wanted["nct_id"])
        steps = range(0, max(1, len(groups)), _ROW_GROUPS_AT_A_TIME)
        matched = pl.concat(
            self._read_some(groups[start : start + _ROW_GROUPS_AT_A_TIME], wanted)
            for start in steps
        )
        if matched.height != wanted.height:
            message = (
                f"{wanted.height - matched.height} contents of the history are not in its files"
            )
            raise pa.ArrowInvalid(message)
        return matched

    def _read_some(self, groups: list[int], wanted: pl.DataFrame) -> pl.DataFrame:
        rows = pl.DataFrame(
            self._file.read_row_groups(groups, columns=["nct_id", "content_hash", "study"])
        )
        matched = rows.join(wanted, on=["nct_id", "content_hash"], how="inner")
        return without_neighbours(matched.select(pl.exclude("study"), "study"), rows.height)

    def _groups(self, nct_ids: pl.Series) -> list[int]:
        ids = nct_ids.unique().to_numpy().astype(str)
        # The contents of a study may reach from one row group into the next.
        first = np.searchsorted(self._last_ids, ids, side="left")
        last = np.searchsorted(self._first_ids, ids, side="right") - 1
        groups = {int(group) for group in first} | {int(group) for group in last}
        for start, end in zip(first, last, strict=True):
            groups.update(range(int(start), int(end) + 1))
        return sorted(group for group in groups if 0 <= group < len(self._first_ids))
