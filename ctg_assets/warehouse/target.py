"""The schemas that loads fill: staging, and others that hold the tables as they once were.

Belongs here: which schema a load may replace tables in, and what goes with its name. Does not belong
here: the load itself (`loader.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from ctg_assets.warehouse.connection import Connection
from ctg_assets.warehouse.ddl import NAME_BYTES, STAGING, object_name
from ctg_assets.warehouse.errors import PermanentWarehouseError
from ctg_assets.warehouse.meta import META

# Schemas with a purpose of their own.
_TAKEN = frozenset(
    {STAGING, "staging_views", "intermediate", "marts", META, "public", "information_schema"}
)

_MARK = "Tables made by ctg_assets; the next load into this schema replaces them."


@dataclass(frozen=True)
class Target:
    """A schema whose tables are replaced by newer ones, and all that is named after it."""

    schema: str = STAGING

    @property
    def next_schema(self) -> str:
        """Where the new tables are prepared."""
        return object_name(self.schema, "next")

    @property
    def lock_name(self) -> str:
        """What loads into this schema lock, so that there is one at a time."""
        return "ctg_assets load" if self.is_staging else f"ctg_assets load into {self.schema}"

    @property
    def is_staging(self) -> bool:
        """Whether marts are built from it."""
        return self.schema == STAGING

    def claim(self, connection: Connection) -> None:
        """Make the schema unless it is there.

        Raises PermanentWarehouseError when it is somebody else's: its name has another purpose, or it
        holds tables or views and no mark of ours.
        """
        if not self.is_staging:
            self.require_free_name()
            self._require_no_strangers(connection)
        self._create(connection, self.schema)

    def create_next(self, connection: Connection) -> None:
        """Make the schema in which new tables are prepared."""
        self._create(connection, self.next_schema)

    def _create(self, connection: Connection, schema: str) -> None:
        name = sql.Identifier(schema)
        with connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
            if not self.is_staging:
                mark = sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, sql.Literal(_MARK))
                connection.execute(mark)

    def require_free_name(self) -> None:
        """Raise PermanentWarehouseError when the name has a purpose of its own, or cannot be a name.

        Names that differ from a taken one in case, spaces or quotes only are refused as well: whoever
        writes such a name means the taken one, or will be taken to.
        """
        meant = self.schema.strip("\"'` \t\n").casefold()
        taken = _TAKEN | {Target(schema).next_schema for schema in _TAKEN}
        if meant in taken or meant.startswith("pg_"):
            message = f"schema {self.schema} has another purpose; choose another name"
            raise PermanentWarehouseError(message)
        if not meant or "\0" in self.schema or len(self.schema.encode()) > NAME_BYTES:
            message = f"{self.schema!r} cannot be the name of a schema; choose one of 1 to {NAME_BYTES} bytes"
            raise PermanentWarehouseError(message)

    def _require_no_strangers(self, connection: Connection) -> None:
        found = connection.execute(
            """
            SELECT n.nspname
            FROM pg_namespace AS n
            WHERE obj_description(n.oid, 'pg_namespace') IS DISTINCT FROM %s
            AND (
                n.nspname = %s AND EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid)
                -- What is in it would be dropped.
                OR n.nspname = %s
            )
            """,
            [_MARK, self.schema, self.next_schema],
        ).fetchone()
        if found is not None:
            message = (
                f"schema {found[0]} is there and was not made by an earlier load into {self.schema}; "
                "choose another name, or drop the schema if nobody needs it"
            )
            raise PermanentWarehouseError(message)
