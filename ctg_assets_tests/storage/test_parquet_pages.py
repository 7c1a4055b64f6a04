"""Single rows are read page by page as Arrow reads them, and nothing else is taken for a page."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.parquet_pages import RowGroupPages, ScatteredRows
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

NAME = "history/000001/contents.parquet"
ROWS = 60
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("study", pa.large_binary(), nullable=False),
    ]
)


def rows(seed: int) -> pa.Table:
    """Ids of one length, and values of any, empty ones among them."""
    draw = random.Random(seed)
    values = [draw.randbytes(draw.choice([0, 1, 4, 300, 5000])) for _ in range(ROWS)]
    return pa.table([[f"NCT{place:08d}" for place in range(ROWS)], values], schema=SCHEMA)


def write(storage: Storage, table: pa.Table, **options: Any) -> None:
    """Write a table in row groups of twenty, compressed as contents are unless told."""
    settings = {"compression": "zstd", "use_dictionary": False, **options}
    with sealed_writer(storage, NAME, table.schema, **settings) as writer:
        writer.write_table(table, row_group_size=20)


@pytest.mark.parametrize("page_bytes", [1, 2000, 1 << 20])
@pytest.mark.parametrize("statistics", [True, False])
def test_values_are_those_that_were_written(
    storage: Storage, page_bytes: int, statistics: bool
) -> None:
    """With a page a value, some to a page, and one page a row group; all values or some, in any order."""
    table = rows(page_bytes)
    options = {"data_page_size": page_bytes, "write_batch_size": 1, "write_statistics": statistics}
    write(storage, table, **options)
    ids, studies = (table[name].to_pylist() for name in SCHEMA.names)
    with open_sealed(storage, NAME) as file:
        scattered = ScatteredRows(file, SCHEMA.names)
        assert scattered.are_readable()
        for number in range(file.num_row_groups):
            first = 20 * number
            group = scattered.row_group(number)
            assert group.values("id") == {row: ids[first + row].encode() for row in range(20)}
            for some in ([], [19], [7, 3], range(20)):
                expected = {row: studies[first + row] for row in some}
                assert group.values("study", some) == expected


@pytest.mark.parametrize(
    "options", [{"compression": "snappy"}, {"use_dictionary": True}, {"data_page_version": "2.0"}]
)
def test_what_is_written_otherwise_is_left_to_arrow(
    storage: Storage, options: dict[str, Any]
) -> None:
    """Other compression and encodings are told by the file; pages of another version are refused."""
    write(storage, rows(1), **options)
    with open_sealed(storage, NAME) as file:
        scattered = ScatteredRows(file, SCHEMA.names)
        if scattered.are_readable():
            with pytest.raises(pa.ArrowInvalid, match="something else than plain values"):
                scattered.row_group(0).values("study")


def test_columns_with_null_are_left_to_arrow(storage: Storage) -> None:
    """A page of values that may be missing begins with which of them are."""
    nullable = pa.schema([SCHEMA.field("id"), pa.field("study", pa.large_binary())])
    write(storage, rows(1).cast(nullable))
    with open_sealed(storage, NAME) as file:
        assert not ScatteredRows(file, SCHEMA.names).are_readable()


def test_a_flipped_bit_is_damage(storage: Storage) -> None:
    """What the seal does not vouch for is not decompressed."""
    write(storage, rows(2))
    with open_sealed(storage, NAME) as file:
        place = file.metadata.row_group(1).column(1).data_page_offset + 40
    content = bytearray(storage.read_bytes(NAME))
    content[place] ^= 1
    with storage.publish(NAME) as stream:
        stream.write(bytes(content))
    with pytest.raises(DamagedFileError), open_sealed(storage, NAME) as file:
        ScatteredRows(file, SCHEMA.names).row_group(1)


def test_bytes_that_are_no_pages(storage: Storage) -> None:
    """Random bytes, and pages that are cut off, are refused as what they are."""
    write(storage, rows(3))
    with open_sealed(storage, NAME) as file:
        chunk = file.metadata.row_group(0).column(1)
        start, size = chunk.data_page_offset, chunk.total_compressed_size
        whole = bytes(file.between(start, start + size))
    draw = random.Random(3)
    for content in [whole[:length] for length in (0, 3, 9)] + [
        draw.randbytes(50) for _ in range(200)
    ]:
        pages = RowGroupPages({"study": memoryview(content)}, 20, pa.Codec("zstd"))
        with pytest.raises((pa.ArrowInvalid, OSError)):
            pages.values("study")
