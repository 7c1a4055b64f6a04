"""Files of tables: writing those that changed, keeping those that did not, reading those of the release before."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.model.spec import TableShape
from ctg_assets.release.edits import Edits
from ctg_assets.release.leaves import Block, Integers, LeafSize, divide, leaf_numbers
from ctg_assets.release.manifest import (
    TABLES,
    DamagedReleaseError,
    ReleasedColumn,
    ReleasedTable,
    TableFile,
    TableReference,
)
from ctg_assets.release.publishing import Publisher
from ctg_assets.release.spool import Spool
from ctg_assets.storage.files import Storage

# Enough that readers skip well by their bounds, and few enough that footers stay small.
_GROUP_WEIGHT = 64 << 20
_MOST_GROUP_ROWS = 131_072
_FEWEST_GROUP_ROWS = 4_096

_COMPRESSION_LEVEL = 3
_COPY_BYTES = 4 << 20
# Of the digest in a file's name; the manifest has all of it.
_DIGITS = 16


@dataclass(frozen=True)
class ReleasedColumnShape:
    """A column of a table to be released."""

    name: str
    type: pa.DataType
    nullable: bool
    description: str


@dataclass(frozen=True)
class ReleasedShape:
    """A table to be released: where it goes, how it looks, and by which columns its rows are sorted."""

    schema: str
    name: str
    description: str
    columns: tuple[ReleasedColumnShape, ...]
    key: tuple[str, ...]
    sorted_by: tuple[str, ...]
    references: tuple[TableReference, ...] = ()

    @property
    def qualified(self) -> str:
        """Its name with that of its schema."""
        return f"{self.schema}.{self.name}"

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of its files."""
        return pa.schema([pa.field(each.name, each.type, each.nullable) for each in self.columns])

    def released(
        self, made_from: str, files: Iterable[TableFile], columns: Iterable[ReleasedColumn] = ()
    ) -> ReleasedTable:
        """What the manifest says of it."""
        files = list(files)
        return ReleasedTable(
            schema=self.schema,
            name=self.name,
            made_from=made_from,
            columns=list(columns)
            or [
                ReleasedColumn(name=each.name, type=str(each.type), nullable=each.nullable)
                for each in self.columns
            ],
            key=list(self.key),
            sorted_by=list(self.sorted_by),
            references=list(self.references),
            rows=sum(file.rows for file in files),
            files=files,
        )


def shape_of(schema: str, table: TableShape, keys: Mapping[str, tuple[str, ...]]) -> ReleasedShape:
    """A declared table as it is released; `keys` has the primary keys of the tables that it refers to."""
    return ReleasedShape(
        schema=schema,
        name=table.name,
        description=table.description,
        columns=tuple(
            ReleasedColumnShape(each.name, each.type.arrow, each.nullable, each.description)
            for each in table.columns
        ),
        key=table.primary_key,
        sorted_by=table.primary_key,
        references=tuple(
            TableReference(
                columns=list(each.columns),
                table=f"{schema}.{each.table}",
                to=list(keys[each.table][: len(each.columns)]),
            )
            for each in table.foreign_keys
        ),
    )


class ReleasedRows:
    """The rows of a table in a release, read by leaf; each file is checked before any row of it counts."""

    def __init__(self, storage: Storage, table: ReleasedTable) -> None:
        """Read from `storage`."""
        self._storage = storage
        self._table = table
        self._checked: set[str] = set()

    def rows(self, leaves: Sequence[int]) -> Iterator[tuple[pa.Table, Integers]]:
        """The rows of some leaves, given in their order, some rows at a time, with the leaf of each.

        Raises DamagedReleaseError for a file that is not as the manifest says, StorageError for one that cannot be read.
        """
        first, end = leaves[0], leaves[-1] + 1
        for file in self._table.files:
            if file.first < end and file.end > first:
                self._check(file)
                with self._storage.open_input(file.path) as stream:
                    for rows in _row_groups_of(stream):
                        numbers = leaf_numbers(rows, self._table.sorted_by[0])
                        wanted = np.isin(numbers, leaves)
                        if wanted.all():
                            yield rows, numbers
                        elif wanted.any():
                            yield rows.filter(pa.array(wanted)), numbers[wanted]

    def _check(self, file: TableFile) -> None:
        if file.path not in self._checked:
            if digest_of(self._storage, file.path) != file.sha256:
                message = (
                    f"{self._storage.path(file.path)} is not what the manifest of its release says"
                )
                raise DamagedReleaseError(message)
            self._checked.add(file.path)


