"""Other data models than the project's, for as long as a test needs them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from ctg_assets.model import dependencies, fields, tables
from ctg_assets.model.published import PublishedModel
from ctg_assets.model.tables import Table, declared_tables, staging_tables

Rows = list[dict[str, str]]

_DERIVED = (
    fields.enum_values,
    fields.field_tree,
    fields.nodes_by_path,
    fields.leaf_paths,
    fields.study_arrow_schema,
    staging_tables,
    dependencies.staging_digests,
)


@contextmanager
def changed_fields(change: Callable[[Rows], Rows]) -> Iterator[None]:
    """As if `fields.csv` held what `change` makes of its rows."""
    read = fields._rows

    def rows(file_name: str) -> Rows:
        return change(read(file_name)) if file_name == "fields.csv" else read(file_name)

    with patch.object(fields, "_rows", rows), _derived_anew():
        yield


@contextmanager
def learned(published: PublishedModel) -> Iterator[None]:
    """As if the model had been learned from this."""
    files = {"fields.csv": published.fields_csv(), "enums.csv": published.enums_csv()}

    def rows(file_name: str) -> Rows:
        return list(csv.DictReader(files[file_name].splitlines()))

    with patch.object(fields, "_rows", rows), _derived_anew():
        yield


@contextmanager
def changed_tables(change: Callable[[list[Table]], list[Table]]) -> Iterator[None]:
    """As if the tables were declared as `change` makes of them."""
    changed = tuple(change(list(declared_tables())))
    with patch.object(tables, "declared_tables", lambda: changed), _derived_anew():
        yield


@contextmanager
def _derived_anew() -> Iterator[None]:
    for derived in _DERIVED:
        derived.cache_clear()
    try:
        yield
    finally:
        for derived in _DERIVED:
            derived.cache_clear()
