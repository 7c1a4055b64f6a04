"""Whether new rows refer to new rows: the foreign keys of a delta."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from ctg_assets.load.row_diff import TableDelta
from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.spec import ColumnType, ForeignKey
from ctg_assets.postgres.ddl import foreign_key_name
from ctg_assets.postgres.errors import LoadRejectedError, WholeLoadNeededError

_STUDY = "number of the study"


class References:
    """The keys of rows that others may refer to, as they come in; 16 bytes for most."""

    def __init__(self, tables: Mapping[str, TableDelta]) -> None:
        """Check the foreign keys of these tables.

        Raises WholeLoadNeededError if a row that stays could refer to one that is replaced.
        """
        self._tables = tables
        self._keys: dict[str, list[pl.DataFrame]] = {
            key.table: [] for table in tables.values() for key in table.shape.foreign_keys
        }
        for table in tables.values():
            for key in table.shape.foreign_keys:
                _require_together(table, key, tables.get(key.table))

    def add(self, batch: Mapping[str, pa.Table]) -> None:
        """Take new rows.

        What rows refer to comes with them or before them. A row belongs to the study that its key says,
        and may refer to rows of its own study only. Raises LoadRejectedError if a reference leads
        nowhere.
        """
        for name, rows in batch.items():
            if name in self._keys:
                table = self._tables[name]
                self._keys[name].append(_keyed(table, rows, table.shape.primary_key))
        for name, rows in batch.items():
            for key in self._tables[name].shape.foreign_keys:
                self._check(self._tables[name], key, rows)

    def _check(self, table: TableDelta, key: ForeignKey, rows: pa.Table) -> None:
        parent = self._tables[key.table]
        own = [] if table.first is not None else [_STUDY]
        here, there = [*key.columns, *own], [*parent.shape.primary_key, *own]
        # NULL refers to nothing.
        missing = _keyed(table, rows, key.columns).drop_nulls()
        for found in reversed(self._keys[key.table]):
            missing = missing.join(found, left_on=here, right_on=there, how="anti")
        if missing.height:
            shown = ", ".join(map(str, missing.select(key.columns).row(0)))
            message = (
                f"checking the references of {table.name}: foreign key "
                f"{foreign_key_name(table.shape, key)} is violated: ({', '.join(key.columns)})="
                f"({shown}) is not present in the new rows of {key.table} for the same study"
            )
            raise LoadRejectedError(message)


def _require_together(table: TableDelta, key: ForeignKey, parent: TableDelta | None) -> None:
    if (
        parent is None
        or parent.first != table.first
        or (table.first is not None and key.columns[0] != table.key.name)
    ):
        message = (
            f"a change in place cannot check {foreign_key_name(table.shape, key)}: rows of "
            f"{table.name} and {key.table} are not replaced together. Load all tables."
        )
        raise WholeLoadNeededError(message)


def _keyed(table: TableDelta, rows: pa.Table, columns: tuple[str, ...]) -> pl.DataFrame:
    """Some columns of rows and the number of the study that each belongs to, by its own key."""
    frame = pl.DataFrame(rows.select(list(dict.fromkeys([*columns, table.key.name]))))
    key = pl.col(table.key.name)
    is_text = table.key.type is ColumnType.TEXT
    study = key.str.slice(3).cast(pl.Int64) if is_text else key // ROWS_PER_STUDY
    return frame.select(*columns, study.alias(_STUDY))