def digest_of(storage: Storage, relative: str) -> str:
    """The SHA-256 of a file; raises StorageError when it cannot be read."""
    digest = hashlib.sha256()
    with storage.open_input(relative) as stream:
        while block := stream.read(_COPY_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _row_groups_of(stream: Any) -> Iterator[pa.Table]:
    parquet = pq.ParquetFile(stream)
    for group in range(parquet.num_row_groups):
        yield parquet.read_row_group(group)


@dataclass(frozen=True)
class TableWriter:
    """Writes what is new of tables to where releases are kept; `there` are the paths of files that are there.

    Files are in place when the block of its `publisher` has ended.
    """

    storage: Storage
    publisher: Publisher
    scratch: Path
    there: set[str]
    most_weight: int

    def write(
        self,
        shape: ReleasedShape,
        spool: Spool,
        previous: ReleasedTable | None,
        kept: Mapping[int, LeafSize],
        edits: Edits | None = None,
    ) -> tuple[list[TableFile], dict[int, LeafSize]]:
        """The files of a table, and the sizes of its leaves.

        `spool` has the rows of leaves that are new, `previous` those of the leaves `kept`; with `edits`, those of all
        leaves but for what they say.
        """
        sizes = {**kept, **spool.sizes} if edits is None else edits.sizes
        edited = frozenset[int]() if edits is None else edits.leaves
        held = {} if previous is None else {(file.first, file.end): file for file in previous.files}
        released = None if previous is None else ReleasedRows(self.storage, previous)
        files = []
        for block in divide(sizes, self.most_weight):
            leaves = [leaf for leaf in sorted(sizes) if block.first <= leaf < block.end]
            same = held.get((block.first, block.end))
            if (
                same is not None
                and same.rows == block.rows
                and same.path in self.there
                and all(leaf in kept and leaf not in edited for leaf in leaves)
                and not any(block.first <= leaf < block.end for leaf in edited)
            ):
                files.append(same)
                continue
            if edits is None:
                rows = _in_order(leaves, spool, released, kept)
            else:
                rows = _edited(block, edits, released, kept)
            files.append(self._write_block(shape, block, rows))
        return files, sizes

    def _write_block(
        self, shape: ReleasedShape, block: Block, rows: Iterable[pa.Table]
    ) -> TableFile:
        path = self.scratch / f"{shape.qualified}-{block.first}.parquet"
        schema = shape.arrow_schema
        mean = block.weight // max(1, block.rows) + 1
        size = max(_FEWEST_GROUP_ROWS, min(_MOST_GROUP_ROWS, _GROUP_WEIGHT // mean))
        # Ids and counters: most are new in every row, and near the one before.
        numbers = [field.name for field in schema if pa.types.is_int64(field.type)]
        with pq.ParquetWriter(
            str(path),
            schema,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
            use_dictionary=[name for name in schema.names if name not in numbers],
            write_page_index=True,
            sorting_columns=pq.SortingColumn.from_ordering(
                schema, [(name, "ascending") for name in shape.sorted_by], null_placement="at_end"
            ),
        ) as writer:
            written = 0
            for group in _row_groups(rows, schema, size):
                written += group.num_rows
                # In one piece: where pages end depends on where pieces do.
                writer.write_table(group.combine_chunks(), row_group_size=size)
        if written != block.rows:
            message = f"of {shape.qualified} {written} rows were found, not {block.rows}"
            raise DamagedReleaseError(message)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        name = f"{block.named(shape.sorted_by[0])}-{sha256[:_DIGITS]}.parquet"
        file = TableFile(
            path=f"{TABLES}/{shape.schema}/{shape.name}/{name}",
            bytes=path.stat().st_size,
            sha256=sha256,
            rows=block.rows,
            first=block.first,
            end=block.end,
        )
        self.publisher.take(path, file.path)
        return file


def _in_order(
    leaves: Sequence[int], spool: Spool, previous: ReleasedRows | None, kept: Collection[int]
) -> Iterator[pa.Table]:
    """The rows of some leaves, of which some are kept; what is there of those is read once."""
    new = deque(leaf for leaf in leaves if leaf not in kept)
    old = [leaf for leaf in leaves if leaf in kept]
    if previous is not None and old:
        for rows, numbers in previous.rows(old):
            done = 0
            while new and new[0] < numbers[-1]:
                end = int(np.searchsorted(numbers, new[0]))
                yield rows.slice(done, end - done)
                yield from spool.rows(new.popleft())
                done = end
            yield rows.slice(done)
    for leaf in new:
        yield from spool.rows(leaf)


def _edited(
    block: Block, edits: Edits, previous: ReleasedRows | None, kept: Mapping[int, LeafSize]
) -> Iterator[pa.Table]:
    """The rows of some leaves as they were, but for what is edited in them."""
    old = [leaf for leaf in sorted(kept) if block.first <= leaf < block.end]
    coming = [leaf for leaf in sorted(edits.spool.sizes) if block.first <= leaf < block.end]
    new = [edits.spool.empty, *(rows for leaf in coming for rows in edits.spool.rows(leaf))]
    stay = (rows for rows, _ in previous.rows(old)) if previous is not None and old else iter(())
    yield from edits.applied(stay, pa.concat_tables(new))


def _row_groups(tables: Iterable[pa.Table], schema: pa.Schema, size: int) -> Iterator[pa.Table]:
    """Rows in groups of so many, wherever the tables given end."""
    waiting = schema.empty_table()
    for table in tables:
        # Casting to the same costs as much as a copy where there are many pieces.
        alike = table if table.schema.equals(schema) else table.cast(schema)
        waiting = pa.concat_tables([waiting, alike])
        while waiting.num_rows >= size:
            yield waiting.slice(0, size)
            waiting = waiting.slice(size)
    if waiting.num_rows:
        yield waiting
