"""Rows of an extraction are sorted within bounded memory."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from ctg_assets.extract import external_sort
from ctg_assets.extract.external_sort import SortedRows, without_neighbours
from ctg_assets.storage.files import Storage
from ctg_assets_tests.support.made_lakes import extraction, study

_PAGES = 6
_PAGE_BYTES = 4 << 20


@pytest.mark.parametrize("portion_bytes", [64 << 20, 1000])
def test_few_rows_of_many_pages_do_not_keep_the_pages(
    storage: Storage, tmp_path: Path, portion_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh takes some studies of each page; what it holds is these, and a page being read."""
    monkeypatch.setattr(external_sort, "_PORTION_JSON_BYTES", portion_bytes)
    pages = [
        [
            study(f"NCT0000{page}{row:03d}", title="x" * (_PAGE_BYTES // 8 if row else 100))
            for row in range(9)
        ]
        for page in range(1, _PAGES + 1)
    ]
    made = extraction(storage, pages)
    rows = SortedRows(storage, tmp_path)
    chosen = rows.facts(made.extraction_id).filter(pl.col("nct_id").str.ends_with("000"))
    before = pa.total_allocated_bytes()
    found = []
    for some in rows.rows(made.extraction_id, chosen, 2000):
        assert pa.total_allocated_bytes() - before < 2 * _PAGE_BYTES
        found += some["study"].to_pylist()
    assert found == [page[0] for page in pages]


@pytest.mark.parametrize(("chosen", "held"), [([7], 1), (range(8), 10)])
def test_rows_are_copied_where_they_are_few(chosen: list[int], held: int) -> None:
    """A few let go of what was read beside them; most of what was read is not copied."""
    before = pa.total_allocated_bytes()
    read = pl.DataFrame({"study": pa.array([b"x" * 1_000_000] * 10, pa.large_binary())})
    rows = without_neighbours(read[list(chosen)], read.height)
    del read
    assert rows["study"].to_list() == [b"x" * 1_000_000] * len(chosen)
    assert pa.total_allocated_bytes() - before <= held * 1_100_000
