"""What the database says about its own content: which snapshot it was loaded from, what was built."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from psycopg.rows import class_row

from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.postgres.meta import has_notes, take_over
from ctg_assets.postgres.ownership import owned_relations

LOAD_INFO = TableShape(
    name="load_info",
    description="One row: the snapshot that the staging tables were loaded from.",
    columns=(
        Column("snapshot_id", ColumnType.TEXT, "Snapshot of the last load.", nullable=False),
        Column(
            "content_fingerprint",
            ColumnType.TEXT,
            "Digest of the ids and contents of the snapshot's studies.",
            nullable=False,
        ),
        Column(
            "model_fingerprint",
            ColumnType.TEXT,
            "Digest of the data model by which the tables were made.",
            nullable=False,
        ),
        Column(
            "data_timestamp",
            ColumnType.TIMESTAMP,
            "When the registry last published data that this content agrees with (UTC).",
        ),
        Column("studies", ColumnType.BIGINT, "Studies in the snapshot.", nullable=False),
        Column(
            "every_table",
            ColumnType.BOOLEAN,
            "Whether all staging tables come from this content and model; false after a subset of "
            "them was loaded from newer ones.",
            nullable=False,
        ),
        Column("loaded_at", ColumnType.TIMESTAMP, "When the load ended (UTC).", nullable=False),
        Column(
            "load_number",
            ColumnType.BIGINT,
            "Number of the last load of staging in ctg_meta.loads; NULL in other schemas.",
        ),
    ),
    primary_key=("snapshot_id",),
)


_REWRITTEN = "(rewritten)"
"""The stage of tables whose rows were written anew since they were built, otherwise than by a build."""


@dataclass(frozen=True)
class BuildRecord:
    """What a load is made from; `data_timestamp` (aware) is the registry's.

    `tables` maps every table of the data model, loaded now or not, to what its rows depend on, as one
    text that changes when they may. By it a later load knows which tables it can leave alone.
    """

    snapshot_id: str
    content_fingerprint: str
    model_fingerprint: str
    data_timestamp: datetime | None
    studies: int
    tables: Mapping[str, str]


@dataclass(frozen=True)
class LoadInfo:
    """The row of `staging.load_info`; without a number if a release before loads had any made it."""

    snapshot_id: str
    content_fingerprint: str
    model_fingerprint: str
    data_timestamp: datetime | None
    studies: int
    every_table: bool
    loaded_at: datetime
    load_number: int | None = None


@dataclass(frozen=True)
class Build:
    """What a table or model of a stage (`staging`, `marts`, ...) was last built from, and when."""

    stage: str
    name: str
    fingerprint: str
    rows: int | None
    built_at: datetime


@dataclass(frozen=True)
class StandingMarts:
    """Marts that all stand for the snapshot that is loaded: which that is, and by name what each is made from."""

    snapshot_id: str
    data_timestamp: str
    made_from: Mapping[str, str]

    def __str__(self) -> str:
        """Which they are, for people."""
        return f"data version {self.data_timestamp}, snapshot {self.snapshot_id}"


def write_builds(
    connection: Connection, stage: str, made: Iterable[tuple[str, str, int | None]]
) -> None:
    """Record, in the caller's transaction, that tables or models of a stage were built just now.

    Of each: name, what it was built from (its fingerprint), and rows.
    """
    with connection.cursor() as cursor:
        cursor.executemany(
            connection.schemas.sql(
                """
                INSERT INTO {meta}.builds (stage, name, fingerprint, rows) VALUES (%s, %s, %s, %s)
                ON CONFLICT (stage, name) DO UPDATE
                SET fingerprint = excluded.fingerprint, rows = excluded.rows,
                    built_at = excluded.built_at
                """
            ),
            [(stage, *facts) for facts in made],
        )


def note_rewritten(connection: Connection, names: Iterable[str]) -> None:
    """Note, in the transaction that does it, that rows of these marts are written otherwise than by a build."""
    write_builds(connection, _REWRITTEN, [(name, uuid.uuid4().hex, None) for name in names])


def rewritten(address: PostgresAddress) -> dict[str, str]:
    """By mart whose rows were ever written otherwise than by a build, a text that is another each time."""
    return {build.name: build.fingerprint for build in builds(address, _REWRITTEN)}


def read_builds(connection: Connection, stage: str) -> dict[str, Build]:
    """The last build of everything in a stage, by name, as the caller's transaction sees it."""
    with connection.cursor(row_factory=class_row(Build)) as cursor:
        found = cursor.execute(
            connection.schemas.sql(
                "SELECT stage, name, fingerprint, rows, built_at FROM {meta}.builds "
                "WHERE stage = %s ORDER BY name"
            ),
            [stage],
        ).fetchall()
    return {build.name: build for build in found}


