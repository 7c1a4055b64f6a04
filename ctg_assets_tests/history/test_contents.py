"""Contents of studies are read out of the files of their entries, in order and within bounded memory."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pytest

from ctg_assets.history.contents import Contents
from ctg_assets.history.entry_files import frame_writer, history_path
from ctg_assets.history.schemas import CONTENTS_FILE, CONTENTS_SCHEMA
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

_ENTRIES = 5
_ROWS = 40
_JSON_BYTES = 200_000


def _rows(entry: int) -> pa.Table:
    columns = [
        [f"NCT{row:04d}{entry:04d}" for row in range(_ROWS)],
        [f"{entry}-{row:02d}" for row in range(_ROWS)],
        ["extraction"] * _ROWS,
        range(_ROWS),
        [b"%02d" % row * (_JSON_BYTES // 2) for row in range(_ROWS)],
    ]
    return pa.table([*map(list, columns)], schema=CONTENTS_SCHEMA)


@contextlib.contextmanager
def _contents(storage: Storage) -> Iterator[Contents]:
    with contextlib.ExitStack() as stack:
        yield Contents(
            lambda entry: stack.enter_context(
                open_sealed(storage, history_path(entry, CONTENTS_FILE))
            )
        )


def _wanted(*places: tuple[int, int]) -> pl.DataFrame:
    """What names the contents at rows of entries."""
    asked = [(f"NCT{row:04d}{entry:04d}", f"{entry}-{row:02d}", entry) for entry, row in places]
    return pl.DataFrame(asked, ["nct_id", "content_hash", "contents_entry"], orient="row")


@pytest.mark.parametrize("as_before", [False, True], ids=["in small pages", "as releases before"])
def test_scattered_contents_do_not_keep_their_neighbours(storage: Storage, as_before: bool) -> None:
    """One of each entry is asked for: what is held in the end are these, in the order asked for."""
    for entry in range(_ENTRIES):
        path = history_path(entry, CONTENTS_FILE)
        written = (
            sealed_writer(storage, path, CONTENTS_SCHEMA)
            if as_before
            else frame_writer(storage, path, CONTENTS_SCHEMA)
        )
        with written as writer:
            writer.write_table(_rows(entry), row_group_size=_ROWS)
    wanted = _wanted(*((entry, 12) for entry in reversed(range(_ENTRIES))))
    with _contents(storage) as contents:
        before = pa.total_allocated_bytes()
        for found in contents.rows(wanted, _ENTRIES):
            assert pa.total_allocated_bytes() - before < _ROWS * _JSON_BYTES
            assert found["nct_id"].to_pylist() == wanted["nct_id"].to_list()
            assert found["study"].to_pylist() == [b"12" * (_JSON_BYTES // 2)] * _ENTRIES


@pytest.mark.parametrize("group_rows", [1, 7, _ROWS])
def test_few_and_many_contents_are_read_alike(any_storage: Storage, group_rows: int) -> None:
    """However many of a row group are asked for, and on every kind of storage, each is the one that was written."""
    rows = _rows(0)
    with frame_writer(any_storage, history_path(0, CONTENTS_FILE), CONTENTS_SCHEMA) as writer:
        writer.write_table(rows, row_group_size=group_rows)
    studies = rows["study"].to_pylist()
    draw = random.Random(group_rows)
    with _contents(any_storage) as contents:
        for count in (1, 2, 5, 20, _ROWS):
            chosen = sorted(draw.sample(range(_ROWS), count))
            wanted = _wanted(*((0, row) for row in chosen)).with_columns(number=pl.lit(7))
            found = pa.concat_tables(contents.rows(wanted, 3))
            assert found.column_names == [*wanted.columns, "study"]
            assert found["study"].to_pylist() == [studies[row] for row in chosen]


def test_a_content_that_is_not_there(storage: Storage) -> None:
    """It is told, be it that the study or that its content is missing."""
    with frame_writer(storage, history_path(0, CONTENTS_FILE), CONTENTS_SCHEMA) as writer:
        writer.write_table(_rows(0), row_group_size=8)
    other_content = _wanted((0, 3)).with_columns(content_hash=pl.lit("0-99"))
    other_study = _wanted((0, 3)).with_columns(nct_id=pl.lit("NCT00039999"))
    with _contents(storage) as contents:
        for wanted in (other_content, other_study):
            with pytest.raises(pa.ArrowInvalid, match="1 contents of the history are not"):
                list(contents.rows(wanted, 1))
