"""Writing past months of a monthly fact by the SQL that writes the current one.

What the fact says of a study depends on the study's content alone. So each content is loaded and
summed up once, however many months it was current in; a month then picks its contents' rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from psycopg import sql

from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.builds import LOAD_INFO, BuildRecord, load_info_row, note_rewritten
from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.postgres.copying import copy_rows
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.ownership import find_relations, require_own_relations
from ctg_assets.postgres.sessions import session

TEMPORARY = "pg_temp"
"""The schema in which a session has its temporary tables; they go when it ends."""

_CONTENTS_THEN = TableShape(
    name="contents_then",
    description="The contents that were current in a month.",
    columns=(
        Column("nct_id", ColumnType.TEXT, "The study.", nullable=False),
        Column("content_hash", ColumnType.TEXT, "Its content.", nullable=False),
    ),
    primary_key=("nct_id",),
)
_EVERY_CONTENT = "every_content"


@dataclass(frozen=True)
class MonthlyTable:
    """A table of rows by month: its name, as quoted in its schema, columns, and SQL of the current month's rows.

    Among the columns is `snapshot_month`. The SQL finds what it reads in TEMPORARY.
    """

    name: str
    relation: str
    columns: tuple[str, ...]
    sql: str


@dataclass(frozen=True)
class MonthlyModels:
    """A monthly fact, the list of its months, and what both are made from.

    `views` lie on the staging tables, by name. `study_sql` gives one row a study, with `nct_id` and
    `content_hash`, to what the fact reads as `study_name`. Both find what they read in TEMPORARY.
    """

    fact: MonthlyTable
    months: MonthlyTable
    views: Mapping[str, str]
    study_name: str
    study_sql: str


@dataclass(frozen=True)
class ReplacedMonth:
    """How many rows a month had, and how many it has now."""

    rows_before: int
    rows: int


def month_of_next_build(
    address: PostgresAddress, models: MonthlyModels, live_sql: str
) -> date | None:
    """The month of a fact that its next build will write; None if it will write no row.

    `live_sql` is the fact's SQL as it is built. Raises PermanentWarehouseError when it was never built,
    ForeignObjectError when the table is somebody else's.
    """
    statement = f"SELECT snapshot_month FROM ({live_sql}) AS made LIMIT 1"  # noqa: S608 - dbt's SQL
    with session(address) as connection, postgres_errors("asking for the current month"):
        for relation in (models.fact.relation, models.months.relation):
            if connection.execute("SELECT to_regclass(%s)", [relation]).fetchone() == (None,):
                message = f"{relation} is not there yet; `ctg-assets refresh` builds it"
                raise PermanentWarehouseError(message)
        ensure_meta(connection)
        marts = address.schemas.marts
        require_own_relations(connection, marts, [models.fact.name, models.months.name])
        found = connection.execute(statement).fetchone()
    return None if found is None else found[0]


def remove_days(
    address: PostgresAddress, *, facts: str, months: str, days: Collection[date]
) -> dict[date, int]:
    """Remove the months whose rows are of certain days from two marts: the fact and the list of months.

    Returns how many rows of the fact each had. Raises ForeignObjectError when one of the marts is somebody
    else's; marts that are not built yet have no months.
    """
    schema = address.schemas.marts
    relations = [sql.Identifier(schema, name) for name in (facts, months)]
    removed: dict[date, int] = {}
    with session(address) as connection, postgres_errors("removing months"):
        ensure_meta(connection)
        require_own_relations(connection, schema, [facts, months])
        if len(find_relations(connection, schema, [facts, months])) < len(relations):
            return {}
        with connection.transaction():
            lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
            # In the order of those who rebuild months.
            for relation in reversed(relations):
                connection.execute(lock.format(relation))
            found = connection.execute(
                sql.SQL("DELETE FROM {} WHERE data_date = ANY(%s) RETURNING snapshot_month").format(
                    relations[1]
                ),
                [list(days)],
            ).fetchall()
            for (month,) in sorted(found):
                removed[month] = connection.execute(
                    sql.SQL("DELETE FROM {} WHERE snapshot_month = %s").format(relations[0]),
                    [month],
                ).rowcount
            if removed:
                note_rewritten(connection, (facts, months))
    return removed


@contextmanager
def past_months(
    address: PostgresAddress, models: MonthlyModels, tables: Sequence[TableShape]
) -> Iterator[PastMonths]:
    """A session in which past months can be written; `tables` are what studies are loaded into."""
    with session(address) as connection:
        months = PastMonths(connection, models, tables)
        with postgres_errors("preparing to rebuild months"), connection.transaction():
            months.prepare()
        yield months


class PastMonths:
    """Writes past months: first `add` all contents, then `replace` months."""

    def __init__(
        self, connection: Connection, models: MonthlyModels, tables: Sequence[TableShape]
    ) -> None:
        """Work in the session of a connection (see `past_months`)."""
        self._connection = connection
        self._models = models
        self._tables = {shape.name: shape for shape in tables}

    def prepare(self) -> None:
        """Make the temporary tables and views."""
        execute = self._connection.execute
        for shape in (*self._tables.values(), LOAD_INFO, _CONTENTS_THEN):
            execute(ddl.create_table(shape, TEMPORARY))
        for name, query in self._models.views.items():
            execute(f'CREATE TEMPORARY VIEW "{name}" AS {query}')
        execute(
            f"CREATE TEMPORARY TABLE {_EVERY_CONTENT} AS "  # noqa: S608 - dbt's SQL
            f"SELECT * FROM ({self._models.study_sql}) AS made WITH NO DATA"
        )
        execute(
            f'CREATE TEMPORARY VIEW "{self._models.study_name}" AS '  # noqa: S608 - our own names
            f"SELECT made.* FROM {TEMPORARY}.{_EVERY_CONTENT} AS made "
            f"INNER JOIN {TEMPORARY}.{_CONTENTS_THEN.name} AS current USING (nct_id, content_hash)"
        )

    def add(self, rows: Mapping[str, pa.Table]) -> None:
        """Take the rows of some contents, by table; of each study one content at a time.

        Raises LoadRejectedError for rows that the database does not accept.
        """
        with postgres_errors("loading older contents"), self._connection.transaction():
            for name, table in rows.items():
                self._fill(self._tables[name], table)
            self._connection.execute(
                f"INSERT INTO {TEMPORARY}.{_EVERY_CONTENT} "  # noqa: S608 - dbt's SQL
                f"SELECT * FROM ({self._models.study_sql}) AS made"
            )

    def replace(self, month: date, observed_at: datetime, contents: pa.Table) -> ReplacedMonth:
        """Write a month by what was current at its last observation, in one transaction.

        `contents` have `nct_id` and `content_hash`. Other months are left alone. Readers see the old
        month or the new one and never wait; other writers of the fact do.
        """
        info = BuildRecord(
            snapshot_id=f"as of {observed_at:%Y-%m-%dT%H:%M:%S}",
            content_fingerprint="",
            model_fingerprint="",
            data_timestamp=observed_at,
            studies=contents.num_rows,
            tables={},
        )
        with postgres_errors(f"rebuilding {month:%Y-%m}"), self._connection.transaction():
            execute = self._connection.execute
            self._fill(LOAD_INFO, load_info_row(info, every_table=True, number=None))
            self._fill(_CONTENTS_THEN, contents.cast(_CONTENTS_THEN.arrow_schema))
            execute(f"ANALYZE {TEMPORARY}.{_EVERY_CONTENT}, {TEMPORARY}.{_CONTENTS_THEN.name}")
            note_rewritten(self._connection, (self._models.fact.name, self._models.months.name))
            self._rewrite(self._models.months, month)
            return self._rewrite(self._models.fact, month)

    def _rewrite(self, table: MonthlyTable, month: date) -> ReplacedMonth:
        columns = ", ".join(f'"{name}"' for name in table.columns)
        execute = self._connection.execute
        # Two that delete a month at once would both insert it.
        execute(f"LOCK TABLE {table.relation} IN SHARE ROW EXCLUSIVE MODE")
        before = execute(
            f"DELETE FROM {table.relation} WHERE snapshot_month = %s",  # noqa: S608
            [month],
        ).rowcount
        after = execute(
            f"INSERT INTO {table.relation} ({columns}) "  # noqa: S608 - dbt's SQL
            f"SELECT {columns} FROM ({table.sql}) AS made"
        ).rowcount
        return ReplacedMonth(rows_before=before, rows=after)

    def _fill(self, shape: TableShape, rows: pa.Table) -> None:
        name = sql.Identifier(TEMPORARY, shape.name)
        self._connection.execute(sql.SQL("TRUNCATE {}").format(name))
        statement = ddl.copy_rows(shape, TEMPORARY, freeze=True)
        copy_rows(self._connection, statement, rows, into=shape.name)
