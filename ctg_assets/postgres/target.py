"""The schemas that loads fill: staging, and others that hold the tables as they once were."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from psycopg import sql

from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.ddl import NAME_BYTES, object_name
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.postgres.ownership import (
    AS_OF,
    NEXT,
    claim_schema,
    owns_schema,
    require_no_strangers,
    require_own_relations,
)
from ctg_assets.postgres.schemas import Schemas

# Postgres' own, or everybody's.
_TAKEN = frozenset({"public", "information_schema"})


@dataclass(frozen=True)
class Target:
    """A schema whose tables are replaced by newer ones, and all that is named after it."""

    schema: str
    schemas: Schemas = field(default_factory=Schemas)

    @property
    def next_schema(self) -> str:
        """Where the new tables are prepared."""
        return object_name(self.schema, "next")

    @property
    def lock_name(self) -> str:
        """What loads into this schema lock, so that there is one at a time."""
        return "ctg_assets load" if self.is_staging else f"ctg_assets load into {self.schema}"

    @property
    def is_ctgov(self) -> bool:
        """Whether it is AACT's, with today's data."""
        return self.schema == self.schemas.ctgov

    @property
    def is_staging(self) -> bool:
        """Whether marts are built from it."""
        return self.schema == self.schemas.staging

    @property
    def _purpose(self) -> str:
        if self.is_staging:
            return "staging"
        return "ctgov" if self.is_ctgov else AS_OF

    def claim(self, connection: Connection, tables: Collection[str]) -> None:
        """Make the schema unless it is there and ours, and make sure that `tables` in it may be replaced.

        Raises PermanentWarehouseError when its name has another purpose, and ForeignObjectError when
        it, one of the tables, or a schema that is needed later, is somebody else's.
        """
        if self._purpose == AS_OF:
            self.require_free_name()
        with connection.transaction():
            # Before hours of work, not after.
            later = list(self.schemas.of_refresh()) if self.is_staging else []
            require_no_strangers(connection, [*later, (NEXT, self.next_schema)])
            claim_schema(connection, self.schema, self._purpose)
            require_own_relations(connection, self.schema, tables)

    def create_next(self, connection: Connection) -> None:
        """Make the schema in which new tables are prepared."""
        with connection.transaction():
            claim_schema(connection, self.next_schema, NEXT)

    def drop_next(self, connection: Connection) -> None:
        """Drop that schema, with all that a load which died has left in it.

        Foreign keys that it has put on tables that stay go as well.
        """
        if owns_schema(connection, self.next_schema, NEXT):
            name = sql.Identifier(self.next_schema)
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))

    def require_free_name(self) -> None:
        """Raise PermanentWarehouseError when the name has a purpose of its own, or cannot be a name.

        Names that differ from a taken one in case, spaces or quotes only are refused as well: whoever
        writes such a name means the taken one, or will be taken to.
        """
        meant = self.schema.strip("\"'` \t\n").casefold()
        taken = _TAKEN | {schema for _, schema in self.schemas.by_purpose()}
        taken |= {Target(schema).next_schema for schema in taken}
        if meant in taken or meant.startswith("pg_"):
            message = f"schema {self.schema} has another purpose; choose another name"
            raise PermanentWarehouseError(message)
        if not meant or "\0" in self.schema or len(self.schema.encode()) > NAME_BYTES:
            message = f"{self.schema!r} cannot be the name of a schema; choose one of 1 to {NAME_BYTES} bytes"
            raise PermanentWarehouseError(message)
