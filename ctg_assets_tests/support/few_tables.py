"""A tenth of the tables: 72 cost releases and engines 10 ms of CPU each, at every step, rows or none.

Soaks, and so CI, have all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ctg_assets.load.row_source_protocol import RowSource
from ctg_assets.load.row_sources import row_sources
from ctg_assets.load.study_rows import FlattenedStudies
from ctg_assets.model.spec import TableShape
from ctg_assets_tests.soak import SHARE

# Some with rows in the studies that tests make, some without; those that the queries of docs/warehouses.md are about.
_CHOSEN = frozenset(
    {
        "browse_conditions",
        "conditions",
        "design_outcomes",
        "designs",
        "facilities",
        "keywords",
        "sponsors",
        "studies",
        "violation_events",
    }
)
_WHERE = (
    "ctg_assets.load.clickhouse.following",
    "ctg_assets.release.staging_tables",
    "ctg_assets_tests.release.released",
)


def chosen_sources() -> tuple[RowSource, ...]:
    """The sources of all tables, in a soak; else of the chosen ones, and of those not made by flattening."""
    if SHARE:
        return row_sources()
    flattened = FlattenedStudies()
    flattened.shapes = tuple(shape for shape in flattened.shapes if shape.name in _CHOSEN)
    assert len(flattened.shapes) == len(_CHOSEN)
    return (flattened, *row_sources()[1:])


def chosen_shapes() -> tuple[TableShape, ...]:
    """Their tables."""
    return tuple(shape for source in chosen_sources() for shape in source.shapes)


@contextmanager
def few_tables() -> Iterator[None]:
    """Have releases and ClickHouse, and what tests expect of them, be about these tables alone."""
    if SHARE:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for module in _WHERE:
            patch.setattr(f"{module}.row_sources", chosen_sources)
        for module in _WHERE[:2]:
            patch.setattr(f"{module}.staging_shapes", chosen_shapes)
        yield
