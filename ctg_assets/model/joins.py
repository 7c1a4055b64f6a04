"""Columns that depend on rows already there: references by content, matches, totals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.model import values
from ctg_assets.model.tables.column_values import (
    Aggregate,
    FirstFound,
    Lookup,
    Match,
    MatchPart,
    Total,
)
from ctg_assets.model.unnest import gathered, series, true

LookedUp = Lookup | FirstFound | Match | Aggregate
"""What is computed here."""

_STUDY = "study of the row"  # no column name has spaces

_Numbers = np.ndarray[Any, np.dtype[np.int64]]

# What stands for no number, and in an array for the last place.
_NONE = -1

# Lookups lead through a table with so many places at most: 32 MB, for a moment.
_PLACES = 2**23


@dataclass(frozen=True)
class Found:
    """The rows of a table as far as they are known: the index of each row's study, and columns."""

    study: pl.Series
    columns: Mapping[str, pl.Series]


class Resolver:
    """Computes such columns for the rows of one table."""

    def __init__(self, own: Found, target: Callable[[str], Found]) -> None:
        """Columns may be added to `own` between calls; `target` gives the rows of another table."""
        self._own = own
        self._target = target
        self._matches: dict[tuple[str, str, str], pl.DataFrame] = {}

    def column(self, value: LookedUp) -> pl.Series:
        """The values of one column, in the order of the rows."""
        match value:
            case Lookup():
                return self._looked_up(value)
            case FirstFound(lookups):
                found = [self._looked_up(one).alias(str(n)) for n, one in enumerate(lookups)]
                return pl.select(pl.coalesce(found)).to_series()
            case Match():
                part = "id" if value.part is MatchPart.ID else "quality"
                return self._matched(value).get_column(part)
            case Aggregate():
                return self._total(value)

    def _looked_up(self, value: Lookup) -> pl.Series:
        target = self._target(value.table)
        kept = None
        if value.where:
            conditions = [pl.col(name) == wanted for name, wanted in value.where.items()]
            asked = pl.DataFrame({name: target.columns[name] for name in value.where})
            kept = true(asked.select(pl.all_horizontal(conditions)).to_series())
        theirs = [gathered(target.columns[name], kept) for name in value.on]
        ours = [self._own.columns[name] for name in value.on.values()]
        rows = _first_equal((gathered(target.study, kept), theirs), (self._own.study, ours))
        return gathered(target.columns[value.column], kept)[rows]

    def _matched(self, value: Match) -> pl.DataFrame:
        """The id and the quality of the match of each row."""
        key = (value.table, value.theirs, value.own)
        if key not in self._matches:
            target = self._target(value.table)
            right = pl.DataFrame(
                {
                    "study": target.study,
                    "text": target.columns[value.theirs],
                    "id": target.columns["id"],
                }
            )
            left = pl.DataFrame({"study": self._own.study, "text": self._own.columns[value.own]})
            self._matches[key] = _match(left, right, value.qualities)
        return self._matches[key]

    def _total(self, value: Aggregate) -> pl.Series:
        target = self._target(value.table)
        names = dict.fromkeys([*value.where, *([value.column] if value.column else [])])
        rows = pl.DataFrame({_STUDY: target.study} | {name: target.columns[name] for name in names})
        for name, wanted in value.where.items():
            rows = rows.filter(pl.col(name) == wanted)
        column = pl.col(value.column or _STUDY)
        none: int | bool | None
        match value.total:
            case Total.COUNT:
                total, none = pl.len(), 0
            case Total.SUM:
                total, none = pl.when(column.count() > 0).then(column.sum()), None
            case Total.ANY:
                total, none = column.is_in(value.values).fill_null(value=False).any(), False
            case Total.SINGLE:
                total, none = pl.len() == 1, False
        totals = rows.group_by(_STUDY).agg(total=total)
        own = pl.DataFrame({_STUDY: self._own.study})
        found = own.join(totals, on=_STUDY, how="left", maintain_order="left").get_column("total")
        return found if none is None else found.fill_null(none)


