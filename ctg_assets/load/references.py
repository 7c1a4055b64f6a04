"""Whether rows refer to rows that are there: the foreign keys of a load, looked at before Postgres has them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.load.row_diff import TableDelta
from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.spec import ColumnType, ForeignKey, TableShape
from ctg_assets.postgres.ddl import foreign_key_name
from ctg_assets.postgres.errors import LoadRejectedError, WholeLoadNeededError

_STUDY = "number of the study"


class BatchReferences:
    """Which foreign keys of a whole load are proved by its batches alone.

    A study's rows come in one batch. If each value of a referring column is NULL or the primary key of a
    row of the same batch, the constraint holds. Looking costs a fraction of what reading the tables once
    more does, and nothing is kept of a batch.
    """

    def __init__(self, shapes: Mapping[str, TableShape]) -> None:
        """Prove the foreign keys of these tables."""
        self._shapes = shapes
        self._unproved: set[tuple[str, ForeignKey]] = set()

    def add(self, batch: Mapping[str, pa.Table]) -> None:
        """Look at all rows of a batch; each table has its columns."""
        for name, rows in batch.items():
            for key in self._shapes[name].foreign_keys:
                found = (name, key)
                if found not in self._unproved and not self._is_proved(key, rows, batch):
                    self._unproved.add(found)

    def _is_proved(self, key: ForeignKey, rows: pa.Table, batch: Mapping[str, pa.Table]) -> bool:
        # Keys of several columns, of which there are none, are left to Postgres.
        if len(key.columns) > 1:
            return False
        references = rows.column(key.columns[0]).drop_null()
        if not len(references):
            return True
        if key.table not in batch:
            return False
        keys = batch[key.table].column(self._shapes[key.table].primary_key[0])
        # A value may become another one when it is cast; Arrow would cast one of the two silently.
        if keys.type != references.type:
            return False
        return bool(pc.all(pc.is_in(references, value_set=keys)).as_py())

    def proves(self, table: str, key: ForeignKey) -> bool:
        """Whether all rows so far have what they refer to, by this foreign key of a table, in their batch.

        If not, it may still hold: rows of other batches, or of the database, may be what is referred to.
        """
        return (table, key) not in self._unproved


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
