"""Contents of studies are read out of the files of their entries, in order and within bounded memory."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.history.contents import Contents

_ENTRIES = 5
_ROWS = 40
_JSON_BYTES = 200_000


def test_scattered_contents_do_not_keep_their_neighbours(tmp_path: Path) -> None:
    """One of each entry is asked for: what is held in the end are these, in the order asked for."""
    for entry in range(_ENTRIES):
        rows = {
            "nct_id": [f"NCT{row:04d}{entry:04d}" for row in range(_ROWS)],
            "content_hash": [f"{entry}-{row}" for row in range(_ROWS)],
            "study": pa.array(
                [b"%d" % row * (_JSON_BYTES // 2) for row in range(_ROWS)], "large_binary"
            ),
        }
        pq.write_table(pa.table(rows), tmp_path / f"{entry}.parquet", row_group_size=_ROWS)
    asked = [(f"NCT0012{entry:04d}", f"{entry}-12", entry) for entry in reversed(range(_ENTRIES))]
    wanted = pl.DataFrame(asked, ["nct_id", "content_hash", "contents_entry"], orient="row")
    contents = Contents(lambda entry: pq.ParquetFile(tmp_path / f"{entry}.parquet"))
    before = pa.total_allocated_bytes()
    for found in contents.rows(wanted, _ENTRIES):
        assert pa.total_allocated_bytes() - before < _ROWS * _JSON_BYTES
        assert found["nct_id"].to_pylist() == [nct_id for nct_id, _, _ in asked]
        assert found["study"].to_pylist() == [b"12" * (_JSON_BYTES // 2)] * _ENTRIES
