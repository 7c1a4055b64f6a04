"""How the rows of a table are divided into files, so that files without changes stay the same bytes.

Numbers (of studies or of changes) are cut into leaves of equal width. A file holds one leaf, or as many as
make a range of a power of two, aligned to its own width, and are not too large together: the largest such
ranges. So the division depends on nothing but sizes, and a change moves no other boundary than its own.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.id_ranges import numbers_of

# As many studies as a row group of a snapshot, in years of many.
LEAF_NUMBERS = 50_000
_ALL_LEAVES = 1 << 20
_LAST_NCT_NUMBER = 99_999_999

# Bytes of values; as zstd they are a fifth. All studies of the registry make 60 files of the largest table.
MOST_WEIGHT = 256 << 20

_FIXED_WIDTH = 8

Integers = npt.NDArray[np.int64]


class LeafSize(NamedTuple):
    """Rows, and the bytes of their values."""

    rows: int
    weight: int


@dataclass(frozen=True)
class Block:
    """A range of leaves that one file holds."""

    first: int
    end: int
    rows: int
    weight: int

    def named(self, key: str) -> str:
        """The range in words, of a table with this first key column; `all` where it is everything."""
        if (self.first, self.end) == (0, _ALL_LEAVES):
            return "all"
        first, last = self.first * LEAF_NUMBERS, self.end * LEAF_NUMBERS - 1
        if key in _OF_STUDIES:
            return f"NCT{first:08d}-NCT{min(last, _LAST_NCT_NUMBER):08d}"
        return f"{first:012d}-{last:012d}"


def divide(leaves: Mapping[int, LeafSize], most_weight: int) -> list[Block]:
    """The blocks of leaves that are there; one of everything if there are none."""
    numbers = sorted(leaves)
    rows = [0, *accumulate(leaves[number].rows for number in numbers)]
    weights = [0, *accumulate(leaves[number].weight for number in numbers)]

    def within(first: int, end: int) -> Iterator[Block]:
        low, high = bisect.bisect_left(numbers, first), bisect.bisect_left(numbers, end)
        weight = weights[high] - weights[low]
        if weight <= most_weight or end - first == 1:
            if low < high or end - first == _ALL_LEAVES:
                yield Block(first, end, rows[high] - rows[low], weight)
            return
        middle = (first + end) // 2
        yield from within(first, middle)
        yield from within(middle, end)

    return list(within(0, _ALL_LEAVES))


# The first key columns by which rows are divided.
_OF_STUDIES = ("id", "nct_id")
_OF_CHANGES = "change_seq"


def leaf_numbers(rows: pa.Table, key: str) -> Integers:
    """The leaf of each row, by a column that says which study or change it is of; 0 by any other."""
    if key == "id":
        numbers: Integers = rows[key].to_numpy() // ROWS_PER_STUDY
    elif key == "nct_id":
        numbers = numbers_of(pl.Series(rows[key])).fill_null(0).to_numpy()
    elif key == _OF_CHANGES:
        numbers = rows[key].to_numpy()
    else:
        numbers = np.zeros(rows.num_rows, np.int64)
    return numbers // LEAF_NUMBERS


def leaf_sizes(rows: pa.Table, starts: Integers) -> list[LeafSize]:
    """The sizes of stretches of rows, at least one, that begin at `starts`."""
    weights = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        if pa.types.is_string(column.type):
            weights += pc.fill_null(pc.binary_length(column), 0).to_numpy()
        else:
            weights += _FIXED_WIDTH
    counts = np.diff(np.append(starts, rows.num_rows))
    sums = np.add.reduceat(weights, starts)
    return [LeafSize(int(count), int(weight)) for count, weight in zip(counts, sums, strict=True)]
