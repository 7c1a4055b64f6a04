"""Rows of a table on their way into files: kept on the local disk until all of them are there.

How rows are divided into files depends on how many there are of each leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.release.leaves import LeafSize, leaf_numbers, leaf_sizes

_COMPRESSION = pa.ipc.IpcWriteOptions(compression="lz4")


class _Piece(NamedTuple):
    segment: Path
    start: int
    rows: int


class Spool:
    """Some rows of one table by leaf; those of a leaf come out in the order of the key."""

    def __init__(
        self, folder: Path, schema: pa.Schema, sorted_by: Sequence[str], *, is_sorted: bool = False
    ) -> None:
        """Keep rows of a schema in files of a folder, which is made; `is_sorted` says that all come in order."""
        folder.mkdir(parents=True)
        self._folder = folder
        self._schema = schema
        self._sorted_by = list(sorted_by)
        self._is_sorted = is_sorted
        self._pieces: dict[int, list[_Piece]] = {}
        self._segments = 0
        self._read: tuple[Path, pa.Table] | None = None
        self.sizes: dict[int, LeafSize] = {}

    @property
    def empty(self) -> pa.Table:
        """No rows, of the spool's schema."""
        return self._schema.empty_table()

    def add(self, rows: pa.Table) -> None:
        """Take rows; each leaf's may come in several turns."""
        if not rows.num_rows:
            return
        rows = rows.select(self._schema.names).cast(self._schema)
        if not self._is_sorted:
            rows = sort_rows(rows, self._sorted_by)
        segment = self._folder / f"{self._segments}.arrow"
        self._segments += 1
        with pa.ipc.new_file(str(segment), self._schema, options=_COMPRESSION) as writer:
            writer.write_table(rows)
        leaves, starts = np.unique(leaf_numbers(rows, self._sorted_by[0]), return_index=True)
        sizes = leaf_sizes(rows, starts)
        for leaf, start, size in zip(leaves.tolist(), starts.tolist(), sizes, strict=True):
            before = self.sizes.get(leaf, LeafSize(0, 0))
            self.sizes[leaf] = LeafSize(before.rows + size.rows, before.weight + size.weight)
            self._pieces.setdefault(leaf, []).append(_Piece(segment, start, size.rows))

    def rows(self, leaf: int) -> Iterator[pa.Table]:
        """The rows of a leaf, which is held in memory unless it came in order or at once."""
        pieces = self._pieces.get(leaf, [])
        tables = (self._segment(piece.segment).slice(piece.start, piece.rows) for piece in pieces)
        if self._is_sorted or len(pieces) == 1:
            yield from tables
        else:
            joined = pa.concat_tables([self._schema.empty_table(), *tables])
            yield sort_rows(joined, self._sorted_by)

    def _segment(self, path: Path) -> pa.Table:
        if self._read is None or self._read[0] != path:
            with pa.OSFile(str(path)) as file:
                self._read = path, pa.ipc.open_file(file).read_all()
        return self._read[1]


def sort_rows(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    """Rows in the order of some columns; text by its bytes, missing values last."""
    if len(by) == 1 and pa.types.is_int64(rows.schema.field(by[0]).type):
        keys = rows[by[0]].to_numpy()
        if bool((keys[1:] > keys[:-1]).all()):
            return rows
    rows = rows.combine_chunks()
    return rows.take(pc.sort_indices(rows, [(name, "ascending") for name in by]))