def remove_builds(connection: Connection, stage: str, names: Collection[str]) -> None:
    """Note, in the caller's transaction, that these tables or models of a stage are there no more."""
    connection.execute(
        connection.schemas.sql("DELETE FROM {meta}.builds WHERE stage = %s AND name = ANY(%s)"),
        [stage, sorted(names)],
    )


def keep_builds(connection: Connection, stage: str, names: Collection[str]) -> None:
    """Note, in the caller's transaction, that of a stage only these tables or models are still there."""
    connection.execute(
        connection.schemas.sql("DELETE FROM {meta}.builds WHERE stage = %s AND name <> ALL(%s)"),
        [stage, sorted(names)],
    )


def forget_builds(connection: Connection) -> None:
    """Note, in the caller's transaction, that neither staging nor what is made of it holds anything any more."""
    schemas = connection.schemas
    connection.execute(
        schemas.sql(
            """
            UPDATE {meta}.builds SET fingerprint = '', rows = 0, built_at = now()
            WHERE stage IN (%s, %s, %s)
            """
        ),
        [schemas.staging, schemas.ctgov, schemas.marts],
    )


def last_build(address: PostgresAddress, stage: str, name: str) -> Build | None:
    """The last build of `name`, or None if it was never built here."""
    return next((build for build in builds(address, stage) if build.name == name), None)


def builds(address: PostgresAddress, stage: str) -> list[Build]:
    """The last build of everything in a stage, by name."""
    with connect(address) as connection, postgres_errors(f"reading the builds of {stage}"):
        if not has_notes(connection, "builds"):
            return []
        return [*read_builds(connection, stage).values()]


def tables_there(connection: Connection, schema: str) -> dict[str, str]:
    """What each of our tables of a schema was last built from, by name; tables dropped since are left out."""
    own = owned_relations(connection, schema)
    return {
        name: build.fingerprint
        for name, build in read_builds(connection, schema).items()
        if name in own
    }


def builds_digest(address: PostgresAddress) -> str | None:
    """One short text, another one whenever anything is noted of a load or a build; None before there is a note."""
    with connect(address) as connection, postgres_errors("reading the notes of builds"):
        if not _has_load_info(connection):
            return None
        row = connection.execute(
            address.schemas.sql(
                """
                SELECT md5(concat_ws(
                    E'\n',
                    (SELECT string_agg(info::text, '') FROM {staging}.load_info AS info),
                    (SELECT string_agg(concat_ws(' ', stage, name, fingerprint), E'\n' ORDER BY stage, name)
                        FROM {meta}.builds)
                ))
                """
            )
        ).fetchone()
    return None if row is None else row[0]


def staging_builds(address: PostgresAddress) -> dict[str, str]:
    """What each staging table that is there was last built from, by name."""
    with connect(address) as connection, postgres_errors("reading the builds of staging"):
        if not has_notes(connection, "builds"):
            return {}
        take_over(connection)
        return tables_there(connection, address.schemas.staging)


def load_info(address: PostgresAddress) -> LoadInfo | None:
    """The snapshot that the staging tables come from, or None if nothing is loaded."""
    with connect(address) as connection, postgres_errors("reading staging.load_info"):
        if not _has_load_info(connection):
            return None
        with connection.cursor(row_factory=class_row(LoadInfo)) as cursor:
            return cursor.execute(
                address.schemas.sql("SELECT * FROM {staging}.load_info")
            ).fetchone()


def _has_load_info(connection: Connection) -> bool:
    """Whether the table of what is loaded is there, and ours."""
    if not has_notes(connection, "builds"):
        return False
    take_over(connection)
    return LOAD_INFO.name in owned_relations(connection, connection.schemas.staging)


def load_info_row(build: BuildRecord, *, every_table: bool, number: int | None) -> pa.Table:
    """The row of `load_info` after a load that ends now."""
    row = {
        "snapshot_id": build.snapshot_id,
        "content_fingerprint": build.content_fingerprint,
        "model_fingerprint": build.model_fingerprint,
        "data_timestamp": build.data_timestamp,
        "studies": build.studies,
        "every_table": every_table,
        "loaded_at": datetime.now(UTC),
        "load_number": number,
    }
    return pa.Table.from_pylist([row], schema=LOAD_INFO.arrow_schema)


def update_load_info(
    address: PostgresAddress, *, snapshot_id: str, data_timestamp: datetime
) -> None:
    """Say that a newer snapshot has the same content, so that nothing had to be loaded.

    Raises PermanentWarehouseError when nothing is loaded yet.
    """
    updated = 0
    with connect(address) as connection, postgres_errors("updating staging.load_info"):
        if _has_load_info(connection):
            updated = connection.execute(
                address.schemas.sql(
                    "UPDATE {staging}.load_info SET snapshot_id = %s, data_timestamp = %s"
                ),
                [snapshot_id, data_timestamp.astimezone(UTC)],
            ).rowcount
    if updated == 0:
        message = f"nothing is loaded in schema {address.schemas.staging} yet; load the staging tables first"
        raise PermanentWarehouseError(message)
