"""Readings: how columns are made of what the registry sent, each a function with its type.

A reading is named where a column is declared: `Read(path, readings.last_day)`. To add one, write a
function of `values.py` and declare it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
import pyarrow as pa

from ctg_assets.model import values
from ctg_assets.model.spec import ColumnType


@dataclass(frozen=True)
class Condition:
    """Holds where the value at `path` is `value` (or, with `negated`, where it is not, NULL included)."""

    path: str
    value: str
    negated: bool = False


@dataclass(frozen=True)
class Beside:
    """Values that were written together: at `paths` below the item that `item` (`^`, `^^` …) leads to."""

    item: str
    paths: tuple[str, ...]


class SentValues(Protocol):
    """What was sent for the rows that a reading is computed for, by full paths of the field tree."""

    def at(self, path: str) -> pl.Expr:
        """The values at a path."""

    def count(self, path: str) -> pl.Expr:
        """The numbers of items that the lists at a path have; NULL where there is no list."""

    def nct_id(self) -> pl.Expr:
        """The NCT ids of the studies."""

    def number(self, path: str, part: str, beside: Beside | None, *, whole: bool) -> pl.Expr:
        """A part of what `values.numbers` makes of the texts at a path, in the light of those beside."""


@dataclass(frozen=True)
class Reading:
    """How a column's value is made of what was sent; a missing value gives NULL unless said otherwise.

    `compute` gives the values for a path that the source has. `type` is the column's; None: whatever
    it declares. `problem` says why values of the Arrow type sent cannot be read so into the Arrow type
    wanted; None if they can. Readings `of_list` read a whole list, others one value a row. `is_total`
    ones are NULL only where nothing was sent, and those that `fill` give their argument there. `copies`
    says that what was sent is not changed. Readings are told apart by their names.
    """

    name: str
    type: ColumnType | None
    compute: Callable[[SentValues, str, Read], pl.Expr] = field(compare=False)
    problem: Callable[[pa.DataType, pa.DataType, Read], str | None] = field(compare=False)
    of_list: bool = False
    is_total: bool = False
    fills: bool = False
    copies: bool = False

    def __repr__(self) -> str:
        """The name: digests of tables must not change from one process to the next."""
        return self.name


def _as_sent(sent: pa.DataType, wanted: pa.DataType, _: Read) -> str | None:
    return None if sent == wanted else f"holds {sent}"


def _only_text(sent: pa.DataType, _wanted: pa.DataType, _read: Read) -> str | None:
    return None if sent == pa.string() else "is not text"


def _only_whole_numbers(sent: pa.DataType, _wanted: pa.DataType, _read: Read) -> str | None:
    return None if pa.types.is_integer(sent) else "is not a whole number"


def _only_with_part(sent: pa.DataType, _: pa.DataType, read: Read) -> str | None:
    names = [part.name for part in sent] if pa.types.is_struct(sent) else []
    return None if read.argument in names else f"has no part {read.argument!r}"


def _only_text_of_number(sent: pa.DataType, wanted: pa.DataType, read: Read) -> str | None:
    if read.argument not in {None, "value", "qualifier", "status"}:
        return f"has no part {read.argument!r} of a number"
    return _only_text(sent, wanted, read)


def _of_text(
    function: Callable[[pl.Expr], pl.Expr],
    type: ColumnType,  # noqa: A002 - what Reading calls it
    *,
    of_list: bool = False,
    is_total: bool = False,
    copies: bool = False,
) -> Reading:
    """A reading by a function of the text sent."""
    return Reading(
        function.__name__,
        type,
        lambda sent, path, _: function(sent.at(path)),
        _only_text,
        of_list=of_list,
        is_total=is_total,
        copies=copies,
    )


as_sent = Reading(
    "as_sent", None, lambda sent, path, _: sent.at(path), _as_sent, is_total=True, copies=True
)
"""As sent."""

or_else = Reading(
    "or_else",
    ColumnType.TEXT,
    lambda sent, path, read: sent.at(path).fill_null(read.argument),
    _only_text,
    fills=True,
)
"""As sent, or the argument where nothing was sent."""

lower = _of_text(values.lower, ColumnType.TEXT, is_total=True)
first_day = _of_text(values.first_day, ColumnType.DATE)
last_day = _of_text(values.last_day, ColumnType.DATE)
unless_day = _of_text(values.unless_day, ColumnType.TEXT)
precision = _of_text(values.precision, ColumnType.TEXT)
year = _of_text(values.year, ColumnType.INTEGER)
timestamp = _of_text(values.timestamp, ColumnType.LOCAL_TIMESTAMP)
day_of_timestamp = _of_text(values.day_of_timestamp, ColumnType.DATE)
years = _of_text(values.years, ColumnType.DOUBLE)
days = _of_text(values.days, ColumnType.DOUBLE)
age_number = _of_text(values.age_number, ColumnType.INTEGER)
age_unit = _of_text(values.age_unit, ColumnType.TEXT)
kind_of_label = _of_text(values.kind_of_label, ColumnType.TEXT)
name_of_label = _of_text(values.name_of_label, ColumnType.TEXT)
joined = _of_text(values.joined, ColumnType.TEXT, of_list=True, copies=True)

contains = Reading(
    "contains",
    ColumnType.BOOLEAN,
    lambda sent, path, read: values.contains(sent.at(path), str(read.argument)),
    _only_text,
    of_list=True,
)
"""Whether a list contains the argument."""

count = Reading(
    "count",
    ColumnType.INTEGER,
    lambda sent, path, _: sent.count(path),
    lambda _sent, _wanted, _read: None,
    of_list=True,
)
"""Number of items of a list."""

equals = Reading(
    "equals",
    ColumnType.BOOLEAN,
    lambda sent, path, read: sent.at(path) == read.argument,
    _only_whole_numbers,
)
"""Whether the value equals the argument."""

part = Reading(
    "part",
    ColumnType.DOUBLE,
    lambda sent, path, read: sent.at(f"{path}.{read.argument}"),
    _only_with_part,
)
"""The part of a composite leaf (GeoPoint) that the argument names."""

document_url = Reading(
    "document_url",
    ColumnType.TEXT,
    lambda sent, path, _: values.document_url(sent.nct_id(), sent.at(path)),
    _only_text,
)
"""The web address of a document by its file name."""


def _number(name: str, *, whole: bool) -> Reading:
    return Reading(
        name,
        None,
        lambda sent, path, read: sent.number(
            path, str(read.argument or "value"), read.beside, whole=whole
        ),
        _only_text_of_number,
    )


number = _number("number", whole=False)
"""The part (`value`, `qualifier`, `status`) of a number sent as text that the argument names."""

whole_number = _number("whole_number", whole=True)
"""As `number`, of a whole number."""


@dataclass(frozen=True)
class Read:
    """A value read from the study at `path`, relative to the row; NULL where `when` does not hold.

    A number may be read in the light of those `beside` it: where they have decimal commas, a comma
    that may mean two things is not read as standing between thousands.
    """

    path: str
    reading: Reading = as_sent
    argument: str | int | None = None
    when: Condition | None = None
    beside: Beside | None = None
