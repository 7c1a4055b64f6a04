"""Where the rows of the staging tables come from: all sources, and the tables that they fill."""

from __future__ import annotations

from ctg_assets.load.former_studies import FormerStudies
from ctg_assets.load.history_rows import HistoryOfStudies, PastContents
from ctg_assets.load.row_source_protocol import RowSource
from ctg_assets.load.study_rows import FlattenedStudies, UnmodelledValues
from ctg_assets.model.spec import TableShape


def row_sources() -> tuple[RowSource, ...]:
    """All sources; a table comes after every table that it refers to."""
    former = FormerStudies()
    return (
        *(FlattenedStudies(former), UnmodelledValues()),
        *(HistoryOfStudies(), PastContents(former)),
    )


def staging_shapes() -> tuple[TableShape, ...]:
    """All tables of the data model as the database sees them; referenced ones first."""
    return tuple(shape for source in row_sources() for shape in source.shapes)


def study_shapes() -> tuple[TableShape, ...]:
    """The tables that say how studies are, not how they came to be; referenced ones first."""
    return (*FlattenedStudies().shapes, *UnmodelledValues.shapes)
