"""The tables that are in Postgres alone, marts, AACT's and WHO's, in a release: read as Arrow, all of one moment."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql

from ctg_assets.postgres.arrow_tables import ArrowTable, TablesMoment, one_moment
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import ServerUnavailableError
from ctg_assets.postgres.ownership import owned_relations
from ctg_assets.release.manifest import ReleasedTable, TableReference
from ctg_assets.release.spool import Spool
from ctg_assets.release.staging_tables import Made, ReleaseBefore
from ctg_assets.release.table_files import ReleasedColumnShape, ReleasedShape, TableWriter
from ctg_assets.snapshot.store import SnapshotManifest

MARTS, CTGOV, WHO = "marts", "ctgov", "who"

_STUDY = "nct_id"
_WHO_INDICATORS, _WHO_RELEASES = "indicators", "releases"


@dataclass(frozen=True)
class WarehouseContent:
    """What the tables in the database are made from: a text for each mart, and one for all of AACT's (None: none)."""

    marts: Mapping[str, str]
    ctgov: str | None


@dataclass(frozen=True)
class ReleasedWarehouse:
    """A database whose marts and AACT's tables are released.

    `content` says what they are made from if they stand for a snapshot, and raises if they do not.
    """

    address: PostgresAddress
    content: Callable[[SnapshotManifest], WarehouseContent]


def make_warehouse_tables(
    warehouse: ReleasedWarehouse,
    manifest: SnapshotManifest,
    writer: TableWriter,
    before: ReleaseBefore,
    show: Callable[[str], None],
) -> Made:
    """Put the files of marts and AACT's tables in place; one that is made from the same keeps its files.

    Rows are read in the order of the study and the key, some at a time. Raises what `warehouse.content` raises, and
    WarehouseErrors.
    """
    made = Made()
    held = {} if before.manifest is None else {t.qualified: t for t in before.manifest.tables}
    content = warehouse.content(manifest)
    with one_moment(warehouse.address, application_name="ctg_assets release") as moment:
        shapes = [*_shapes(moment, content)]
        moment.hold([table for _, table, _ in shapes])
        # What was so before and after the moment was so at it.
        if warehouse.content(manifest) != content:
            message = "the tables were replaced just now; release again"
            raise ServerUnavailableError(message)
        for shape, table, made_from in shapes:
            old, sizes = held.get(shape.qualified), before.leaves.get(shape.qualified)
            if (
                _is_as_before(old, made_from, shape, writer)
                and old is not None
                and sizes is not None
            ):
                made.add(shape, old, sizes)
                continue
            show(f"reading {shape.qualified}")
            folder = writer.scratch / "rows" / shape.qualified
            spool = Spool(folder, shape.arrow_schema, shape.sorted_by, is_sorted=True)
            for rows in moment.rows(table, shape.sorted_by):
                spool.add(rows)
            files, leaves = writer.write(shape, spool, None, {})
            made.add(shape, shape.released(made_from, files), leaves)
            shutil.rmtree(folder)
    return made


def _is_as_before(
    old: ReleasedTable | None, made_from: str, shape: ReleasedShape, writer: TableWriter
) -> bool:
    return (
        old is not None
        and old == shape.released(made_from, old.files)
        and all(file.path in writer.there for file in old.files)
    )


_Shape = tuple[ReleasedShape, ArrowTable, str]


def _shapes(moment: TablesMoment, content: WarehouseContent) -> Iterator[_Shape]:
    """The tables as they are released and as they lie in the database, and what they are made from."""
    schemas = moment.connection.schemas
    yield from _shapes_of(moment, MARTS, schemas.marts, content.marts)
    if content.ctgov is not None and schemas.ctgov is not None:
        own = dict.fromkeys(owned_relations(moment.connection, schemas.ctgov), content.ctgov)
        yield from _shapes_of(moment, CTGOV, schemas.ctgov, own)
    yield from _shapes_of(moment, WHO, schemas.who, _who(moment))


def _who(moment: TablesMoment) -> Mapping[str, str]:
    """WHO's tables, if somebody asked for its numbers, and a digest of the releases of indicators that they hold.

    No snapshot says what they hold: `who refresh` changes them at any time.
    """
    names = owned_relations(moment.connection, moment.connection.schemas.who)
    if not {_WHO_INDICATORS, _WHO_RELEASES} <= names.keys():
        return {}
    digest = hashlib.sha256()
    for table in (_WHO_INDICATORS, _WHO_RELEASES):
        statement = sql.SQL("SELECT t::text FROM {} AS t ORDER BY t.indicator, t::text").format(
            sql.Identifier(moment.connection.schemas.who, table)
        )
        for (row,) in moment.connection.execute(statement):
            digest.update(f"{table} {row}\n".encode())
    return dict.fromkeys(names, digest.hexdigest())


def _shapes_of(
    moment: TablesMoment, purpose: str, schema: str, made_from: Mapping[str, str]
) -> Iterator[_Shape]:
    for table in moment.tables(schema, made_from):
        first = (_STUDY,) if moment.is_by_study(table) else ()
        others = table.key or [
            each.name for each in table.columns if not pa.types.is_list(each.type)
        ]
        references = [
            TableReference(columns=[*each.columns], table=f"{purpose}.{each.table}", to=[*each.to])
            for each in table.references
        ]
        shape = ReleasedShape(
            schema=purpose,
            name=table.name,
            description=table.description,
            columns=tuple(
                ReleasedColumnShape(each.name, each.type, each.nullable, each.description)
                for each in table.columns
            ),
            key=table.key,
            sorted_by=(*first, *(name for name in others if name not in first)),
            references=tuple(references),
        )
        yield shape, table, made_from[table.name]
