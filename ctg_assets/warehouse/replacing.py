"""The rows that a delta replaces: finding them without reading the others, and writing what differs.

Belongs here: which rows of a table belong to the changed studies, checking what the new ones refer to,
and putting them in the place of the old ones. Does not belong here: when that happens (`delta.py`).

The new rows lie in temporary tables of the same names. Most rows of a changed study are as they were, so
rows are compared, and only those that differ are deleted and inserted: a page that is not written needs no
WAL, and rows that stay keep the order which block range indexes live on.

The tables are entered from the list of changed studies by a primary key's B-tree, so the cost is that of
the rows found. The planner has to be made to do so: it takes a range between two columns for a two
hundredth of the table, however narrow it is. Hence `OFFSET 0`, which it does not look behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.warehouse.connection import Connection
from ctg_assets.warehouse.ddl import foreign_key_name
from ctg_assets.warehouse.errors import LoadRejectedError, WholeLoadNeededError

NEW_ROWS = "pg_temp"
"""The schema of the new rows: that of the session's temporary tables."""

CHANGED = sql.Identifier(NEW_ROWS, "ctg_assets changed studies")
"""The table of changed studies: `nct_id`, and the range of keys that rows of theirs have."""

_SCANS = ("seqscan", "bitmapscan", "hashjoin", "mergejoin")


