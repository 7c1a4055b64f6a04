"""What a load is asked to do, and what it tells: on its way, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ctg_assets.model.spec import TableShape
from ctg_assets.postgres.builds import BuildRecord
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.target import Target


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is: `phase` is copy (counted in rows), index (tables), check (keys) or swap.

    Of a delta: compare (new rows), replace (rows inserted) or commit.
    """

    phase: str
    done: int
    total: int | None = None

    def __str__(self) -> str:
        """How far it is, for people."""
        of_total = "" if self.total is None else f" of {self.total:,}"
        return f"{self.phase}: {self.done:,}{of_total}"


@dataclass(frozen=True)
class LoadReport:
    """What a load did: rows per table now, seconds per phase, bytes sent, fate of dependent views.

    Of a delta also how many rows of each table it deleted and inserted.
    """

    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    copied_bytes: int
    recreated_views: tuple[str, ...] = ()
    left_out_views: tuple[str, ...] = ()
    deleted_rows: Mapping[str, int] = field(default_factory=dict)
    inserted_rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadRequest:
    """Which tables of which schema are to be loaded, and what is noted of it.

    `build.tables` names every table of the model, `tables` those to be loaded. `schema` is staging
    unless told. Views of ours in `rebuildable_schemas` may be left out where they no longer fit, since
    something builds them after the load. Others who use the tables are waited for `patience_seconds`
    (None: as long as is usual for the kind of load). A whole load copies over so many `connections`.
    """

    address: PostgresAddress
    tables: Sequence[TableShape]
    build: BuildRecord
    schema: str | None = None
    rebuildable_schemas: Collection[str] = ()
    progress: Callable[[LoadProgress], None] | None = None
    patience_seconds: float | None = None
    connections: int = 2

    @property
    def target(self) -> Target:
        """The schema that the tables are in, with those beside it."""
        schemas = self.address.schemas
        return Target(schemas.staging if self.schema is None else self.schema, schemas)

    def tell(self, progress: LoadProgress) -> None:
        """Say how far the load is, if anybody wants to know."""
        if self.progress is not None:
            self.progress(progress)


@dataclass(frozen=True)
class ChangesSince:
    """What a delta replaces: the rows of `studies` (NCT ids) that changed since a snapshot, the base.

    Tables in `appended` are not by study: of them, the rows whose first key column is the number given
    or higher are replaced, so that repeating a delta adds nothing twice. Of tables in `compared`, whose
    primary key has one column, batches bring the old rows as well, the old and new ones of a study in
    the same batch; only rows that differ are written.
    """

    base_snapshot_id: str
    studies: Collection[str]
    appended: Mapping[str, int] = field(default_factory=dict)
    compared: Collection[str] = ()
