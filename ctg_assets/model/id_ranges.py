"""Ranges of NCT numbers, for who takes some studies at a time wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from ctg_assets.model.nct_ids import are_nct_ids, is_nct_id


@dataclass(frozen=True)
class IdRanges:
    """Numbers of NCT ids from one to another, the other not included; ascending, without overlaps."""

    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def joined(cls, pairs: Iterable[tuple[int, int]]) -> IdRanges:
        """Ranges given in ascending order, those that touch made one."""
        joined: list[tuple[int, int]] = []
        for first, end in pairs:
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((first, end))
        return cls(tuple(joined))

    def cover(self, nct_ids: pl.Series) -> pl.Series:
        """For each text whether it is an NCT id with a number in one of the ranges."""
        numbers = numbers_of(nct_ids)
        known = numbers.fill_null(-1).to_numpy()
        firsts = np.array([first for first, _ in self.pairs], np.int64)
        ends = np.array([end for _, end in self.pairs], np.int64)
        at = np.searchsorted(firsts, known, side="right") - 1
        return pl.Series((at >= 0) & (known < ends[at]))

    def touch(self, first: str, last: str) -> bool:
        """Whether ids from one text to another may be in one of the ranges; true where that cannot be told."""
        if not (is_nct_id(first) and is_nct_id(last)):
            return True
        low, high = int(first[3:]), int(last[3:])
        return any(low < end and high >= start for start, end in self.pairs)


def numbers_of(nct_ids: pl.Series) -> pl.Series:
    """The numbers of NCT ids; null for a text that is none."""
    column = pl.col("nct_id")
    numbers = pl.when(are_nct_ids(column)).then(column.str.slice(3)).cast(pl.Int64)
    return nct_ids.alias("nct_id").to_frame().select(numbers).to_series()