class ChangedStudies:
    """The studies whose rows are replaced."""

    def __init__(self, nct_ids: Collection[str]) -> None:
        self.nct_ids = sorted(set(nct_ids))
        self._numbers = [int(nct_id.removeprefix("NCT")) for nct_id in self.nct_ids]

    def write(self, connection: Connection) -> None:
        """Put them into a table of the session that is there until the transaction ends."""
        connection.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE {} (nct_id text PRIMARY KEY, first_id bigint NOT NULL,"
                " last_id bigint NOT NULL) ON COMMIT DROP"
            ).format(CHANGED)
        )
        statement = sql.SQL("COPY {} FROM STDIN").format(CHANGED)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for nct_id, number in zip(self.nct_ids, self._numbers, strict=True):
                first = number * ROWS_PER_STUDY
                copy.write_row((nct_id, first, first + ROWS_PER_STUDY - 1))
        connection.execute(sql.SQL("ANALYZE {}").format(CHANGED))

    def holds_row_ids(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Whether each is the key of a row of one of them."""
        numbers = pa.array(self._numbers, pa.int64())
        return pc.is_in(pc.divide(ids, ROWS_PER_STUDY), value_set=numbers)

    def holds_nct_ids(self, nct_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Whether each is one of them."""
        return pc.is_in(nct_ids, value_set=pa.array(self.nct_ids, pa.string()))


@dataclass(frozen=True)
class Replacement:
    """A table, and which of its rows a delta replaces.

    `first` is the first key that is replaced in a table to which changes are appended; a table of
    studies has None.
    """

    shape: TableShape
    schema: str
    first: int | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return self.shape.name

    @property
    def key(self) -> Column:
        """The first column of the primary key, by which rows are found."""
        name = self.shape.primary_key[0]
        return next(column for column in self.shape.columns if column.name == name)

    @property
    def _from(self) -> sql.Composable:
        """What `c` is in queries: the changed studies, or for appended rows one row for them all."""
        return CHANGED if self.first is None else sql.SQL("(VALUES (0))")

    def _finds(self, alias: str) -> sql.Composed:
        """The condition that a row of the table, under a name, is replaced for `c`."""
        column = sql.Identifier(alias, self.key.name)
        if self.first is not None:
            return sql.SQL("{} >= {}").format(column, sql.Literal(self.first))
        if self.key.type is ColumnType.TEXT:
            return sql.SQL("{} = c.nct_id").format(column)
        return sql.SQL("{} BETWEEN c.first_id AND c.last_id").format(column)

    def require_own(self, rows: pa.Table, changed: ChangedStudies) -> None:
        """Raise LoadRejectedError unless all of these new rows are such as would be replaced."""
        keys = rows.column(self.key.name).drop_null()
        if self.first is not None:
            fits = pc.greater_equal(keys, self.first)
        elif self.key.type is ColumnType.TEXT:
            fits = changed.holds_nct_ids(keys)
        else:
            fits = changed.holds_row_ids(keys)
        strange = keys.filter(pc.invert(fits))
        if len(strange):
            message = (
                f"{len(strange)} rows for {self.schema}.{self.name} are not among what is replaced, "
                f"such as the one with {self.key.name} {strange[0]}; name all changed studies"
            )
            raise LoadRejectedError(message)

    def require_checkable(self, tables: Mapping[str, Replacement]) -> None:
        """Raise WholeLoadNeededError if a row that stays could refer to one that is replaced."""
        for key in self.shape.foreign_keys:
            parent = tables.get(key.table)
            if (
                parent is None
                or parent.first != self.first
                or (self.first is not None and key.columns[0] != self.key.name)
            ):
                message = (
                    f"a change in place cannot check {foreign_key_name(self.shape, key)}: rows of "
                    f"{self.name} and {key.table} are not replaced together. Load all tables."
                )
                raise WholeLoadNeededError(message)

    def _study_of(self, alias: str) -> sql.Composed:
        """The number of the study that a row of the table, under a name, belongs to."""
        if self.key.type is ColumnType.TEXT:
            return sql.SQL("substr({}, 4)::bigint").format(sql.Identifier(alias, self.key.name))
        return sql.SQL("{} / {}").format(
            sql.Identifier(alias, self.key.name), sql.Literal(ROWS_PER_STUDY)
        )

    def check_references(self, connection: Connection, tables: Mapping[str, Replacement]) -> None:
        """Raise LoadRejectedError unless new rows refer to new rows of their own study.

        Appended ones refer to rows appended with them.
        """
        keys = {
            f"p{number}": (key, tables[key.table])
            for number, key in enumerate(self.shape.foreign_keys)
        }
        if not keys:
            return
        missing, joins = [], []
        for alias, (key, parent) in keys.items():
            columns = [sql.Identifier("t", column) for column in key.columns]
            found = sql.Identifier(alias, parent.key.name)
            conditions = [
                sql.SQL("{} = {}").format(sql.Identifier(alias, name), column)
                for name, column in zip(parent.shape.primary_key, columns, strict=True)
            ]
            if self.first is None:
                conditions.append(
                    sql.SQL("{} = {}").format(parent._study_of(alias), self._study_of("t"))
                )
            joins.append(
                sql.SQL("LEFT JOIN {} AS {} ON {}").format(
                    sql.Identifier(NEW_ROWS, parent.name), sql.Identifier(alias), _all(conditions)
                )
            )
            missing.append(
                sql.SQL("min(concat_ws(', ', {})) FILTER (WHERE {} AND {} IS NULL)").format(
                    sql.SQL(", ").join(columns),
                    _all([sql.SQL("{} IS NOT NULL").format(column) for column in columns]),
                    found,
                )
            )
        values = connection.execute(
            sql.SQL("SELECT {} FROM {} AS t {}").format(
                sql.SQL(", ").join(missing),
                sql.Identifier(NEW_ROWS, self.name),
                sql.SQL(" ").join(joins),
            )
        ).fetchone()
        for (key, _), value in zip(keys.values(), values or (), strict=True):
            if value is not None:
                message = (
                    f"checking the references of {self.name}: foreign key "
                    f"{foreign_key_name(self.shape, key)} is violated: ({', '.join(key.columns)})="
                    f"({value}) is not present in the new rows of {key.table} for the same study"
                )
                raise LoadRejectedError(message)

    def read_old(self, connection: Connection) -> None:
        """Read the rows that would be replaced, for nothing but to have their pages in memory."""
        # Whole rows, so that neither the index alone is read nor long texts are left out.
        connection.execute(
            sql.SQL("SELECT count(t.*) FROM {} AS c JOIN {} AS t ON {}").format(
                self._from, sql.Identifier(self.schema, self.name), self._finds("t")
            )
        )

    def replace(self, connection: Connection) -> tuple[int, int]:
        """Make the table's rows those that are new; returns how many were deleted and inserted."""
        columns = [column.name for column in self.shape.columns]
        names = {
            "table": sql.Identifier(self.schema, self.name),
            "new": sql.Identifier(NEW_ROWS, self.name),
            "changed": self._from,
            "finds": self._finds("t"),
            "same_key": _all(
                [
                    sql.SQL("{} = {}").format(sql.Identifier("n", name), sql.Identifier("t", name))
                    for name in self.shape.primary_key
                ]
            ),
            "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
            "key": sql.SQL(", ").join(map(sql.Identifier, self.shape.primary_key)),
            "of_t": sql.SQL(", ").join(sql.Identifier("t", name) for name in columns),
            "of_n": sql.SQL(", ").join(sql.Identifier("n", name) for name in columns),
        }
        # Bytes are compared: json has no other equality.
        deleted = connection.execute(
            sql.SQL(
                """
                DELETE FROM {table} AS t USING {changed} AS c
                WHERE {finds} AND NOT EXISTS (
                    SELECT FROM {new} AS n
                    WHERE {same_key} AND record_image_eq(ROW({of_n}), ROW({of_t})) OFFSET 0
                )
                """
            ).format(**names)
        ).rowcount
        inserted = connection.execute(
            sql.SQL(
                """
                INSERT INTO {table} ({columns})
                SELECT {columns} FROM {new} AS n
                WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same_key} OFFSET 0)
                ORDER BY {key}
                """
            ).format(**names)
        ).rowcount
        return deleted, inserted


def _all(conditions: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(" AND ").join(conditions)


@contextlib.contextmanager
def by_key(connection: Connection) -> Iterator[None]:
    """Let queries of the current transaction go by keys, never through whole tables."""
    for scan in _SCANS:
        connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(f"enable_{scan}")))
    yield
    for scan in _SCANS:
        connection.execute(sql.SQL("SET LOCAL {} = on").format(sql.Identifier(f"enable_{scan}")))
