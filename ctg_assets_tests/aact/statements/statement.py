"""What a statement is, and the shapes of use that there must be statements of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from ctg_assets_tests.aact.from_json import Registry

Rows = list[tuple[Any, ...]]
Answer = Callable[[Registry], Rows]

SHAPES = frozenset(
    {
        "count distinct",
        "coalesce",
        "lower",
        "ILIKE",
        "LIKE",
        "~",
        "~*",
        "string_agg",
        "array_agg",
        "json_agg",
        "row_to_json",
        "FILTER",
        "percentiles",
        "windows",
        "LATERAL",
        "date_part",
        "extract",
        "date_trunc",
        "TABLESAMPLE",
        "COPY",
        "temporary table",
        "temporary view",
        "view in ctgov",
        "materialized view in ctgov",
        "table in ctgov",
        "round of numeric",
        "round of average",
        "ages split and cast",
        "first by lowest id",
        "mixed-case identifiers",
        "SELECT *",
        "UNION by position",
        "INSERT by position",
        "database named",
        "join on nct_id",
        "join by id",
        "calculated_values",
        "mesh_type",
        "countries.removed",
        "sums of events",
        "anti-join",
        "all_* views",
        "functions",
        "saved searches",
        "information_schema",
        "pg_tables",
        "keys in the catalog",
        "pg_stats",
        "row estimates",
        "pg_matviews",
        "psql",
        "R: dbListTables",
        "R: dbplyr",
        "DuckDB",
        "old labels",
    }
)
"""The census of how AACT is used, by shape."""


@dataclass(frozen=True)
class Statement:
    """A statement, the shapes of use it stands for, and the function that gives the answer it must have.

    Several statements with semicolons run as one; the answer is that of the last. `is_ordered` asks for
    the rows in this order. It is run by the role that only reads, or `as_owner`.
    """

    sql: str
    shapes: tuple[str, ...]
    answer: Answer
    is_ordered: bool
    as_owner: bool

    @property
    def name(self) -> str:
        """The name of the function that works out the answer."""
        return self.answer.__name__


class Statements(list[Statement]):
    """The statements of a module."""

    def ask(
        self, sql: str, *shapes: str, ordered: bool = False, as_owner: bool = False
    ) -> Callable[[Answer], Answer]:
        """Take the decorated function as what works out the answer of this statement."""
        assert SHAPES.issuperset(shapes), set(shapes) - SHAPES

        def take(answer: Answer) -> Answer:
            self.append(Statement(sql, shapes, answer, ordered, as_owner))
            return answer

        return take


def rounded(value: Decimal | int, places: int = 0) -> Decimal:
    """A number to so many places, halves away from zero."""
    return Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def mean(values: Iterable[Decimal | int]) -> Decimal:
    """The average of numbers, of which there are some."""
    numbers = [Decimal(value) for value in values]
    return sum(numbers, Decimal(0)) / len(numbers)


def percentile(values: Iterable[int], fraction: float) -> float:
    """The value below which a fraction of the numbers lies, between two of them where it falls there."""
    numbers = sorted(values)
    place = fraction * (len(numbers) - 1)
    low = int(place)
    high = min(low + 1, len(numbers) - 1)
    return numbers[low] + (place - low) * (numbers[high] - numbers[low])