def _first_equal(
    theirs: tuple[pl.Series, Sequence[pl.Series]], ours: tuple[pl.Series, Sequence[pl.Series]]
) -> pl.Series:
    """For each of our rows the first of their rows that has the same study and equal columns.

    Columns become small whole numbers, and these one number for each row, so that a table of all
    such numbers leads from one row to the other: on group codes within outcomes this takes a third
    of the time of a join.
    """
    their_key, our_key = (key.to_numpy().astype(np.int64) for key in (theirs[0], ours[0]))
    # Studies ascend, so the last index is the highest.
    count = 1 + max((int(key[-1]) for key in (their_key, our_key) if len(key)), default=-1)
    for their, our in zip(theirs[1], ours[1], strict=True):
        their_code, our_code, codes = _coded(their.to_arrow(), our.to_arrow())
        if count * codes > _PLACES:
            # As few numbers as they have different ones, so that the product stays a number.
            their_key, our_key, count = _coded_anew(their_key, our_key)
        their_key = _joined(their_key, their_code, codes)
        our_key = _joined(our_key, our_code, codes)
        count *= codes
    if count > _PLACES:
        their_key, our_key, count = _coded_anew(their_key, our_key)
    # Of rows that are alike the first is the last to take the place; the last place is that of no key.
    places = np.full(count + 1, _NONE, np.int32)
    places[their_key[::-1]] = np.arange(len(their_key), dtype=np.int32)[::-1]
    places[_NONE] = _NONE
    rows = places[our_key]
    return series(pa.array(rows, pa.uint32(), mask=rows == _NONE))


def _joined(key: _Numbers, code: _Numbers, codes: int) -> _Numbers:
    """One number for each pair of two; none where one of them is none."""
    return np.where((key == _NONE) | (code == _NONE), _NONE, key * codes + code)


def _coded_anew(theirs: _Numbers, ours: _Numbers) -> tuple[_Numbers, _Numbers, int]:
    """The same with as few different numbers as they have."""
    arrays = [pa.array(one, mask=one == _NONE) for one in (theirs, ours)]
    return _coded(*arrays)


def _coded(theirs: pa.Array, ours: pa.Array) -> tuple[_Numbers, _Numbers, int]:
    """Values as numbers below the last of the three; none for NULL, and for what they do not have."""
    encoded = theirs.dictionary_encode()
    found = pc.index_in(ours, value_set=encoded.dictionary)
    codes = [pc.fill_null(one, _NONE).to_numpy() for one in (encoded.indices, found)]
    return codes[0].astype(np.int64), codes[1].astype(np.int64), len(encoded.dictionary)


def _match(
    ours: pl.DataFrame, theirs: pl.DataFrame, qualities: tuple[str, str, str, str]
) -> pl.DataFrame:
    """For each of our rows the id of the only one of theirs that agrees, and how it does."""

    def agreeing(text: pl.Expr) -> pl.LazyFrame:
        keyed = theirs.lazy().select("study", "id", text=text).filter(pl.col("text").is_not_null())
        found = keyed.group_by("study", "text").agg(pl.col("id").first(), several=pl.len() > 1)
        asked = ours.lazy().select("study", text=text)
        return asked.join(found, on=["study", "text"], how="left", maintain_order="left")

    text, several, id_ = pl.col("text"), pl.col("several"), pl.col("id")
    several_alike, id_alike = pl.col("several_alike"), pl.col("id_alike")
    exact, alike, ambiguous, none = map(pl.lit, qualities)
    by_text = agreeing(text).select("id", "several")
    by_words = agreeing(values.normalized(text)).select(id_alike="id", several_alike="several")
    quality = (
        pl.when(several)
        .then(ambiguous)
        .when(id_.is_not_null())
        .then(exact)
        .when(several_alike)
        .then(ambiguous)
        .when(id_alike.is_not_null())
        .then(alike)
        .otherwise(none)
    )
    return (
        pl.concat([by_text, by_words], how="horizontal")
        .with_columns(quality=quality)
        .select(
            "quality",
            id=pl.when(quality == exact).then(id_).when(quality == alike).then(id_alike),
        )
        .collect(optimizations=values.ONLY_SHARED)
    )
